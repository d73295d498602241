"""``nczip warm``: make ahead what a first run makes, for containers and impatient people.

That is the compiled kernels and the primed table, both in the user's cache folder.
"""

import time
from dataclasses import dataclass, replace

from nczip.assets.primer import table_path
from nczip.coder.kernelcache import kernel_cache_folder
from nczip.engines import LoadedModel
from nczip.formats.container import MIN_TABLE_BITS
from nczip.headers import build_header, open_codec
from nczip.options import Announce, CompressOptions
from nczip.planning import Needs
from nczip.predictors.codec import decode, encode
from nczip.presets import PresetName
from nczip.settings import choose

_SAMPLE = b"It was the best of times, it was the worst of times. " * 4


@dataclass(frozen=True)
class Made:
    """What there was not before."""

    kernels: int
    table: bool  #: the primed one
    seconds: float


def count_kernels() -> int:
    """How many compiled kernels this nczip has kept."""
    return sum(1 for _ in kernel_cache_folder().glob("*.kernel"))


def warm(preset: PresetName, announce: Announce | None = None) -> Made:
    """Code a few bytes as ``preset`` does, both ways, so that all it takes is there.

    Raises:
        ModelError: the preset's model is not here.
    """
    start, kernels, had_table = time.perf_counter(), count_kernels(), table_path().exists()
    settings = choose(CompressOptions(preset, announce=announce))
    model: LoadedModel | None = settings.model
    header = build_header(settings, Needs(model is not None, primer=True), 1)
    codec = replace(open_codec(header, model, 1, announce), table_bits=MIN_TABLE_BITS)
    text = b"" if model is None else _SAMPLE
    coded = encode(text, _SAMPLE, codec)
    assert coded is not None, "the sample can be compressed"
    decode(coded, len(text), len(_SAMPLE), codec)
    made_table = table_path().exists() and not had_table
    return Made(count_kernels() - kernels, made_table, time.perf_counter() - start)
