"""Presets: named points between speed and ratio; levels: numbers that stand for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from nczip.assets.catalogue import catalogue

#: The model that ships with nczip.
BUILT_IN = "nczip-9m-q8_0"

PresetName = Literal["swift", "quick", "fast", "default", "smollm2", "max"]
Level = Literal[1, 2, 3, 4, 5, 6, 7, 8, 9]
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
        "swift": Preset(
            4 << 20, table_bits=20, lanes=1, sinks=0, window=512, model=None, layout="light"
        ),
        "quick": Preset(
            8 << 20, table_bits=21, lanes=1, sinks=0, window=512, model=None, layout="medium"
        ),
        "fast": Preset(8 << 20, table_bits=22, lanes=1, sinks=0, window=512, model=None),
        "default": Preset(4 << 20, table_bits=22, lanes=8, sinks=0, window=512, model=BUILT_IN),
        "smollm2": _of_catalogue("smollm2"),
        "max": Preset(32 << 20, table_bits=24, lanes=1, sinks=0, window=512, model=BUILT_IN),
    }
)

#: What the levels of gzip, xz and zstd stand for.
LEVELS: Mapping[int, PresetName] = MappingProxyType(
    {
        1: "swift",
        2: "quick",
        **dict.fromkeys((3, 4), "fast"),
        **dict.fromkeys((5, 6, 7), "default"),
        8: "smollm2",
        9: "max",
    }
)


def preset_name(preset: PresetName | Level) -> PresetName:
    """The preset that a level stands for; a name is what it is.

    Raises:
        ValueError: there is no such preset or level.
    """
    if isinstance(preset, str) and preset in PRESETS:
        return preset
    if isinstance(preset, int) and not isinstance(preset, bool) and preset in LEVELS:
        return LEVELS[preset]
    what = f"unknown preset '{preset}'" if isinstance(preset, str) else f"no level {preset!r}"
    raise ValueError(
        f"{what}: choose from {', '.join(PRESETS)}, or a level from {min(LEVELS)} to {max(LEVELS)}"
    )
