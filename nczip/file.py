"""Files: ``open``, ``NczipFile``, and compression in one call, in the shape of :mod:`lzma`."""

import io
import os
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, Literal, Protocol, Unpack, cast, overload

from nczip.archive import Archive
from nczip.buffers import Buffer, byte_view
from nczip.coder.errors import FormatError, TruncatedError
from nczip.options import CompressKeywords, DecompressKeywords
from nczip.presets import Level, PresetName
from nczip.sinks import write_all
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
    preset: PresetName | Level = "default",
    **options: Unpack[CompressKeywords],
) -> bytes:
    """``data`` as one member; options as for :class:`Compressor`.

    Examples:
        >>> import nczip
        >>> packed = nczip.compress(b"one line\\n" * 100, "fast")
        >>> len(packed) < 100
        True
    """
    compressor = Compressor(preset, **options)
    return compressor.compress(data) + compressor.flush()


def decompress(data: Buffer, **options: Unpack[DecompressKeywords]) -> bytes:
    """The raw bytes of one or more concatenated members; options as for :class:`Decompressor`.

    Examples:
        >>> import nczip
        >>> two = nczip.compress(b"one, ", "fast") + nczip.compress(b"two", "fast")
        >>> nczip.decompress(two)
        b'one, two'

    Raises:
        TruncatedError: the data ends early; otherwise as :meth:`Decompressor.decompress`.
    """
    return b"".join(decompress_chunks(io.BytesIO(byte_view(data)), **options))


def decompress_chunks(file: _Readable, **options: Unpack[DecompressKeywords]) -> Iterator[bytes]:
    """The raw bytes of all members of ``file``, block by block, each verified.

    Raises:
        FormatError: something else stands behind a member.
        TruncatedError: there is nothing, or not all; otherwise as :meth:`Decompressor.decompress`.
    """
    data = file.read(_READ_SIZE)
    if not data:
        raise TruncatedError("the input is empty: not an nczip stream")
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


class _RawReader(io.RawIOBase):
    """The raw bytes of a compressed file, as a raw file; io.BufferedReader does the rest.

    It reads on from block to block as a stream, which any file serves. A seek goes through the
    indexes to the block that is wanted; where there are none that can be read, backwards means
    from the start again, and forwards reading on.
    """

    def __init__(self, file: BinaryIO, options: dict[str, Any]) -> None:
        super().__init__()
        self._file = file
        self._options = options
        self._archive: Archive | None = None
        self._has_archive = True  # until it turns out that it has none
        self._chunks = decompress_chunks(file, **options)
        self._chunk = memoryview(b"")
        self._position = 0
        self._error: BaseException | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        if not self._chunk:
            self._chunk = memoryview(self._next_chunk())
        size = min(len(buffer), len(self._chunk))
        buffer[:size] = self._chunk[:size]
        self._chunk = self._chunk[size:]
        self._position += size
        return size

    def readall(self) -> bytes:
        pieces = [bytes(self._chunk)]
        self._chunk = memoryview(b"")
        while piece := self._next_chunk():
            pieces.append(piece)
        content = b"".join(pieces)
        self._position += len(content)
        return content

    def _next_chunk(self) -> bytes:
        """The next block, b"" at the end; an error is raised again at every call that follows."""
        if self._error is not None:
            raise self._error
        try:
            return next(self._chunks, b"")
        except BaseException as error:
            self._error = error
            raise

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            offset += self._find_end()
        elif whence != io.SEEK_SET:
            raise ValueError(f"invalid value for whence: {whence}")
        offset = max(offset, 0)
        forwards = offset - self._position
        if 0 <= forwards <= len(self._chunk):
            self._chunk = self._chunk[forwards:]
            self._position = offset
        elif forwards:
            self._go_to(offset)
        return self._position

    def _find_end(self) -> int:
        archive = self._open_archive()
        if archive is not None:
            return archive.raw_size
        self._skip(None)
        return self._position

    def _go_to(self, offset: int) -> None:
        """Have the next chunk start at ``offset``, or at the end where that comes before."""
        archive = self._open_archive()
        self._chunk = memoryview(b"")
        if archive is None:
            if offset < self._position:
                self._start_again()
            self._skip(offset)
            return
        self._error = None
        self._position = min(offset, archive.raw_size)
        self._chunks = archive.read_range(self._position, archive.raw_size)

    def _open_archive(self) -> Archive | None:
        """The file's blocks, once they are needed; None where indexes cannot be read."""
        if self._archive is None and self._has_archive:
            resumed = self._file.tell()
            try:
                self._archive = Archive(self._file, **self._options)
            except FormatError:
                self._has_archive = False
            finally:
                self._file.seek(resumed)  # where reading on as a stream goes on
        return self._archive

    def _start_again(self) -> None:
        self._file.seek(0)
        self._chunks = decompress_chunks(self._file, **self._options)
        self._chunk, self._position, self._error = memoryview(b""), 0, None

    def _skip(self, offset: int | None) -> None:
        """Read on to ``offset``, or to the end."""
        while offset is None or self._position < offset:
            if not self._chunk:
                self._chunk = memoryview(self._next_chunk())
                if not self._chunk:
                    return
            size = len(self._chunk)
            if offset is not None:
                size = min(size, offset - self._position)
            self._chunk = self._chunk[size:]
            self._position += size


