"""Where input comes from: files, whose kind decides what may be done with them, and pipes."""

import contextlib
import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from nczip.errors import FileSkippedError, NczipError

STDIO = "-"
_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
# A name may become a pipe's between a look and the opening, which would then wait for a writer.
_NO_BLOCK = getattr(os, "O_NONBLOCK", 0)


class Input(Protocol):
    """What is compressed: a Source, or what is read as if it were one."""

    name: str
    taken: int

    @property
    def size(self) -> int | None: ...
    @property
    def file(self) -> io.FileIO | None: ...
    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes."""
        ...

    def sample(self, size: int) -> bytes:
        """``size`` bytes from somewhere in it, b"" where that would take them away."""
        ...

    def is_same_as(self, other: os.stat_result) -> bool:
        """Whether a file is this one."""
        ...

    def remove(self) -> None:
        """Remove what was read."""
        ...


class Source:
    """An input, open for reading, that counts what is read from it.

    Attributes:
        name: as messages show it.
        file: the file; None where it is standard input, whose mode and times are nobody's.
        size: bytes of a regular file, None of a pipe.
        taken: bytes read so far.
    """

    def __init__(self, name: str, handle: int, path: Path | None) -> None:
        self.name = name
        self.path = path
        self._raw = io.FileIO(handle, "rb", closefd=path is not None)
        self.status = os.fstat(handle)
        self.size = self.status.st_size if stat.S_ISREG(self.status.st_mode) else None
        self.taken = 0
        self._ahead = b""  # read, but not yet given to anybody

    @property
    def file(self) -> io.FileIO | None:
        return None if self.path is None else self._raw

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, as soon as there are some; all with -1."""
        data = self._ahead if size < 0 else self._ahead[:size]
        self._ahead = self._ahead[len(data) :]
        if size < 0 or not data:
            data += self._read(size)
        self.taken += len(data)
        return data

    def peek(self, size: int) -> bytes:
        """The next bytes, ``size`` of them but at the end, which stay to be read."""
        while len(self._ahead) < size and (more := self._read(size - len(self._ahead))):
            self._ahead += more
        return self._ahead[:size]

    def sample(self, size: int) -> bytes:
        """``size`` bytes from the middle of a regular file, whose position stays; else b""."""
        if self.size is None or not hasattr(os, "pread"):
            return b""
        return os.pread(self._raw.fileno(), size, max(0, self.size - size) // 2)

    def _read(self, size: int) -> bytes:
        data = self._raw.readall() if size < 0 else self._raw.read(size)
        while data is None:  # a pipe in non-blocking mode that is empty: this is not its end
            select.select([self._raw], [], [])
            data = self._raw.read(size)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_CUR:
            offset -= len(self._ahead)
        self._ahead = b""
        return self._raw.seek(offset, whence)

    def seekable(self) -> bool:
        return self._raw.seekable()

    def is_same_as(self, other: os.stat_result) -> bool:
        """Whether another file is this one, under whatever name."""
        return os.path.samestat(self.status, other)

    def remove(self) -> None:
        """Remove the file, if it is still what was read.

        Raises:
            FileSkippedError: it was changed or moved meanwhile.
        """
        if self.path is None or self.size is None:
            return
        now = self.path.lstat()
        kept = ("st_size", "st_mtime_ns")
        if not self.is_same_as(now) or any(
            getattr(now, field) != getattr(self.status, field) for field in kept
        ):
            raise FileSkippedError("changed while it was read, so it is kept")
        self.path.unlink()

    def close(self) -> None:
        self._raw.close()


@contextlib.contextmanager
def open_source(name: str, *, follow: bool, any_kind: bool, last_link: bool) -> Iterator[Source]:
    """A file, or standard input.

    Args:
        name: a path, or ``-``.
        follow: also what a symbolic link points to.
        any_kind: also pipes and devices.
        last_link: refuse a file with other names: removing one of them frees nothing.

    Raises:
        FileSkippedError: what ``name`` is, is not wanted.
        OSError: it cannot be opened.
    """
    source = _standard_input() if name == STDIO else _open_file(Path(name), follow, any_kind)
    try:
        if last_link and source.path is not None and source.status.st_nlink > 1:
            raise FileSkippedError("has other links, so it is not removed: -k keeps it, -f insists")
        yield source
    finally:
        source.close()


def _standard_input() -> Source:
    if sys.stdin is None:
        raise NczipError("standard input is closed")
    return Source("standard input", sys.stdin.fileno(), None)


def _open_file(path: Path, follow: bool, any_kind: bool) -> Source:
    if path.is_symlink() and not follow:
        raise FileSkippedError("is a symbolic link: -f follows it, so does -c")
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise FileSkippedError("is a directory: -r takes the files in it")
    if not stat.S_ISREG(mode) and not any_kind:
        raise FileSkippedError("is a device or a pipe: -f reads it, so does -c")
    flags = os.O_RDONLY | _BINARY
    flags |= _NO_BLOCK if stat.S_ISREG(mode) else 0
    flags |= 0 if follow else _NO_FOLLOW
    handle = os.open(path, flags)
    source = Source(str(path), handle, path)
    if stat.S_ISREG(mode) and source.size is None:
        source.close()
        raise FileSkippedError("was replaced by a device or a pipe while it was opened")
    return source
