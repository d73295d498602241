"""Where output goes: complete, under its own name, or not there at all.

What is written to a file lies in a part file beside it until all went well. The part file's name
follows from the output's, and its writer holds a lock on it: so a later run on the same output
knows whether a part file is another process at work or what a dead one left behind.
"""

import contextlib
import ctypes
import errno
import hashlib
import io
import os
import select
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from nczip.errors import NczipError
from nczip.terminal import printable

if sys.platform != "win32":  # where nobody can remove a file that is open, locked or not
    import fcntl

PART_SUFFIX = ".nczip.part"
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_OPEN_PART = os.O_RDWR | _NO_FOLLOW | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class Sink(Protocol):
    """Takes bytes, all of them."""

    def write(self, data: bytes, /) -> int:
        """Write all of ``data``; returns its size."""
        ...


def write_all(file: Any, data: bytes | bytearray | memoryview) -> int:
    """Write all of ``data`` to a binary file of any kind; returns its size.

    An unbuffered file may take less than it is given, and only its return value says so.
    """
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        count = file.write(view[done:])
        if count is not None:
            done += count
        elif isinstance(file, io.RawIOBase):
            select.select([], [file], [])  # a full pipe in non-blocking mode
        else:
            break  # an object of the caller's whose write() returns nothing
    return len(view)


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()  # while there is one thread: others would make files meanwhile


