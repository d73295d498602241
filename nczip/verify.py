"""Decoding what has just been compressed, before it is trusted."""

import threading
from collections.abc import Callable
from typing import Any

import xxhash

from nczip.errors import NczipError
from nczip.file import decompress_chunks


class Verifier:
    """Decodes a compressed file on a thread of its own while it is still being written.

    Args:
        read_at: (offset, size) -> at most so many bytes of the file.
        options: as for :class:`Decompressor`.
    """

    def __init__(self, read_at: Callable[[int, int], bytes], **options: Any) -> None:
        self._read_at = read_at
        self._options = options
        self._more = threading.Condition()
        self._written = 0
        self._at = 0
        self._is_complete = False
        self._raw = xxhash.xxh3_128()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._decode, name="nczip verify", daemon=True)
        self._thread.start()

    def advance(self, size: int) -> None:
        """So many more bytes have been written.

        Raises:
            NczipError: what was written before does not decode.
        """
        with self._more:
            self._written += size
            self._more.notify()
        if self._error is not None:
            self._fail()

    def finish(self, raw_digest: bytes) -> None:
        """Wait for the end, and compare what came out with the XXH3-128 of what went in.

        Raises:
            NczipError: they differ.
        """
        self.stop()
        self._thread.join()
        if self._error is not None or self._raw.digest() != raw_digest:
            self._fail()

    def stop(self) -> None:
        """Nothing more will be written."""
        with self._more:
            self._is_complete = True
            self._more.notify()

    def read(self, size: int, /) -> bytes:
        """The next bytes of the file, once they have been written; b"" at its end."""
        with self._more:
            self._more.wait_for(lambda: self._written > self._at or self._is_complete)
            size = min(size, self._written - self._at)
        data = self._read_at(self._at, size) if size else b""
        self._at += len(data)
        return data

    def _decode(self) -> None:
        try:
            for raw in decompress_chunks(self, **self._options):
                self._raw.update(raw)
        except BaseException as error:
            self._error = error

    def _fail(self) -> None:
        reason = f" ({self._error})" if self._error is not None else ""
        raise NczipError(
            f"what was written does not decode to what was read{reason}: the output is not kept, "
            "please report this"
        )
