"""The model store: where GGUF files are found, by path, by name, or by fingerprint.

Searched are the models that ship with nczip (this folder), the folders of ``NCZIP_MODELS``
(separated as in PATH), and the user's data folder.
"""

import functools
import hashlib
import os
from pathlib import Path

import platformdirs

from nczip.coder.errors import ModelError


def folders() -> list[Path]:
    """Folders that are searched, in this order."""
    extra = [Path(part) for part in os.environ.get("NCZIP_MODELS", "").split(os.pathsep) if part]
    user = Path(platformdirs.user_data_dir("nczip")) / "models"
    return [Path(__file__).parent, *extra, user]


def find_model(model: str) -> Path:
    """The file of a model given by path or by name (without ``.gguf``).

    Raises:
        ModelError: there is none; the message says where was looked.
    """
    path = Path(model)
    if path.is_file():
        return path
    for folder in folders():
        candidate = folder / f"{model.removesuffix('.gguf')}.gguf"
        if candidate.is_file():
            return candidate
    places = ", ".join(map(str, folders()))
    raise ModelError(f"no model '{model}': not a file, and not in {places}")


def find_by_fingerprint(fingerprint: bytes, name: str, hint: str | None = None) -> Path:
    """The model file whose SHA-256 starts so, ``hint`` (a path or name) and namesakes first.

    Raises:
        ModelError: no file found has it.
    """
    candidates = [find_model(hint)] if hint else []
    for folder in folders():
        files = sorted(folder.glob("*.gguf")) if folder.is_dir() else []
        candidates += sorted(files, key=lambda path: path.stem != name)
    for path in candidates:
        if sha256_of(path, path.stat().st_mtime_ns).startswith(fingerprint):
            return path
    raise ModelError(
        f"the file needs the model '{name}' (SHA-256 {fingerprint.hex()}...), which is not "
        f"here: name it with --model, or put it into {folders()[-1]}"
    )


@functools.lru_cache
def sha256_of(path: Path, mtime_ns: int) -> bytes:
    """SHA-256 of a file, remembered while its time of change stays."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
