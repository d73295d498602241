"""Which bytes of a block are text, binary, or not worth coding: a choice of the encoder's.

A block is looked at in cells of 1 KiB. Text cells hold hardly any control bytes and are valid
UTF-8 but for their edges; neighbouring cells of a kind make a run, and short runs join their
neighbours. Runs that neither an order-0 model nor zstd can shrink are stored.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import zstandard

from nczip.formats.runs import Run, RunKind, size_of

_CELL = 1024
_SHORT_RUN = 4  # cells
_BAD_SHARE = 0.02  # of a text cell's bytes at most
_STORED_CELL = 64 * _CELL
_RANDOM_ENTROPY = 7.95  # bits per byte; a uniform sample of 64 KiB has 7.997
_PRINTABLE = np.array([32 <= byte < 127 or byte in b"\t\n\r" for byte in range(256)])
_PRINTABLE_SHARE = 0.7  # programs and records have at most half, text in odd encodings has more

U8Array = npt.NDArray[np.uint8]


class Segments(NamedTuple):
    """A block cut into runs whose sizes sum to its own."""

    plain: list[Run]  #: text counts as binary
    with_text: list[Run]  #: text is told apart


def segment(raw: bytes) -> Segments:
    """Cut a block into runs, with text told apart and without."""
    if not raw:
        return Segments([], [])
    data = np.frombuffer(raw, np.uint8)
    plain = np.full(-(-len(data) // _CELL), RunKind.BINARY, np.int64)
    with_text = plain.copy()
    with_text[_text_cells(data)] = RunKind.TEXT
    _absorb_short_runs(with_text)
    for start in range(0, len(data), _STORED_CELL):
        if _is_random(data[start : start + _STORED_CELL]):
            cells = slice(start // _CELL, (start + _STORED_CELL) // _CELL)
            plain[cells] = with_text[cells] = RunKind.STORED
    return Segments(_runs(plain, len(data)), _runs(with_text, len(data)))


def is_mostly_text(raw: bytes, runs: Sequence[Run]) -> bool:
    """Whether more than half of a block is text, or nearly all of it printable ASCII.

    Args:
        raw: the block.
        runs: its runs, with text told apart.
    """
    printable = np.count_nonzero(_PRINTABLE[np.frombuffer(raw, np.uint8)])
    if printable > _PRINTABLE_SHARE * len(raw):
        return True
    return 2 * size_of(runs, RunKind.TEXT) > len(raw)


def _text_cells(data: U8Array) -> npt.NDArray[np.bool_]:
    """Which cells are text; bool[cells]."""
    bad = data < 32
    for layout in b"\t\n\r\f":
        bad &= data != layout
    bad |= data == 127
    bad |= ~_fits_utf8(data)
    cells = -(-len(data) // _CELL)
    counts = np.add.reduceat(bad.astype(np.int64), np.arange(0, len(data), _CELL))
    sizes = np.full(cells, _CELL)
    sizes[-1] = len(data) - (cells - 1) * _CELL
    share: npt.NDArray[np.bool_] = counts <= sizes * _BAD_SHARE
    return share


def _fits_utf8(data: U8Array) -> npt.NDArray[np.bool_]:
    """Whether each byte has the neighbours that UTF-8 wants: lead bytes before continuations."""
    continuation = (data & 0xC0) == 0x80
    after_lead = np.zeros(len(data), np.bool_)
    for distance, least in ((1, 0xC2), (2, 0xE0), (3, 0xF0)):
        after_lead[distance:] |= data[:-distance] >= least
    lead = data >= 0xC2
    followed = np.zeros(len(data), np.bool_)
    followed[:-1] = continuation[1:]
    fits: npt.NDArray[np.bool_] = (data < 0x80) | (continuation & after_lead) | (lead & followed)
    return fits


def _absorb_short_runs(kinds: npt.NDArray[np.int64]) -> None:
    """Text between binary that is too short to be worth a start of its own becomes binary."""
    edges = np.flatnonzero(np.diff(kinds)) + 1
    starts = np.concatenate([[0], edges])
    stops = np.concatenate([edges, [len(kinds)]])
    for start, stop in zip(starts, stops, strict=True):
        whole = start == 0 and stop == len(kinds)
        if kinds[start] == RunKind.TEXT and stop - start < _SHORT_RUN and not whole:
            kinds[start:stop] = RunKind.BINARY


def _is_random(cell: U8Array) -> bool:
    """Whether neither byte frequencies nor repetitions promise any gain."""
    if len(cell) < _STORED_CELL:
        return False
    counts = np.bincount(cell, minlength=256)
    shares = counts[counts > 0] / len(cell)
    if -(shares * np.log2(shares)).sum() < _RANDOM_ENTROPY:
        return False
    return len(zstandard.compress(cell.tobytes(), 3)) >= len(cell)


def _runs(kinds: npt.NDArray[np.int64], size: int) -> list[Run]:
    edges = np.concatenate([[0], np.flatnonzero(np.diff(kinds)) + 1, [len(kinds)]]) * _CELL
    edges[-1] = size
    return [
        Run(RunKind(int(kinds[start // _CELL])), int(stop - start))
        for start, stop in itertools.pairwise(edges)
    ]
