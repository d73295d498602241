"""Where the files of a Ray job are: any file system of fsspec.

An output appears complete, under its own name, or not at all. Finished blocks are kept beside it
until then, so that whoever does an interrupted job again need not do them again.
"""

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from nczip.errors import NczipError
from nczip.sinks import PartFile, Sink, write_all

SUFFIX = ".ncz"
PARTS_SUFFIX = ".nczip-parts"
_SCHEMA = "nczip-ray/1"
_MAGIC = "*?["  # of patterns


@dataclass(frozen=True)
class File:
    """An input and the place of its output."""

    source: str  #: path or URL
    target: str | None  #: path or URL; None where nothing is written
    size: int | None = None  #: bytes of the input, where its file system says so

    @property
    def key(self) -> str:
        """What names its blocks among those of other files."""
        return f"{xxhash.xxh3_64_intdigest((self.target or self.source).encode()):016x}"


@dataclass(frozen=True)
class Listing:
    """What a job is about."""

    files: list[File]
    passed_over: int  #: files in the source that the command is not for
    parts: str  #: the folder of the blocks that are done


def list_files(source: str, target: str | None, compressing: bool) -> Listing:
    """The files of a job.

    Args:
        source: a file, a folder (all that is below it), or a pattern, as path or URL of fsspec.
        target: a file where the source is one, else a folder; None to write nothing.
        compressing: whether ``.ncz`` is what outputs get, or what inputs have.

    Raises:
        NczipError: there is no such file, or no file system of that name.
    """
    with blame(source):
        fs, path = url_to_fs(source)
        is_alone = "http://" in source or "https://" in source  # which have no folders
        is_pattern = not is_alone and any(m in path for m in _MAGIC) and not fs.exists(path)
        if not is_pattern and (is_alone or not fs.isdir(path)):
            return _one_file(fs, source, path, target, compressing)
        found = fs.glob(path, detail=True) if is_pattern else fs.find(path, detail=True)
    base = path[: min(path.index(m) for m in _MAGIC if m in path)] if is_pattern else path + "/"
    base = base.rpartition("/")[0]
    files, passed_over = [], 0
    for name, details in sorted(found.items()):
        relative = name.removeprefix(base).lstrip("/")
        if details.get("type") != "file" or f"{PARTS_SUFFIX}/" in name:
            continue
        if name.endswith(SUFFIX) == compressing:
            passed_over += 1
            continue
        output = None
        if target is not None:
            output = f"{target.rstrip('/')}/{_renamed(relative, compressing)}"
        url = name if is_local(fs) else fs.unstrip_protocol(name)
        files.append(File(url, output, details.get("size")))
    return Listing(files, passed_over, f"{(target or '').rstrip('/')}/{PARTS_SUFFIX}")


def _one_file(fs: Any, source: str, path: str, target: str | None, compressing: bool) -> Listing:
    if not fs.exists(path):
        raise NczipError(f"{source}: there is no such file")
    if target is not None:
        with blame(target):
            target_system, target_path = url_to_fs(target)
            is_folder = target.endswith("/") or target_system.isdir(target_path)
        if is_folder:
            name = _renamed(path.rpartition("/")[2], compressing)
            target = f"{target.rstrip('/')}/{name}"
    file = File(source, target, fs.info(path).get("size"))
    return Listing([file], 0, f"{target}{PARTS_SUFFIX}")


def _renamed(name: str, compressing: bool) -> str:
    return name + SUFFIX if compressing else name.removesuffix(SUFFIX)


def existing(files: list[File]) -> set[str]:
    """Those targets that are there already."""
    targets = {file.target for file in files if file.target is not None}
    if len(targets) == 1:
        (target,) = targets
        with blame(target):
            fs, path = url_to_fs(target)
            return targets if fs.exists(path) else set()
    there: set[str] = set()
    by_folder: dict[str, list[str]] = {}
    for target in targets:
        by_folder.setdefault(target.rpartition("/")[0], []).append(target)
    for folder, members in by_folder.items():
        with blame(folder):
            fs, path = url_to_fs(folder)
            fs.invalidate_cache()
            found = set(fs.ls(path, detail=False)) if fs.exists(path) else set()
            there |= {t for t in members if fs._strip_protocol(t) in found}
    return there


@contextlib.contextmanager
def open_input(url: str) -> Iterator[Any]:
    """A binary file of fsspec; local ones are regular ones, whose mode outputs take over."""
    with blame(url):
        fs, path = url_to_fs(url)
        file = io.FileIO(path) if is_local(fs) else fs.open(path, "rb")
    with file:
        yield file


