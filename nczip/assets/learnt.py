"""Learnt states: how far to trust what the tables say, with a model or without."""

import functools
from typing import Any

import numpy.typing as npt
import zstandard

from nczip.assets import manifest
from nczip.coder.errors import PrimerError
from nczip.predictors.learnt import unpack_learnt

State = dict[str, npt.NDArray[Any]]

# The state for text without a model, and the one for text under a model that has none of its own:
# the built-in model's serves any (SmolLM2-135M, 100 kB of book1: 19,164 bytes; with that of text
# without a model 19,236, with none 19,253).
WITHOUT_MODEL, GENERIC = "learnt", "learnt-tokens"
ADVICE = "install nczip again, or compress with --no-primer"


def learnt_for(fingerprint: bytes | None) -> State:
    """The learnt state for text under a model, or without one.

    Args:
        fingerprint: the first bytes of the SHA-256 of the model's file; None for no model.

    Raises:
        PrimerError: its file is missing or damaged.
    """
    return _load(name_for(fingerprint))


def name_for(fingerprint: bytes | None) -> str:
    """The id of the state that :func:`learnt_for` gives."""
    if fingerprint is None:
        return WITHOUT_MODEL
    for name, asset in manifest.manifest(manifest.FOLDER).items():
        if asset.learnt_under and bytes.fromhex(asset.learnt_under).startswith(fingerprint):
            return name
    return GENERIC


@functools.lru_cache(maxsize=2)
def _load(name: str) -> State:
    return unpack_learnt(zstandard.decompress(manifest.read(name, PrimerError, ADVICE)))
