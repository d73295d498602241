"""Presets: named points between speed and ratio."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from nczip.assets.catalogue import catalogue

#: The model that ships with nczip.
BUILT_IN = "nczip-9m-q8_0"

PresetName = Literal["fast", "default", "max", "smollm2"]
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


def _of_catalogue(name: str) -> Preset:
    """A preset for a model of the catalogue, which knows how it is used best."""
    entry = catalogue()[name]
    return Preset(
        4 << 20,
        table_bits=22,
        lanes=entry.lanes,
        sinks=entry.sinks,
        window=entry.window,
        model=name,
    )


PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
    {
        "fast": Preset(8 << 20, table_bits=22, lanes=1, sinks=0, window=512, model=None),
        "default": Preset(4 << 20, table_bits=22, lanes=8, sinks=0, window=512, model=BUILT_IN),
        "max": Preset(32 << 20, table_bits=24, lanes=1, sinks=0, window=512, model=BUILT_IN),
        "smollm2": _of_catalogue("smollm2"),
    }
)
