"""What each part of nczip contributes: ablation, bits along a file, language models compared."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Unpack

import nczip
from nczip.options import CompressKeywords
from nczip.presets import PRESETS, PresetName

Inputs = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Row:
    """One setting: its compressed size of every file."""

    name: str
    sizes: list[int]


def _sizes(
    files: Inputs,
    preset: PresetName,
    without: frozenset[str] = frozenset(),
    **options: Unpack[CompressKeywords],
) -> list[int]:
    sizes = []
    for _, data in files:
        compressor = nczip.Compressor(preset, **options)
        compressor.without = without
        sizes.append(len(compressor.compress(data)) + len(compressor.flush()))
    return sizes


def ablate(files: Inputs, preset: PresetName) -> Iterator[Row]:
    """The whole ensemble, then without one part each, then without the primer."""
    from nczip.predictors.ensemble import parts
    from nczip.predictors.layout import LAYOUTS

    yield Row("(all)", _sizes(files, preset))
    for name in parts(LAYOUTS[PRESETS[preset].layout]):
        yield Row(name, _sizes(files, preset, frozenset({name})))
    yield Row("primer", _sizes(files, preset, primer=False))


def curve(data: bytes, preset: PresetName, first: int = 1024) -> list[tuple[int, float]]:
    """Bits per byte of the stretches between 1 KiB, 2 KiB, 4 KiB ... and the end of ``data``.

    Each is the difference between the sizes of two heads of the data, so the whole costs twice the
    time of compressing it once.
    """
    ends = []
    end = first
    while end < len(data):
        ends.append(end)
        end *= 2
    ends.append(len(data))
    points = []
    before = size_before = 0
    for end in ends:
        size = len(nczip.compress(data[:end], preset))
        points.append((end, 8 * (size - size_before) / max(end - before, 1)))
        before, size_before = end, size
    return points


def compare_models(
    files: Inputs, models: Sequence[str], report: Callable[[str], None] = lambda message: None
) -> Iterator[tuple[str, Row, Row]]:
    """For each model: (model, sizes by it alone, sizes in the ensemble)."""
    from nczip.predictors.ensemble import parts

    others = frozenset(parts()) - {"transformer"}
    for model in models:
        report(f"{model}, alone")
        single = Row("alone", _sizes(files, "default", others, model=model, primer=False))
        report(f"{model}, in the ensemble")
        yield model, single, Row("ensemble", _sizes(files, "default", model=model))
