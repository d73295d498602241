"""The corpora that compressors are measured on: what they are, where they lie, how to get them."""

from nczip.corpora.manifest import Archive, Corpus, CorpusFile, load_manifest
from nczip.corpora.store import find, search_folders, select

__all__ = [
    "Archive",
    "Corpus",
    "CorpusFile",
    "find",
    "load_manifest",
    "search_folders",
    "select",
]
