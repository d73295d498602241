"""Folders: one tar archive of all that is in them on the way in, and its files on the way out."""

import contextlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from nczip.errors import FileSkippedError, NczipError
from nczip.sinks import PartFolder, make_folder
from nczip.targets import named_folder
from nczip.terminal import printable, say

_CHUNK = 1 << 20


class TarSource:
    """A folder, read as a tar archive of it.

    The same files in the same state give the same bytes: names are sorted, and no time but theirs
    is in it. Attributes are those of :class:`nczip.sources.Source`.
    """

    file = None

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self.taken = 0
        self._top = named_folder(folder).name
        self._folder = folder
        self._paths = list(_below(folder))
        self.size: int | None = _archive_size(self._paths)
        self._chunks = self._archive()
        self._ahead = b""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; b"" at the end.

        Raises:
            NczipError: a file became shorter while it was read.
        """
        while not self._ahead and (chunk := next(self._chunks, None)) is not None:
            self._ahead = chunk
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        self.taken += len(data)
        return data

    def sample(self, size: int) -> bytes:
        """``size`` bytes from the middle of the largest file."""
        files = [path for path in self._paths if path.is_file() and not path.is_symlink()]
        if not files:
            return b""
        largest = max(files, key=lambda path: path.stat().st_size)
        with largest.open("rb") as file:
            file.seek(max(0, largest.stat().st_size - size) // 2)
            return file.read(size)

    def is_same_as(self, other: os.stat_result) -> bool:
        return False

    def remove(self) -> None:
        raise FileSkippedError("folders are not removed")

    def _archive(self) -> Iterator[bytes]:
        size = 0
        with tarfile.open(fileobj=io.BytesIO(), mode="w") as archive:
            for path in self._paths:
                inside = Path(self._top, path.relative_to(self._folder))
                with _blame(path):
                    info = archive.gettarinfo(path, str(inside))
                    if info is None:
                        say(f"{printable(path)}: is a socket, which no archive can hold")
                        continue
                    for chunk in _member(info, path):
                        size += len(chunk)
                        yield chunk
        yield bytes(2 * tarfile.BLOCKSIZE + -(size + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE)


@contextlib.contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Errors of a file name it: they would be reported of the folder."""
    try:
        yield
    except OSError as error:
        raise NczipError(f"{printable(path)}: {error.strerror}") from error


def _below(folder: Path) -> Iterator[Path]:
    """A folder and all in it, links not followed."""

    def fail(error: OSError) -> None:
        raise NczipError(f"{printable(error.filename)}: {error.strerror}") from error

    yield folder
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(folders + files))


def _archive_size(paths: list[Path]) -> int:
    """About how many bytes an archive has: headers of long names are not counted."""
    size = 0
    for path in paths:
        with _blame(path):
            status = path.lstat()
        content = status.st_size if stat.S_ISREG(status.st_mode) else 0
        size += tarfile.BLOCKSIZE + content + -content % tarfile.BLOCKSIZE
    size += 2 * tarfile.BLOCKSIZE
    return size + -size % tarfile.RECORDSIZE


def _member(info: tarfile.TarInfo, path: Path) -> Iterator[bytes]:
    yield info.tobuf(tarfile.PAX_FORMAT)
    if not info.isreg():
        return
    with path.open("rb") as file:
        left = info.size
        while left:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                raise NczipError(f"{printable(path)} became shorter while it was read")
            left -= len(chunk)
            yield chunk
    yield bytes(-info.size % tarfile.BLOCKSIZE)


class _ChunkFile:
    """A file to read from over chunks of bytes."""

    def __init__(self, chunks: Iterator[bytes], taken: Callable[[int], object]) -> None:
        self._chunks = chunks
        self._taken = taken
        self._ahead = b""

    def read(self, size: int) -> bytes:
        pieces = []
        while size and (self._ahead or self._fill()):
            piece, self._ahead = self._ahead[:size], self._ahead[size:]
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _fill(self) -> bool:
        self._ahead = next(self._chunks, b"")
        self._taken(len(self._ahead))
        return bool(self._ahead)

    def drain(self) -> None:
        """Read on to the end, whose checks are seen to by this."""
        while self._fill():
            pass


def untar(
    chunks: Iterator[bytes], folder: Path, replace: bool, taken: Callable[[int], object]
) -> None:
    """Unpack a tar archive into a folder, once all of it has been read and is sound.

    Args:
        chunks: the archive's bytes.
        folder: is made where it is missing.
        replace: write over what is there.
        taken: told of each chunk's size.

    Raises:
        NczipError: it is no tar archive, its files would lie elsewhere, or a name is taken.
    """
    if not hasattr(tarfile, "data_filter"):
        raise NczipError("--untar needs Python 3.11.4 or later: decompress, and use tar")
    make_folder(folder)
    part = PartFolder(folder)
    try:
        _extract(chunks, part.path, taken)
        part.publish(replace)
    finally:
        part.discard()


def _extract(chunks: Iterator[bytes], folder: Path, taken: Callable[[int], object]) -> None:
    file = _ChunkFile(chunks, taken)
    try:
        stream: BinaryIO = file  # type: ignore[assignment]  # read() is all that it needs
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            archive.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        raise NczipError(f"refused: {error}") from error
    except tarfile.TarError as error:
        raise NczipError(f"holds no tar archive ({error}): leave --untar out") from error
    file.drain()