class NczipFile(io.BufferedIOBase):
    """A binary file object over a compressed file, for reading or for writing.

    Args:
        filename: a path, or a file object open in binary mode.
        mode: ``r``, ``w``, ``x`` or ``a`` (with or without ``b``); ``a`` appends a member.
        preset: for writing.
        options: as for :class:`Compressor` or :class:`Decompressor`.

    A flush ends the member, so that all that was written can be read, and the next write starts
    another. One of the mode ``FLUSH_BLOCK`` ends only the block: whoever reads the file then gets
    all bytes, and TruncatedError behind them until more comes. What was learnt is lost either way.
    """

    FLUSH_BLOCK, FLUSH_FRAME = Compressor.FLUSH_BLOCK, Compressor.FLUSH_FRAME

    def __init__(
        self,
        filename: Path | BinaryIO,
        mode: str = "r",
        *,
        preset: PresetName | Level = "default",
        **options: Any,
    ) -> None:
        # Set first: close() is called even where this fails.
        self._fp: BinaryIO | None = None
        self._buffer: io.BufferedReader | None = None
        self._compressor: Compressor | None = None
        kind = mode.removesuffix("b") if isinstance(mode, str) else ""
        if kind not in ("r", "w", "x", "a"):
            raise ValueError(f"invalid mode: {mode!r}")
        self._kind = kind
        self._owns_file = isinstance(filename, str | bytes | os.PathLike)
        if kind != "r":
            self._preset, self._options = preset, options
            self._compressor = Compressor(preset, **options)  # errors come before the file is made
            self._is_pending = True  # a file without bytes is a member without blocks
        if isinstance(filename, str | bytes | os.PathLike):
            self._fp = cast(BinaryIO, io.open(filename, kind + "b"))  # noqa: SIM115
        elif hasattr(filename, "read") or hasattr(filename, "write"):
            self._fp = filename
        else:
            raise TypeError("filename must be a str, bytes, file or PathLike object")
        if kind == "r":
            # BufferedReader asks a raw file only for what it has no room for: a block's worth.
            self._buffer = io.BufferedReader(_RawReader(self._fp, options))
        self._position = 0

    @property
    def closed(self) -> bool:
        """Whether the file has been closed."""
        return self._fp is None

    @property
    def name(self) -> Any:
        """The name of the compressed file."""
        return self._open_file().name

    @property
    def mode(self) -> str:
        """``rb`` or ``wb``."""
        return "rb" if self._kind == "r" else "wb"

    def fileno(self) -> int:
        """The descriptor of the compressed file."""
        return self._open_file().fileno()

    def readable(self) -> bool:
        self._open_file()
        return self._buffer is not None

    def writable(self) -> bool:
        self._open_file()
        return self._buffer is None

    def seekable(self) -> bool:
        return self.readable() and self._reading().seekable()

    def tell(self) -> int:
        """The position in the raw bytes."""
        self._open_file()
        return self._position if self._buffer is None else self._buffer.tell()

    def peek(self, size: int = -1) -> bytes:
        """Some bytes from the position on, at least one but at the end; the position stays."""
        return self._reading().peek(size)

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` raw bytes (-1 or None: all)."""
        return self._reading().read(size)

    def read1(self, size: int = -1) -> bytes:
        """At most ``size`` raw bytes (-1: a buffer's worth), without waiting for more of them."""
        return self._reading().read1(size if size >= 0 else io.DEFAULT_BUFFER_SIZE)

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; returns how many bytes there were."""
        return self._reading().readinto(buffer)

    def readinto1(self, buffer: Any) -> int:
        """As readinto(), without waiting for more."""
        return self._reading().readinto1(buffer)

    def readline(self, size: int | None = -1) -> bytes:
        """The next line with its end, at most ``size`` bytes of it."""
        return self._reading().readline(size)

    def __iter__(self) -> "NczipFile":
        self._reading()
        return self

    def __next__(self) -> bytes:
        line = self._reading().readline()
        if not line:
            raise StopIteration
        return line

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the read position; only the block that it falls into is decoded."""
        reader = self._reading()
        if not reader.seekable():
            raise io.UnsupportedOperation("the underlying file does not seek")
        return reader.seek(offset, whence)

    def write(self, data: Any) -> int:
        """Compress ``data``; returns the number of its bytes."""
        file = self._open_file()
        if self._buffer is not None:
            raise io.UnsupportedOperation("the file is open for reading")
        view = memoryview(data).cast("B")
        if self._compressor is None:
            self._compressor = Compressor(self._preset, **self._options)
        write_all(file, self._compressor.compress(view))
        self._is_pending = self._is_pending or len(view) > 0
        self._position += len(view)
        return len(view)

    def flush(self, mode: int = FLUSH_FRAME) -> None:
        """Have everything that was written in the file, and readable."""
        file = self._open_file()
        if mode not in (self.FLUSH_BLOCK, self.FLUSH_FRAME):
            raise ValueError("flush takes FLUSH_BLOCK or FLUSH_FRAME")
        if self._buffer is None:
            if self._position and mode == self.FLUSH_FRAME:
                self._end_member(file)
            elif self._position and self._compressor is not None:
                write_all(file, self._compressor.flush(mode))
            if hasattr(file, "flush"):
                file.flush()

    def _end_member(self, file: BinaryIO) -> None:
        if self._compressor is not None and self._is_pending:
            compressor, self._compressor, self._is_pending = self._compressor, None, False
            write_all(file, compressor.flush())

    def close(self) -> None:
        """End the member (when writing) and close the file that was opened here."""
        if self._fp is None:
            return
        file = self._fp
        try:
            if self._buffer is not None:
                self._buffer.close()
            else:
                self._end_member(file)
        finally:
            self._fp = None
            if self._owns_file:
                file.close()

    def _open_file(self) -> BinaryIO:
        if self._fp is None:
            raise ValueError("I/O operation on closed file")
        return self._fp

    def _reading(self) -> io.BufferedReader:
        self._open_file()
        if self._buffer is None:
            raise io.UnsupportedOperation("the file is open for writing")
        return self._buffer


_ReadMode = Literal["r", "rb"]
_WriteMode = Literal["w", "wb", "x", "xb", "a", "ab"]


@overload
def open(
    filename: Path | BinaryIO, mode: _ReadMode = "rb", *, encoding: None = None,
    errors: None = None, newline: None = None, **options: Unpack[DecompressKeywords],
) -> NczipFile: ...  # fmt: skip
@overload
def open(
    filename: Path | BinaryIO, mode: _WriteMode, *, preset: PresetName | Level = "default",
    encoding: None = None, errors: None = None, newline: None = None,
    **options: Unpack[CompressKeywords],
) -> NczipFile: ...  # fmt: skip
@overload
def open(
    filename: Path | BinaryIO, mode: Literal["rt"], *, encoding: str | None = None,
    errors: str | None = None, newline: str | None = None, **options: Unpack[DecompressKeywords],
) -> io.TextIOWrapper: ...  # fmt: skip
@overload
def open(
    filename: Path | BinaryIO, mode: Literal["wt", "xt", "at"], *,
    preset: PresetName | Level = "default",
    encoding: str | None = None, errors: str | None = None, newline: str | None = None,
    **options: Unpack[CompressKeywords],
) -> io.TextIOWrapper: ...  # fmt: skip
@overload
def open(
    filename: Path | BinaryIO, mode: str, *, encoding: str | None = None,
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
    """A compressed file as a binary (``rb``, ``wb``) or text (``rt``, ``wt``) file object.

    Examples:
        >>> import nczip
        >>> with nczip.open("log.ncz", "wt", preset="fast") as file:
        ...     _ = file.write("one line\\n")
        >>> nczip.open("log.ncz", "rt").read()
        'one line\\n'
    """
    if "t" in mode and "b" in mode:
        raise ValueError(f"invalid mode: {mode!r}")
    if "t" not in mode:
        for argument, value in (("encoding", encoding), ("errors", errors), ("newline", newline)):
            if value is not None:
                raise ValueError(f"{argument} is for text modes, not for mode {mode!r}")
    file = NczipFile(filename, mode.replace("t", ""), **options)
    if "t" in mode:
        return io.TextIOWrapper(cast(IO[bytes], file), encoding, errors, newline)
    return file
