"""Runs the command line again and again in forked children, each struck at another call.

Usage: driver.py LIBRARY FOLDER; reads lines of JSON, {"arguments", "kind", "at"}, and answers each
with {"code", "calls"}: a negative code is a signal, ``calls`` what the child made when it ended.
"""

import contextlib
import ctypes
import json
import os
import sys

import nczip.jobs
from nczip.cli import main


def child(library, arguments, kind, at, pipe):
    sys.argv = ["nczip", *arguments]
    library.arm(at, kind)
    code = 0
    try:
        main()
    except SystemExit as left:
        code = left.code or 0
    calls = library.counted()
    library.arm(-1, kind)
    os.write(pipe, str(calls).encode())
    os._exit(code)


def serve(library):
    nczip.decompress(nczip.compress(os.urandom(5000), "fast", primer=False))  # kernels are loaded
    for line in sys.stdin:
        job = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            with contextlib.suppress(BaseException):
                child(library, job["arguments"], job["kind"], job["at"], writing)
            os._exit(99)
        os.close(writing)
        calls = os.read(reading, 100)
        os.close(reading)
        _, status = os.waitpid(pid, 0)
        answer = {"code": os.waitstatus_to_exitcode(status), "calls": int(calls or 0)}
        print(json.dumps(answer), flush=True)


os.chdir(sys.argv[2])
_library = ctypes.CDLL(sys.argv[1])
_library.arm.argtypes = (ctypes.c_long, ctypes.c_int)
serve(_library)
