"""The model store: where GGUF files are found, by path, by name, or by fingerprint.

Searched are the models that ship with nczip (this folder), the folders of ``NCZIP_MODELS``
(separated as in PATH), and the user's data folder, into which models are pulled. A model of the
catalogue may lie in one of them under whatever name, or in an installed package.
"""

import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from nczip.assets.catalogue import CatalogueModel, catalogue, entry_for
from nczip.coder.errors import ModelError

#: What strangers may have us show as part of a command: nothing that a shell would act on.
_IS_HARMLESS = re.compile(r"(?:pip:|hf:|https://)[\w./:@=+%-]+", re.ASCII)


@dataclass(frozen=True)
class ModelSearch:
    """How to look for the model that a file needs."""

    hint: str | None = None  #: path or name of the model, looked at first
    beside: Path | None = None  #: the file's folder, looked at last
    #: Called for a model of the catalogue that is not here, and returns its path.
    fetch: Callable[[CatalogueModel], Path] | None = None


def store_folder() -> Path:
    """Where models are pulled to."""
    return Path(platformdirs.user_data_dir("nczip")) / "models"


def folders() -> list[Path]:
    """Folders that are searched, in this order."""
    extra = [Path(part) for part in os.environ.get("NCZIP_MODELS", "").split(os.pathsep) if part]
    return [Path(__file__).parent, *extra, store_folder()]


def find_model(model: str) -> Path:
    """The file of a model given by path or by name (without ``.gguf``).

    Raises:
        ModelError: there is none, or under a name of the catalogue lies another; the message says
            where was looked, or how to get it.
    """
    path = Path(model)
    if path.is_file():
        return path
    name = model.removesuffix(".gguf")
    entry = catalogue().get(name)
    if entry is not None:
        return _find_entry(entry)
    for folder in folders():
        candidate = folder / f"{name}.gguf"
        if candidate.is_file():
            return candidate
    places = ", ".join(map(str, folders()))
    raise ModelError(f"no model '{model}': not a file, not in {places}, and not in the catalogue")


def _find_entry(entry: CatalogueModel) -> Path:
    """The file of a model of the catalogue, which is what the catalogue says."""
    for path in _in_folders(entry.name, entry):
        if is_model(path, entry.fingerprint):
            return path
    for folder in folders():
        namesake = folder / f"{entry.name}.gguf"
        if namesake.is_file():
            raise ModelError(
                f"{namesake} is not the catalogue's '{entry.name}': {how_to_get(entry)}"
            )
    raise ModelError(f"the model '{entry.name}' is not here: {how_to_get(entry)}")


def how_to_get(entry: CatalogueModel) -> str:
    """The command that gets a model of the catalogue, as a clause."""
    return f"'nczip models pull {entry.name}' gets it ({entry.size / 1e6:.0f} MB)"


def find_by_fingerprint(
    fingerprint: bytes,
    name: str,
    search: str | ModelSearch | None = None,
    source: str = "",
) -> Path:
    """The model file whose SHA-256 starts so.

    Args:
        fingerprint: the first bytes of the SHA-256.
        name: as a header has it, which may be none; files called so are looked at first.
        search: where to look beside the store; a string is its hint.
        source: whence it came, as a header has it; nothing is fetched from there.

    Raises:
        ModelError: no file found has it; the message says how to get it.
    """
    if not isinstance(search, ModelSearch):
        search = ModelSearch(search)
    entry = entry_for(fingerprint)
    # The catalogue's name for the very model that is needed says nothing more.
    is_told = entry is not None and search.hint == entry.name
    given = find_model(search.hint) if search.hint and not is_told else None
    for path in _candidates(given, name, entry, search.beside):
        if is_model(path, fingerprint):
            return path
    if entry is not None and search.fetch is not None:
        return search.fetch(entry)
    name = name or (entry.name if entry else "")  # an index has none
    quoted = f"'{name}' " if name else ""
    needed = f"the file needs the model {quoted}(SHA-256 {fingerprint.hex()}...)"
    if given is None:
        needed += ", which is not here"
    else:
        needed += f", not '{given}' (SHA-256 {_digest(given)[: len(fingerprint)].hex()}...)"
    if entry is not None:
        raise ModelError(f"{needed}: {how_to_get(entry)}, so does 'nczip d --fetch'")
    if _IS_HARMLESS.fullmatch(source):
        needed += f"; by its own account it came from where 'nczip models pull {source}' gets it"
    raise ModelError(f"{needed}: name it with --model, or put it into {store_folder()}")


def _candidates(
    given: Path | None, name: str, entry: CatalogueModel | None, beside: Path | None
) -> Iterator[Path]:
    """Files that may be the model, likely ones first."""
    if given is not None:
        yield given
    yield from _in_folders(name, entry)
    for folder in dict.fromkeys((beside or Path(), Path())):
        yield from _models_in(folder, name, entry)


def _in_folders(name: str, entry: CatalogueModel | None) -> Iterator[Path]:
    for folder in folders():
        yield from _models_in(folder, name, entry)
    if entry is not None:
        from nczip.assets.origins import installed_copies

        for source in entry.sources:
            yield from installed_copies(source)


def _models_in(folder: Path, name: str, entry: CatalogueModel | None) -> Iterator[Path]:
    """The GGUF files in a folder, namesakes first; only those of the right size, if it is known."""
    found = sorted(folder.glob("*.gguf"), key=lambda path: (path.stem != name, path))
    for path in found:
        if path.is_file() and (entry is None or path.stat().st_size == entry.size):
            yield path


def is_model(path: Path, fingerprint: bytes) -> bool:
    """Whether a file's SHA-256 starts so."""
    return _digest(path).startswith(fingerprint)


def _digest(path: Path) -> bytes:
    return sha256_of(path, path.stat().st_mtime_ns)


@functools.lru_cache
def sha256_of(path: Path, mtime_ns: int) -> bytes:
    """SHA-256 of a file, remembered while its time of change stays."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
