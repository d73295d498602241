"""What manifest.toml says: corpora, their files, and the archives that they come in."""

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Archive:
    """A file on the net that holds members of corpora."""

    name: str
    url: str
    size: int
    sha256: str


@dataclass(frozen=True)
class CorpusFile:
    """A member of a corpus; it comes from an archive, an address of its own, or another file."""

    corpus: str
    name: str
    size: int
    sha256: str | None = None  #: None: verified through the archive, or the file it is the head of
    archive: str | None = None
    url: str | None = None
    head_of: str | None = None  #: path of the file whose first ``size`` bytes it is

    @property
    def path(self) -> str:
        """``corpus/name``, how the file is called everywhere."""
        return f"{self.corpus}/{self.name}"


@dataclass(frozen=True)
class Corpus:
    """A collection of files."""

    name: str
    title: str
    licence: str
    source: str
    files: tuple[CorpusFile, ...]


@dataclass(frozen=True)
class Manifest:
    """All corpora and archives, by name."""

    corpora: dict[str, Corpus]
    archives: dict[str, Archive]

    def file(self, path: str) -> CorpusFile | None:
        """The file called ``corpus/name``."""
        return next((f for c in self.corpora.values() for f in c.files if f.path == path), None)


def parse_manifest(text: str) -> Manifest:
    """A manifest from TOML.

    Raises:
        TypeError, KeyError, tomllib.TOMLDecodeError: it is not one.
    """
    data = tomllib.loads(text)
    archives = {name: Archive(name=name, **value) for name, value in data["archives"].items()}
    corpora = {}
    for name, value in data["corpora"].items():
        files = tuple(CorpusFile(corpus=name, **entry) for entry in value.pop("files"))
        corpora[name] = Corpus(name=name, files=files, **value)
    return Manifest(corpora, archives)


@functools.cache
def load_manifest() -> Manifest:
    """The manifest that ships with nczip."""
    return parse_manifest((Path(__file__).parent / "manifest.toml").read_text())
