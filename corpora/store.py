"""Where corpus files lie on this machine.

Searched are a folder that the caller names, the folders of ``NCZIP_CORPORA`` (separated as in
PATH), and the user's cache folder, which is also where files are fetched to. In each, a file lies
at ``corpus/name``.
"""

import os
from pathlib import Path

import platformdirs

from nczip.corpora.manifest import CorpusFile, Manifest, load_manifest
from nczip.downloads import sha256_of
from nczip.errors import NczipError


class CorpusError(NczipError):
    """A corpus or a file of one is unknown, not here, damaged, or cannot be fetched."""


def cache_folder() -> Path:
    """Where files are fetched to."""
    return Path(platformdirs.user_cache_dir("nczip")) / "corpora"


def search_folders(first: Path | None = None) -> list[Path]:
    """Folders that are searched, in this order."""
    named = [Path(part) for part in os.environ.get("NCZIP_CORPORA", "").split(os.pathsep) if part]
    return [*([first] if first else []), *named, cache_folder()]


def find(file: CorpusFile, folder: Path | None = None) -> Path | None:
    """The path of a file of the right size, or None."""
    for place in search_folders(folder):
        path = place / file.corpus / file.name
        if path.is_file() and path.stat().st_size == file.size:
            return path
    return None


def read(file: CorpusFile, folder: Path | None = None) -> bytes:
    """The bytes of a file; the head of another file is read from that, if need be.

    Raises:
        CorpusError: it is not here.
    """
    path = find(file, folder)
    if path is not None:
        return path.read_bytes()
    parent = load_manifest().file(file.head_of) if file.head_of else None
    path = find(parent, folder) if parent else None
    if path is None:
        raise CorpusError(f"{file.path} is not here: nczip corpora fetch {file.path}")
    with path.open("rb") as source:
        return source.read(file.size)


def select(
    names: tuple[str, ...] | list[str], manifest: Manifest | None = None
) -> list[CorpusFile]:
    """Files by ``corpus`` or ``corpus/name``; all of them without names.

    Raises:
        CorpusError: a name is unknown.
    """
    manifest = manifest or load_manifest()
    if not names:
        return [file for corpus in manifest.corpora.values() for file in corpus.files]
    chosen: list[CorpusFile] = []
    for name in names:
        file = manifest.file(name)
        if name in manifest.corpora:
            chosen += manifest.corpora[name].files
        elif file is not None:
            chosen.append(file)
        else:
            known = ", ".join(manifest.corpora)
            raise CorpusError(f"no corpus or file '{name}': the corpora are {known}")
    return chosen


def is_intact(file: CorpusFile, path: Path) -> bool:
    """Whether a file has the size and, where it is known, the SHA-256 of the manifest."""
    if path.stat().st_size != file.size:
        return False
    return file.sha256 is None or sha256_of(path) == file.sha256
