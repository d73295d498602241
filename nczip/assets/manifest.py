"""What ships with nczip: every file by its id, with its check and where it comes from."""

import functools
import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import xxhash

from nczip.coder.errors import NczipError

FOLDER = Path(__file__).parent
MANIFEST = "manifest.toml"


@dataclass(frozen=True)
class Asset:
    """An entry of manifest.toml."""

    made_by: str  #: the command
    made_from: str
    xxh3: str  #: XXH3-64 of the file, 16 hexadecimal digits
    file: str | None = None  #: in this folder; None for what is made on the user's machine
    sha256: str | None = None  #: of a model's file: by this headers and learnt states name it
    learnt_under: str | None = None  #: SHA-256 of the model, "" for none, under which it was learnt
    layout: str | None = None  #: of the arrays of a learnt state (:func:`layout_of`)


@functools.cache
def manifest(folder: Path = FOLDER) -> dict[str, Asset]:
    """All assets by id."""
    entries = tomllib.loads((folder / MANIFEST).read_text())
    return {name: Asset(**entry) for name, entry in entries.items()}


def read(name: str, error: type[NczipError], advice: str = "install nczip again") -> bytes:
    """The bytes of an asset, verified.

    Raises:
        NczipError: of the type ``error``: it is not here, or another than the manifest says.
    """
    asset = manifest(FOLDER)[name]
    assert asset.file is not None
    try:
        data = (FOLDER / asset.file).read_bytes()
    except OSError as reason:
        raise error(f"{asset.file} of nczip is not installed ({reason}): {advice}") from reason
    if xxhash.xxh3_64_hexdigest(data) != asset.xxh3:
        raise error(f"{FOLDER / asset.file} is not that of this nczip: {advice}")
    return data


def layout_of(state: dict[str, npt.NDArray[Any]]) -> str:
    """A name for the shapes of a learnt state: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {state[name].shape}\n".encode())
    return digest.hexdigest()[:16]
