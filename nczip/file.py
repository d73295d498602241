"""Files: ``open``, ``NczipFile``, and compression in one call, in the shape of :mod:`lzma`."""

import io
import os
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, Literal, Protocol, Unpack, cast, overload

from nczip.buffers import Buffer, byte_view
from nczip.coder.errors import FormatError
from nczip.options import CompressKeywords, DecompressKeywords
from nczip.presets import PresetName
from nczip.stream import Compressor, Decompressor, is_stream_start

_READ_SIZE = 1 << 16
_PIECE_SIZE = 1 << 20

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""
        ...


def compress(
    data: Buffer,
    preset: PresetName = "default",
    **options: Unpack[CompressKeywords],
) -> bytes:
    """``data`` as one member; options as for :class:`Compressor`."""
    compressor = Compressor(preset, **options)
    return compressor.compress(data) + compressor.flush()


def decompress(data: Buffer, **options: Unpack[DecompressKeywords]) -> bytes:
    """The raw bytes of one or more concatenated members; options as for :class:`Decompressor`.

    Raises:
        TruncatedError: the data ends early; otherwise as :meth:`Decompressor.decompress`.
    """
    return b"".join(decompress_chunks(io.BytesIO(byte_view(data)), **options))


def decompress_chunks(file: _Readable, **options: Unpack[DecompressKeywords]) -> Iterator[bytes]:
    """The raw bytes of all members of ``file``, block by block, each verified.

    Raises:
        FormatError: there is no member, or something else behind one.
    """
    data = file.read(_READ_SIZE)
    if not data:
        raise FormatError("the input is empty: not an nczip stream")
    limit = options.get("max_output")
    while data:
        decoder = Decompressor(**options)
        while not decoder.eof:
            # In pieces: of all that a few bytes may stand for, little is held at a time.
            raw = decoder.decompress(data, _PIECE_SIZE)
            data = b""
            if raw:
                yield raw
                if limit is not None:
                    limit -= len(raw)
            elif decoder.needs_input:
                data = file.read(_READ_SIZE)
                if not data:
                    decoder.finish()
                    return
        options["max_output"] = limit
        data = _next_member(decoder.unused_data, file)


def _next_member(data: bytes, file: _Readable) -> bytes:
    """The bytes that follow a member, past skippable frames at the file's end; b"" at the end."""
    while len(data) < 8:
        more = file.read(_READ_SIZE)
        if not more:
            break
        data += more
    if data and not is_stream_start(data):
        raise FormatError("the member is followed by something that is not nczip")
    return data


class NczipFile(io.BufferedIOBase):
    """A binary file object over a compressed file, for reading or for writing.

    Args:
        filename: a path, or a file object open in binary mode.
        mode: ``r``, ``w``, ``x`` or ``a`` (with or without ``b``); ``a`` appends a member.
        preset: for writing.
        options: as for :class:`Compressor` or :class:`Decompressor`.
    """

    def __init__(
        self,
        filename: Path | BinaryIO,
        mode: str = "r",
        *,
        preset: PresetName = "default",
        **options: Any,
    ) -> None:
        kind = mode.replace("b", "")
        if kind not in ("r", "w", "x", "a"):
            raise ValueError(f"invalid mode: {mode!r}")
        self._mode = kind
        self._options = options
        self._compressor = Compressor(preset, **options) if kind != "r" else None
        self._owns_file = isinstance(filename, str | bytes | os.PathLike)
        self._file: BinaryIO
        if isinstance(filename, str | bytes | os.PathLike):
            self._file = cast(BinaryIO, io.open(filename, kind + "b"))  # noqa: SIM115
        else:
            self._file = filename
        self._position = 0
        self._chunks = decompress_chunks(self._file, **options) if kind == "r" else iter(())
        self._pending = b""

    def readable(self) -> bool:
        return self._mode == "r"

    def writable(self) -> bool:
        return self._mode != "r"

    def seekable(self) -> bool:
        return self.readable() and self._file.seekable()

    def tell(self) -> int:
        self._check_open()
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """At most ``size`` raw bytes (-1 or None: all)."""
        self._check_reading()
        pieces = []
        wanted = -1 if size is None else size
        while wanted != 0:
            piece = self.read1(wanted)
            if not piece:
                break
            pieces.append(piece)
            if wanted > 0:
                wanted -= len(piece)
        return b"".join(pieces)

    def read1(self, size: int = -1, /) -> bytes:
        """At most ``size`` raw bytes of the current block."""
        self._check_reading()
        if not self._pending:
            self._pending = next(self._chunks, b"")
        piece = self._pending if size < 0 else self._pending[:size]
        self._pending = self._pending[len(piece) :]
        self._position += len(piece)
        return piece

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move the read position; backwards decompresses from the start again."""
        self._check_reading()
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            while self.read1(_READ_SIZE):
                pass
            offset += self._position
        if offset < self._position:
            self._file.seek(0)
            self._chunks = decompress_chunks(self._file, **self._options)
            self._pending, self._position = b"", 0
        while self._position < offset and self.read1(min(_READ_SIZE, offset - self._position)):
            pass
        return self._position

    def write(self, data: Any, /) -> int:
        """Compress ``data``; returns the number of its bytes."""
        self._check_open()
        if self._compressor is None:
            raise io.UnsupportedOperation("the file is open for reading")
        view = memoryview(data).cast("B")
        self._file.write(self._compressor.compress(view))
        self._position += len(view)
        return len(view)

    def close(self) -> None:
        """End the member (when writing) and close the file that was opened here."""
        if self.closed:
            return
        try:
            if self._compressor is not None:
                self._file.write(self._compressor.flush())
                self._compressor = None
        finally:
            try:
                if self._owns_file:
                    self._file.close()
            finally:
                super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _check_reading(self) -> None:
        self._check_open()
        if not self.readable():
            raise io.UnsupportedOperation("the file is open for writing")


@overload
def open(
    filename: Path | BinaryIO, mode: Literal["r", "rb", "w", "wb", "x", "xb", "a", "ab"] = "rb",
    *, encoding: None = None, errors: None = None, newline: None = None, **options: Any,
) -> NczipFile: ...  # fmt: skip
@overload
def open(
    filename: Path | BinaryIO, mode: str = "rb", *, encoding: str | None = None,
    errors: str | None = None, newline: str | None = None, **options: Any,
) -> NczipFile | io.TextIOWrapper: ...  # fmt: skip
def open(
    filename: Path | BinaryIO,
    mode: str = "rb",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    **options: Any,
) -> NczipFile | io.TextIOWrapper:
    """A compressed file as a binary (``rb``, ``wb``) or text (``rt``, ``wt``) file object."""
    if "t" in mode and "b" in mode:
        raise ValueError(f"invalid mode: {mode!r}")
    if "t" not in mode and (encoding, errors, newline) != (None, None, None):
        raise ValueError("encoding, errors and newline are for text modes")
    file = NczipFile(filename, mode.replace("t", ""), **options)
    if "t" in mode:
        return io.TextIOWrapper(cast(IO[bytes], file), encoding, errors, newline)
    return file
