"""The recurrent network that ships with nczip; it belongs to the format."""

import functools

import zstandard

from nczip.assets import manifest
from nczip.coder.errors import ModelError
from nczip.predictors.recurrent import Weights, unpack_weights


@functools.cache
def load_network() -> Weights:
    """Its weights.

    Raises:
        ModelError: the file is missing, or not the one of this version.
    """
    return unpack_weights(zstandard.decompress(manifest.read("network", ModelError)))
