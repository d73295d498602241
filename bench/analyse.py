"""What each part of nczip contributes: ablation, bits along a file, language models compared."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Unpack

import nczip
from nczip.options import CompressKeywords
from nczip.presets import PresetName

Inputs = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Row:
    """One setting: its compressed size of every file."""

    name: str
    sizes: list[int]


def _sizes(files: Inputs, preset: PresetName, **options: Unpack[CompressKeywords]) -> list[int]:
    return [len(nczip.compress(data, preset, **options)) for _, data in files]


def ablate(files: Inputs, preset: PresetName) -> Iterator[Row]:
    """The whole ensemble, then without one predictor each, then without the primer."""
    yield Row("(all)", _sizes(files, preset))
    for name, bit in nczip.PREDICTORS.items():
        yield Row(name, _sizes(files, preset, disabled=bit))
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
    alone = sum(bit for name, bit in nczip.PREDICTORS.items() if name != "transformer")
    for model in models:
        report(f"{model}, alone")
        single = Row("alone", _sizes(files, "default", model=model, disabled=alone, primer=False))
        report(f"{model}, in the ensemble")
        yield model, single, Row("ensemble", _sizes(files, "default", model=model))
