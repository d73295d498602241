"""Models into the store and out of it: one at a time, verified before they have their names."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from nczip.assets.catalogue import CatalogueModel, catalogue
from nczip.assets.models import find_model, folders, is_model, store_folder
from nczip.assets.origins import Expected, parse_origin
from nczip.downloads import Report, sha256_of, silent
from nczip.errors import DownloadError, ModelError
from nczip.formats.container import MAX_SOURCE_BYTES

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")
_GGUF = b"GGUF"

#: Told what is about to be done.
Announce = Callable[[str], object]


@dataclass(frozen=True)
class Pulled:
    """What the store remembers of a model that is not in the catalogue."""

    source: str
    size: int  #: bytes
    sha256: str


def pull(entry: CatalogueModel, announce: Announce, report: Report = silent) -> Path:
    """A model of the catalogue: the path where it is, be it here already or only now.

    Args:
        entry: what to get.
        announce: told of each source before it is tried.
        report: told of progress.

    Raises:
        DownloadError, OSError: none of its sources has it; the message names them all.
    """
    try:
        return find_model(entry.name)
    except ModelError:
        return _bring(
            entry.name, entry.sources, Expected(entry.size, entry.sha256), announce, report
        )


def pull_from(
    source: str,
    announce: Announce,
    report: Report = silent,
    *,
    name: str | None = None,
    sha256: str | None = None,
) -> Path:
    """A model from a source of the user's choice.

    Args:
        source: see :mod:`nczip.assets.origins`.
        announce: told of it.
        report: told of progress.
        name: under which it is to be found; None for that of the file. Under a name of the
            catalogue only the catalogue's file is taken.
        sha256: what it must have; None for whatever comes.

    Returns:
        Its path in the store.

    Raises:
        DownloadError, OSError: the source has none, or another.
        ModelError: the name cannot be, or another model has it.
    """
    if name is None:
        name = parse_origin(source).file_name.removesuffix(".gguf")
    if _NAME.fullmatch(name) is None:
        raise ModelError(f"'{name}' cannot be a model's name: choose one with --name")
    entry = catalogue().get(name)
    if entry is not None:
        if sha256 not in (None, entry.sha256):
            raise ModelError(f"the catalogue's '{name}' has another SHA-256: choose a --name")
        return _bring(name, [source], Expected(entry.size, entry.sha256), announce, report)
    for folder in folders():
        namesake = folder / f"{name}.gguf"
        if namesake.is_file() and not (sha256 and is_model(namesake, bytes.fromhex(sha256))):
            raise ModelError(f"{namesake} has that name: choose another with --name")
    path = _bring(name, [source], Expected(sha256=sha256), announce, report)
    pulled = Pulled(source, path.stat().st_size, sha256_of(path))
    _note_of(name).write_text(json.dumps(asdict(pulled)))
    return path


def _bring(
    name: str, sources: Sequence[str], expected: Expected, announce: Announce, report: Report
) -> Path:
    """Bring a model into the store from the first of its sources that has it."""
    target = _path_of(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with filelock.FileLock(_lock_of(name)):
        digest = bytes.fromhex(expected.sha256 or "")
        if digest and target.is_file() and is_model(target, digest):
            return target  # somebody else has brought it meanwhile
        problems = []
        for source in sources:
            announce(f"fetching {name} from {source}")
            try:
                parse_origin(source).bring(part, expected, report)
                _check_kind(part)
            except DownloadError as error:
                problems.append(str(error))
            else:
                part.replace(target)
                return target
    raise DownloadError("; ".join(problems))


def _check_kind(path: Path) -> None:
    with path.open("rb") as file:
        is_gguf = file.read(len(_GGUF)) == _GGUF
    if not is_gguf:
        path.unlink()
        raise DownloadError("what came is not a GGUF file")


def remove(name: str) -> Path:
    """Remove a model from the store, and what an interrupted pull has left of it.

    Returns:
        The path that it had.

    Raises:
        ModelError: it is not in the store.
    """
    path = _path_of(name)
    files = [path, _note_of(name)] if _NAME.fullmatch(name) else []
    for pattern in (f".{path.name}.part", f"..{path.name}.part.*") if files else ():
        files += store_folder().glob(pattern)
    if not any(file.exists() for file in files):
        raise ModelError(f"no model '{name}' in {store_folder()}: only what was pulled is removed")
    with filelock.FileLock(_lock_of(name)):
        for file in files:
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)
    return path


def pulled(name: str) -> Pulled | None:
    """What is remembered of a model that :func:`pull_from` brought."""
    try:
        return Pulled(**json.loads(_note_of(name).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def source_of(path: Path, sha256: str) -> str:
    """Where a model of the store came from, if others may get it there, too; else "".

    A model of the catalogue needs none. Addresses with a user or a query may hold secrets.
    """
    known = pulled(path.stem) if path.absolute().parent == store_folder().absolute() else None
    if known is None or known.sha256 != sha256 or len(known.source) > MAX_SOURCE_BYTES:
        return ""
    is_address = known.source.startswith("https://") and not set("@?") & set(known.source)
    return known.source if is_address or known.source.startswith(("pip:", "hf:")) else ""


def _path_of(name: str) -> Path:
    return store_folder() / f"{name}.gguf"


def _note_of(name: str) -> Path:
    return store_folder() / f"{name}.json"


def _lock_of(name: str) -> Path:
    return store_folder() / f".{name}.gguf.lock"