class StandardOutput:
    """Standard output, unbuffered.

    Args:
        is_input: whether a file is the one that is read, and would grow for ever.

    Raises:
        NczipError: it is, or standard output is closed.
    """

    def __init__(self, is_input: Callable[[os.stat_result], bool]) -> None:
        if sys.stdout is None:
            raise NczipError("standard output is closed")
        sys.stdout.flush()
        self._file = io.FileIO(sys.stdout.fileno(), "wb", closefd=False)
        status = os.fstat(self._file.fileno())
        if stat.S_ISREG(status.st_mode) and is_input(status):
            raise NczipError("standard output is the input")

    def write(self, data: bytes, /) -> int:
        try:
            return write_all(self._file, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise NczipError(f"writing standard output: {error.strerror}") from error


class DeviceFile:
    """A device or a pipe, which is written to as it is."""

    def __init__(self, path: Path) -> None:
        with _blame(path):
            self._file = io.FileIO(path, "wb")
        self._path = path

    def write(self, data: bytes, /) -> int:
        with _blame(self._path):
            return write_all(self._file, data)

    def close(self) -> None:
        self._file.close()


class PartFile:
    """An output file before it has its name.

    Args:
        target: the output's path.
        resume: go on with the part file of an earlier run, and leave it where this run fails.

    Raises:
        NczipError: it cannot be made, or another process is writing the same output.
    """

    def __init__(self, target: Path, resume: bool = False) -> None:
        self.target = target
        self._keep = resume
        with _blame(target):
            self._handle, self.path = _open_part(target, resume)
        _open_parts.add(self)

    def write(self, data: bytes, /) -> int:
        with _blame(self.target):
            done = 0
            view = memoryview(data)
            while done < len(view):
                done += os.write(self._handle, view[done:])
            return done

    def read_at(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset`` on, as the file system has them."""
        with _blame(self.target):
            return os.pread(self._handle, size, offset)

    def cut(self, size: int) -> None:
        """Keep the first ``size`` bytes and write on behind them."""
        with _blame(self.target):
            os.ftruncate(self._handle, size)
            os.lseek(self._handle, size, os.SEEK_SET)

    def publish(self, source: io.FileIO | None, replace: bool) -> None:
        """Give the file its name, with owner, mode and times of ``source``.

        Raises:
            NczipError: something has that name and ``replace`` is not set.
        """
        with _blame(self.target):
            _carry_over(source, self._handle)
            os.fsync(self._handle)
            if replace:
                self.path.replace(self.target)
            else:
                rename_without_replacing(self.path, self.target)
            _open_parts.discard(self)
            os.close(self._handle)
            _sync_folder(self.target.parent)

    def discard(self) -> None:
        """Remove the file, unless a later run is to go on with it. Nothing after publish()."""
        if self in _open_parts:
            self.remove()
            _open_parts.discard(self)
            os.close(self._handle)

    def remove(self) -> None:
        """Remove the file's name, unless a later run is to go on with it."""
        if not self._keep:
            self.path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Have a folder for outputs be there."""
    with _blame(folder):
        folder.mkdir(parents=True, exist_ok=True)


class PartFolder:
    """A folder for what is unpacked into another one, before its files have their names there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with _blame(folder):
            self.path = Path(tempfile.mkdtemp(PART_SUFFIX, ".", folder))
        _open_parts.add(self)

    def publish(self, replace: bool) -> None:
        """Move all that is in it to the other folder.

        Args:
            replace: put files in the places of others, and into folders that are there.

        Raises:
            NczipError: a name is taken there; unless ``replace`` is set, nothing is moved then.
        """
        entries = sorted(self.path.iterdir())
        for entry in entries:
            if not replace and os.path.lexists(target := self._folder / entry.name):
                raise NczipError(f"the output {printable(target)} exists: -f writes over it")
        for entry in entries:
            _move(entry, self._folder / entry.name, replace)

    def discard(self) -> None:
        """Remove the folder and what is left in it."""
        self.remove()
        _open_parts.discard(self)

    def remove(self) -> None:
        """Remove the folder and what is left in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def _move(source: Path, target: Path, replace: bool) -> None:
    """Rename what is of any kind; with ``replace``, folders become one and files take places."""
    with _blame(target):
        is_folder = source.is_dir() and not source.is_symlink()
        if replace and is_folder and target.is_dir() and not target.is_symlink():
            for entry in sorted(source.iterdir()):
                _move(entry, target / entry.name, replace)
            return
        if replace and is_folder and os.path.lexists(target):
            target.unlink()
        if replace or is_folder:
            source.replace(target)
        else:
            rename_without_replacing(source, target)


_open_parts: set[PartFile | PartFolder] = set()


def discard_parts() -> None:
    """Remove what this process, which is about to end, has not finished and may still write to."""
    for part in list(_open_parts):
        with contextlib.suppress(OSError):
            part.remove()


@contextlib.contextmanager
def _blame(target: Path) -> Iterator[None]:
    """Errors of the output name the output: they would be reported of the input."""
    try:
        yield
    except BrokenPipeError:
        raise
    except FileExistsError as error:
        raise NczipError(f"the output {printable(target)} exists: -f overwrites it") from error
    except OSError as error:
        raise NczipError(f"writing {printable(target)}: {error.strerror or error}") from error


def part_name(target: Path) -> str:
    """The part file's name, which is no longer than names may be."""
    try:
        longest = os.pathconf(target.parent, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        longest = 255
    whole = f".{target.name}{PART_SUFFIX}"
    if len(os.fsencode(whole)) <= longest:
        return whole
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    start = target.name
    while len(os.fsencode(name := f".{start}.{digest}{PART_SUFFIX}")) > longest and start:
        start = start[:-1]
    return name


def _open_part(target: Path, resume: bool) -> tuple[int, Path]:
    """A locked part file: a new one, or with ``resume`` what a dead process left behind."""
    path = target.parent / part_name(target)
    for _ in range(100):  # another process may take it away each time, but not for ever
        try:
            handle = os.open(path, _OPEN_PART | os.O_CREAT | os.O_EXCL, 0o600)
            new = True
        except FileExistsError:
            try:
                handle = os.open(path, _OPEN_PART)
            except OSError:
                break
            new = False
        if not new and not _is_ours(handle):
            os.close(handle)
            break
        try:
            free = _lock(handle)
        except OSError:  # a file system without locks: nobody can tell the dead from the living
            if new:
                return handle, path
            os.close(handle)
            break
        if not free:
            os.close(handle)
            if new:
                continue
            raise NczipError(f"another nczip is writing {printable(target)}")
        if _is_at(handle, path):
            if new or resume:
                return handle, path
            path.unlink()
        os.close(handle)
    # Something else is in that name's place; nobody finds this one after a crash.
    handle, name = tempfile.mkstemp(
        PART_SUFFIX, path.name.removesuffix(PART_SUFFIX)[:200], path.parent
    )
    return handle, Path(name)


def _is_ours(handle: int) -> bool:
    status = os.fstat(handle)
    owner = os.geteuid() if hasattr(os, "geteuid") else status.st_uid
    return stat.S_ISREG(status.st_mode) and status.st_uid == owner


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _lock(handle: int) -> bool:
    """Lock a file for as long as it is open; whether nobody else has."""
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def rename_without_replacing(source: Path, target: Path) -> None:
    """Rename a file in one step.

    Raises:
        FileExistsError: something has the new name, perhaps only just.
    """
    if sys.platform == "win32":
        source.rename(target)
        return
    if _renameat2(source, target):
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: claim the name, then take what is claimed
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        source.replace(target)
    else:
        source.unlink()


def _renameat2(source: Path, target: Path) -> bool:
    """Linux' rename that does not replace; whether it is there and did it."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    old, new = os.fsencode(source), os.fsencode(target)
    if library.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(target))


def _sync_folder(folder: Path) -> None:
    """Have a rename survive a power loss; not all systems can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _carry_over(source: io.FileIO | None, target: int) -> None:
    """Owner, group, mode, times and the user's attributes of a file; a pipe has none.

    Set-id bits go with owner and group or not at all: the archive of a stranger, decompressed by
    root, would else run as root. Where the group cannot be kept, nobody gets more rights than both
    group and others had, as xz does it.
    """
    if sys.platform == "win32":
        return
    if source is None:
        os.fchmod(target, 0o666 & ~_UMASK)
        return
    status = os.fstat(source.fileno())
    mode = stat.S_IMODE(status.st_mode)
    owner = _give(target, status.st_uid, -1)
    group = _give(target, -1, status.st_gid)
    if not group:
        both = mode >> 3 & mode & 0o007
        mode = mode & 0o700 | both << 3 | both
    elif not owner:
        mode &= 0o777
    _copy_attributes(source.fileno(), target)
    os.fchmod(target, mode)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _give(handle: int, owner: int, group: int) -> bool:
    """Change owner or group (-1: leave it); whether it is so now."""
    if sys.platform == "win32":
        return False
    with contextlib.suppress(OSError):
        os.fchown(handle, owner, group)
    status = os.fstat(handle)
    return owner in (-1, status.st_uid) and group in (-1, status.st_gid)


def _copy_attributes(source: int, target: int) -> None:
    """Extended attributes that users set; those of the system, as capabilities, are not ours."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            if name.startswith("user."):
                os.setxattr(target, name, os.getxattr(source, name))
