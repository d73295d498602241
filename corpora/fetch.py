"""Downloads: resumed where they were cut, verified, and put in their place in one step.

What an archive claims about itself is never believed: only the members that the manifest names are
read, each up to its known size, and written under the manifest's name.
"""

import hashlib
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import filelock

from nczip.corpora.manifest import CorpusFile, Manifest, load_manifest
from nczip.corpora.store import CorpusError, cache_folder, find, is_intact, sha256_of

_CHUNK = 1 << 16
_TIMEOUT = 30  # seconds without a byte
_ATTEMPTS = 4

#: Called with a label, the bytes that have arrived, and the bytes expected (None: unknown).
Report = Callable[[str, int, int | None], None]


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def _silent(label: str, done: int, total: int | None) -> None:
    del label, done, total


def fetch(
    file: CorpusFile,
    *,
    manifest: Manifest | None = None,
    folder: Path | None = None,
    report: Report = _silent,
) -> Path:
    """The path of a file, which is downloaded where it is not here yet.

    Args:
        file: what to get.
        manifest: where archives and parents are looked up; None for the one that ships.
        folder: where to put it; None for the cache folder. Searched first.
        report: told of progress.

    Raises:
        CorpusError: it has no source, the source fails, or what comes is not the file.
    """
    manifest = manifest or load_manifest()
    present = find(file, folder)
    if present is not None and is_intact(file, present):
        return present
    target = (folder or cache_folder()) / file.corpus / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(f".{file.name}.lock")):
        if not (target.is_file() and is_intact(file, target)):
            _make(file, target, manifest, folder, report)
    return target


def _make(
    file: CorpusFile, target: Path, manifest: Manifest, folder: Path | None, report: Report
) -> None:
    part = target.with_name(f".{file.name}.part")
    if file.head_of:
        parent = manifest.file(file.head_of)
        if parent is None:
            raise CorpusError(f"the manifest knows no {file.head_of}, whose head {file.path} is")
        with fetch(parent, manifest=manifest, folder=folder, report=report).open("rb") as source:
            _copy(source, part, file)
    elif file.archive:
        archive = manifest.archives[file.archive]
        downloads = (folder or cache_folder()) / "archives"
        packed = downloads / archive.name
        if not (packed.is_file() and packed.stat().st_size == archive.size):
            downloads.mkdir(parents=True, exist_ok=True)
            download(archive.url, packed, archive.size, archive.sha256, report)
        with _member(packed, file) as source:
            _copy(source, part, file)
    elif file.url:
        download(file.url, part, file.size, file.sha256, report)
    else:
        raise CorpusError(f"{file.path} has no address: see the source of '{file.corpus}'")
    part.replace(target)


@contextmanager
def _member(packed: Path, file: CorpusFile) -> Iterator[_Readable]:
    """The bytes of the member of an archive that is called like the file, whatever its folder."""
    opening = _member_of_zip if zipfile.is_zipfile(packed) else _member_of_tar
    try:
        with opening(packed, file.name) as source:
            yield source
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise CorpusError(f"the archive {packed.name} is damaged ({error})") from error
    except KeyError as error:
        raise CorpusError(f"the archive {packed.name} holds no file {file.name}") from error


@contextmanager
def _member_of_zip(packed: Path, name: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(packed) as archive:
        for info in archive.infolist():
            if not info.is_dir() and Path(info.filename).name == name:
                with archive.open(info) as source:
                    yield source
                return
    raise KeyError(name)


@contextmanager
def _member_of_tar(packed: Path, name: str) -> Iterator[IO[bytes]]:
    with tarfile.open(packed) as archive:
        for info in archive:
            source = archive.extractfile(info) if info.isreg() else None
            if source is not None and Path(info.name).name == name:
                with source:
                    yield source
                return
    raise KeyError(name)


def _copy(source: _Readable, target: Path, file: CorpusFile) -> None:
    """The file's bytes and no more; verified."""
    digest = hashlib.sha256()
    left = file.size
    with target.open("wb") as sink:
        while left and (data := source.read(min(_CHUNK, left))):
            sink.write(data)
            digest.update(data)
            left -= len(data)
    wrong = left or (not file.head_of and source.read(1))
    if wrong or (file.sha256 is not None and digest.hexdigest() != file.sha256):
        target.unlink()
        raise CorpusError(f"{file.path} is not what the manifest says (size or SHA-256)")


def download(
    url: str, target: Path, size: int, sha256: str | None, report: Report = _silent
) -> None:
    """Download to ``target``; a partial file beside it is continued.

    Raises:
        CorpusError: the source fails several times, or sends something else.
    """
    part = target.with_name(f".{target.name}.download")
    problem: object = None
    for _ in range(_ATTEMPTS):
        try:
            _continue(url, part, size, report)
        except (urllib.error.URLError, OSError) as error:
            problem = error
            continue
        if part.stat().st_size >= size:
            break
        problem = f"it ends after {part.stat().st_size} of {size} bytes"
    else:
        raise CorpusError(f"cannot download {url} ({problem}): the next try will go on from there")
    if part.stat().st_size != size or (sha256 is not None and sha256_of(part) != sha256):
        part.unlink()
        raise CorpusError(f"{url} sent something else than the manifest says (size or SHA-256)")
    shutil.move(part, target)


def _continue(url: str, part: Path, size: int, report: Report) -> None:
    """Download what is missing of ``part``, at most one byte more than ``size``."""
    start = part.stat().st_size if part.is_file() else 0
    if start >= size:
        return
    headers = {"User-Agent": "nczip"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        resumed = response.status == 206
        mode = "ab" if resumed else "wb"
        done = start if resumed else 0
        with part.open(mode) as sink:
            _pump(response, sink, done, size, lambda n: report(part.name, n, size))


def _pump(
    source: _Readable, sink: IO[bytes], done: int, size: int, tell: Callable[[int], None]
) -> None:
    while done <= size and (data := source.read(min(_CHUNK, size + 1 - done))):
        sink.write(data)
        done += len(data)
        tell(done)
