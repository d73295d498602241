"""The catalogue: public models by name, where they come from, and how nczip uses them."""

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).parent / "catalogue.toml"


@dataclass(frozen=True)
class CatalogueModel:
    """An entry of catalogue.toml."""

    name: str
    title: str
    licence: str
    size: int  #: bytes of the GGUF file
    sha256: str  #: of the GGUF file
    sources: tuple[str, ...]  #: tried in this order (nczip.assets.origins)
    lanes: int
    window: int  #: tokens
    sinks: int  #: first tokens of a lane that its window never loses
    learnt: str  #: id of the learnt state in manifest.toml
    bits_per_byte: float | None = None  #: alice29.txt, as measured
    kb_per_s: float | None = None  #: compressing it, as measured

    @property
    def fingerprint(self) -> bytes:
        """The SHA-256 as bytes."""
        return bytes.fromhex(self.sha256)


@functools.cache
def catalogue() -> dict[str, CatalogueModel]:
    """All entries by name."""
    entries = tomllib.loads(PATH.read_text())
    return {
        name: CatalogueModel(name=name, **entry | {"sources": tuple(entry["sources"])})
        for name, entry in entries.items()
    }


def entry_for(fingerprint: bytes) -> CatalogueModel | None:
    """The entry of the model whose SHA-256 starts so, if there is one."""
    known = catalogue().values()
    return next((entry for entry in known if entry.fingerprint.startswith(fingerprint)), None)
