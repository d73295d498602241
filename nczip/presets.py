"""Presets: named points between speed and ratio."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

#: The model that ships with nczip.
BUILT_IN = "nczip-9m-q8_0"

PresetName = Literal["swift", "quick", "fast", "default", "max"]
EngineName = Literal["exact", "llama"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


@dataclass(frozen=True)
class Preset:
    """What a preset's name stands for."""

    block_size: int
    table_bits: int
    lanes: int
    sinks: int  #: a lane's first tokens that stay in its window
    window: int  #: tokens
    model: str | None
    layout: str = "full"  #: of the predictors, where no model is used: predictors/layout.py


PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "swift": Preset(
            4 << 20, table_bits=20, lanes=1, sinks=0, window=512, model=None, layout="light"
        ),
        "quick": Preset(
            8 << 20, table_bits=21, lanes=1, sinks=0, window=512, model=None, layout="medium"
        ),
        "fast": Preset(8 << 20, table_bits=22, lanes=1, sinks=0, window=512, model=None),
        "default": Preset(4 << 20, table_bits=22, lanes=8, sinks=0, window=512, model=BUILT_IN),
        "max": Preset(32 << 20, table_bits=24, lanes=1, sinks=0, window=512, model=BUILT_IN),
    }
)
