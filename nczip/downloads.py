"""Downloads: resumed where they were cut, verified, and put in their place in one step.

Nothing here believes what comes from outside: no more bytes are taken than the caller expects, and
a file has its name only when its SHA-256 is right. Members come out of archives one by one, under
the caller's name.
"""

import hashlib
import http.client
import shutil
import tarfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from nczip.errors import DownloadError

_CHUNK = 1 << 16
_TIMEOUT = 30  # seconds without a byte
_ATTEMPTS = 4

#: Called with a label, the bytes that have arrived, and the bytes expected (None: unknown).
Report = Callable[[str, int, int | None], None]


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def silent(*_: object) -> None:
    """A :data:`Report` that tells nobody."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


@contextmanager
def open_member(packed: Path, name: str) -> Iterator[Readable]:
    """The bytes of the member of an archive (zip, tar) that is called so, whatever its folder.

    Raises:
        DownloadError: the archive is damaged, or has none.
    """
    opening = _member_of_zip if zipfile.is_zipfile(packed) else _member_of_tar
    try:
        with opening(packed, name) as source:
            yield source
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DownloadError(f"the archive {packed.name} is damaged ({error})") from error
    except KeyError as error:
        raise DownloadError(f"the archive {packed.name} holds no file {name}") from error


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


def copy_exactly(
    source: Readable,
    target: Path,
    size: int,
    sha256: str | None,
    *,
    name: str,
    whole: bool = True,
    report: Report = silent,
) -> None:
    """Write ``size`` bytes of ``source`` to ``target``, and no more.

    Args:
        source: what is read.
        target: removed again where it is not what was expected.
        size: in bytes.
        sha256: 64 hexadecimal digits, None where nobody knows.
        name: what it is, for messages.
        whole: whether the source must end there.
        report: told of progress.

    Raises:
        DownloadError: size or SHA-256 are others.
    """
    digest = hashlib.sha256()
    done = 0
    with target.open("wb") as sink:
        while done < size and (data := source.read(min(_CHUNK, size - done))):
            sink.write(data)
            digest.update(data)
            done += len(data)
            report(name, done, size)
    wrong = done < size or (whole and source.read(1))
    if wrong or (sha256 is not None and digest.hexdigest() != sha256):
        target.unlink()
        raise DownloadError(f"{name} is not what was expected (size or SHA-256)")


def download(
    url: str, target: Path, size: int, sha256: str | None, report: Report = silent
) -> None:
    """Download to ``target``; a partial file beside it is continued.

    Raises:
        DownloadError: the source fails several times, or sends something else.
    """
    part = target.with_name(f".{target.name}.download")
    problem: object = None
    for _ in range(_ATTEMPTS):
        try:
            _continue(url, part, size, report)
        except (OSError, http.client.HTTPException) as error:
            problem = error
            continue
        if part.stat().st_size >= size:
            break
        problem = f"it ends after {part.stat().st_size} of {size} bytes"
    else:
        raise DownloadError(
            f"cannot download {url} ({problem}): the next try will go on from there"
        )
    if part.stat().st_size != size or (sha256 is not None and sha256_of(part) != sha256):
        part.unlink()
        raise DownloadError(f"{url} sent something else than what was expected (size or SHA-256)")
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
    source: Readable, sink: IO[bytes], done: int, size: int, tell: Callable[[int], None]
) -> None:
    while done <= size and (data := source.read(min(_CHUNK, size + 1 - done))):
        sink.write(data)
        done += len(data)
        tell(done)
