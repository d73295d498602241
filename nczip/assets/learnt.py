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
#: The states for text without a model, by the layout of the predictors.
BY_LAYOUT = {"full": WITHOUT_MODEL, "light": "learnt-light", "medium": "learnt-medium"}
ADVICE = "install nczip again, or compress with --no-primer"


def learnt_for(fingerprint: bytes | None, layout: str = "full") -> State:
    """The learnt state for text under a model, or without one.

    Args:
        fingerprint: the first bytes of the SHA-256 of the model's file; None for no model.
        layout: of the predictors.

    Raises:
        PrimerError: its file is missing or damaged.
    """
    return _load(name_for(fingerprint, layout))


def name_for(fingerprint: bytes | None, layout: str = "full") -> str:
    """The id of the state that :func:`learnt_for` gives."""
    if fingerprint is None:
        return BY_LAYOUT[layout]
    for name, asset in manifest.manifest(manifest.FOLDER).items():
        if asset.learnt_under and bytes.fromhex(asset.learnt_under).startswith(fingerprint):
            return name
    return GENERIC


@functools.lru_cache(maxsize=2)
def _load(name: str) -> State:
    return unpack_learnt(zstandard.decompress(manifest.read(name, PrimerError, ADVICE)))