def read_fully(file: Any, size: int) -> bytes:
    """The next ``size`` bytes; fewer only at the file's end."""
    pieces = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def read_at(file: Any, offset: int, size: int) -> bytes:
    """At most ``size`` bytes from ``offset`` on."""
    file.seek(offset)
    return read_fully(file, size)


@contextlib.contextmanager
def open_output(url: str, source: Any, replace: bool) -> Iterator[Sink]:
    """A file that has its name when all of it is there.

    Args:
        url: path or URL.
        source: the input; where both are local, its owner, mode and times are taken over.
        replace: what has that name.
    """
    fs, path = url_to_fs(url)
    if is_local(fs):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        part = PartFile(Path(path))
        try:
            yield part
            part.publish(source if isinstance(source, io.FileIO) else None, replace)
        finally:
            part.discard()
        return
    output = _RemoteOutput(url, fs, path)
    try:
        yield output
    except BaseException:
        output.discard()
        raise
    output.publish()


class _RemoteOutput:
    """An object that appears when all of it is there."""

    def __init__(self, url: str, fs: Any, path: str) -> None:
        self._url, self._fs, self._folder = url, fs, fs._parent(path)
        with blame(url):
            fs.makedirs(self._folder, exist_ok=True)
            self._file = fs.open(path, "wb", autocommit=False)
        # The file system would keep it for the end of a transaction that has not begun.
        with contextlib.suppress(ValueError, IndexError):
            fs.transaction.files.remove(self._file)

    def write(self, data: bytes, /) -> int:
        with blame(self._url):
            return write_all(self._file, data)

    def publish(self) -> None:
        with blame(self._url):
            self._file.close()
            self._file.commit()
            self._fs.invalidate_cache(self._folder)

    def discard(self) -> None:
        with contextlib.suppress(Exception):  # what brought us here is to be told
            self._file.discard()
            self._file.closed = True  # it would go on with the upload when it is collected


def is_local(fs: Any) -> bool:
    return isinstance(fs, LocalFileSystem)


class Parts:
    """The blocks of a job that are done, one file each, and a manifest that says of what job.

    Whether a part is what it should be is not told by its being there: readers compare its checks,
    so that a torn one is made again.

    Args:
        folder: path or URL; made when there is something to keep.
        job: all that the bytes of the parts depend on. Parts of another job are removed.
        files: of the job.
        existed: targets that were there when the job began.
    """

    def __init__(self, folder: str, job: dict[str, Any], files: list[File], existed: set[str]):
        self._fs, self._folder = url_to_fs(folder)
        self._path = f"{self._folder}/manifest.json"
        self.is_resumed = False
        with blame(folder):
            self._fs.invalidate_cache()
            before = self._read_manifest()
            if before is not None and before.get("job") == job:
                self.is_resumed = True
                existed = existed & set(before["existed"])
            elif before is not None:
                self.remove()
            self._there = self._list()
            self._manifest = {
                "schema": _SCHEMA,
                "job": job,
                "files": [asdict(file) for file in files],
                "existed": sorted(existed),
            }
            self._fs.makedirs(self._folder, exist_ok=True)
            self._fs.pipe_file(self._path, json.dumps(self._manifest, indent=1).encode())
        #: Targets that this job has not made.
        self.foreign = existed

    def _read_manifest(self) -> dict[str, Any] | None:
        if not self._fs.exists(self._path):
            return None
        try:
            manifest = json.loads(self._fs.cat_file(self._path))
        except ValueError:  # torn
            return {}
        return manifest if manifest.get("schema") == _SCHEMA else {}

    def _list(self) -> set[str]:
        if not self._fs.exists(self._folder):
            return set()
        return {name.rpartition("/")[2] for name in self._fs.ls(self._folder, detail=False)}

    def read(self, name: str) -> bytes | None:
        """A part as it was kept, or less of it; None where there is none."""
        if name not in self._there:
            return None
        with blame(name):
            return bytes(self._fs.cat_file(f"{self._folder}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        with blame(f"{self._folder}/{name}"):
            self._fs.pipe_file(f"{self._folder}/{name}", data)

    def remove(self) -> None:
        """All of it: the job is done, or another one."""
        with blame(self._folder):
            self._fs.invalidate_cache()
            self._fs.rm(self._folder, recursive=True)
            self._fs.invalidate_cache()


@contextlib.contextmanager
def blame(place: str) -> Iterator[None]:
    """Errors of file systems, each of which has its library's own, as ours that name the place."""
    try:
        yield
    except NczipError:
        raise
    except Exception as error:
        raise NczipError(f"{place}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What to tell of an error."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
