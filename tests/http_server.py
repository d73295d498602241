"""A local HTTP server that serves what a test puts there, and misbehaves when asked to."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PIECE = 1 << 20


class Server:
    """Serves ``files`` with ranges, and remembers what was asked.

    Attributes:
        files: bytes by path.
        headers: what a path's answer says beside the usual, by path.
        cuts: so many answers end in their middle.
        ranges: whether ranges are served.
        pause: seconds after each MiB.
        requests: path and range of each GET.
        sent: bytes so far.
    """

    def __init__(self):
        self.files, self.headers, self.requests = {}, {}, []
        self.cuts, self.ranges, self.pause, self.sent = 0, True, 0.0, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self._begin(0)

            def do_GET(self):
                wanted = self.headers.get("Range")
                outer.requests.append((self.path, wanted))
                start = int(wanted[6:].rstrip("-")) if wanted and outer.ranges else 0
                body = self._begin(start)
                if outer.cuts:
                    outer.cuts -= 1
                    body = body[: len(body) // 2]
                with contextlib.suppress(ConnectionError):
                    for at in range(0, len(body), _PIECE):
                        self.wfile.write(body[at : at + _PIECE])
                        outer.sent += _PIECE
                        time.sleep(outer.pause)

            def _begin(self, start):
                """Answer with what stands before the body, and return that."""
                data = outer.files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return b""
                self.send_response(206 if start else 200)
                length = {"Content-Length": str(len(data) - start)}
                for name, value in (length | outer.headers.get(self.path, {})).items():
                    self.send_header(name, value)
                self.end_headers()
                return data[start:]

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self):
        self._http.shutdown()
        self._http.server_close()
