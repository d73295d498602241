"""Keeps what we measure on out of what we train on: shingles of eight words."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

SHINGLE_WORDS = 8

_WORD = re.compile(rb"[0-9a-z\x80-\xff]+")
_K = np.uint64(0x9E3779B97F4A7C15)


def shingles(text: bytes) -> npt.NDArray[np.uint64]:
    """Hashes of all runs of eight words of a text, without case and punctuation; uint64[n - 7]."""
    known: dict[bytes, int] = {}
    words = _WORD.findall(text.lower())
    for word in words:
        if word not in known:
            known[word] = xxhash.xxh3_64_intdigest(word)
    hashes = np.array([known[word] for word in words], np.uint64)
    count = max(len(words) - SHINGLE_WORDS + 1, 0)
    total = np.zeros(count, np.uint64)
    for i in range(SHINGLE_WORDS):
        total = (total ^ hashes[i : i + count]) * _K
        total ^= total >> np.uint64(29)
    return total


class Decontaminator:
    """Tells whether a text shares a shingle with any of the texts to keep out."""

    def __init__(self, keep_out: Iterable[bytes]) -> None:
        parts = [shingles(text) for text in keep_out]
        self._known = np.unique(np.concatenate([np.zeros(0, np.uint64), *parts]))

    @classmethod
    def of_folder(cls, folder: Path) -> "Decontaminator":
        """Keeps out all files of a folder."""
        return cls(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())

    def is_clean(self, text: bytes) -> bool:
        found = shingles(text)
        if not len(found) or not len(self._known):
            return True
        at = np.minimum(np.searchsorted(self._known, found), len(self._known) - 1)
        return not bool(np.any(self._known[at] == found))
