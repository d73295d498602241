"""Which bytes of a block are text, binary, or not worth coding.

A block is looked at in cells of 1 KiB. Text cells hold hardly any control bytes and are valid
UTF-8 but for their edges; neighbouring cells of a kind make a run, and short runs join their
neighbours. Runs that neither an order-0 model nor zstd can shrink are stored.
"""

import itertools
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import zstandard

from nczip.coder.errors import CorruptError
from nczip.formats.varint import decode_varint, encode_varint

_CELL = 1024
_SHORT_RUN = 4  # cells
_BAD_SHARE = 0.02  # of a text cell's bytes at most
_STORED_CELL = 64 * _CELL
_RANDOM_ENTROPY = 7.95  # bits per byte; a uniform sample of 64 KiB has 7.997
_MAX_RUNS = 1 << 20
_PRINTABLE = np.array([32 <= byte < 127 or byte in b"\t\n\r" for byte in range(256)])
_PRINTABLE_SHARE = 0.7  # programs and records have at most half, text in odd encodings has more

U8Array = npt.NDArray[np.uint8]


class Kind(IntEnum):
    """How a run is kept."""

    STORED = 0
    BINARY = 1
    TEXT = 2


@dataclass(frozen=True)
class Run:
    """Consecutive bytes of one kind."""

    kind: Kind
    size: int


def segment(raw: bytes, with_text: bool) -> list[Run]:
    """Cut a block into runs whose sizes sum to ``len(raw)``; ``with_text`` tells text apart."""
    if not raw:
        return []
    data = np.frombuffer(raw, np.uint8)
    kinds = np.full(-(-len(data) // _CELL), Kind.BINARY, np.int64)
    if with_text:
        kinds[_text_cells(data)] = Kind.TEXT
        _absorb_short_runs(kinds)
    for start in range(0, len(data), _STORED_CELL):
        if _is_random(data[start : start + _STORED_CELL]):
            kinds[start // _CELL : (start + _STORED_CELL) // _CELL] = Kind.STORED
    return _runs(kinds, len(data))


def has_text(raw: bytes) -> bool:
    """Whether :func:`segment` finds text in a block."""
    return any(run.kind == Kind.TEXT for run in segment(raw, with_text=True))


def is_mostly_text(raw: bytes) -> bool:
    """Whether more than half of a block is text, or nearly all of it printable ASCII."""
    if np.count_nonzero(_PRINTABLE[np.frombuffer(raw, np.uint8)]) > _PRINTABLE_SHARE * len(raw):
        return True
    runs = segment(raw, with_text=True)
    return 2 * sum(run.size for run in runs if run.kind == Kind.TEXT) > len(raw)


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
        if kinds[start] == Kind.TEXT and stop - start < _SHORT_RUN and not whole:
            kinds[start:stop] = Kind.BINARY


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
        Run(Kind(int(kinds[start // _CELL])), int(stop - start))
        for start, stop in itertools.pairwise(edges)
    ]


def build_runs(runs: list[Run]) -> bytes:
    """The run table: a count, then kind and size of each run in one number."""
    table = encode_varint(len(runs))
    return table + b"".join(encode_varint(run.size << 2 | run.kind) for run in runs)


def parse_runs(data: bytes, raw_size: int) -> tuple[list[Run], int]:
    """The run table at the start of ``data``, and its size; checked to add up to ``raw_size``."""
    count, at = decode_varint(data, 0)
    if count > _MAX_RUNS:
        raise CorruptError("a block's run table is damaged")
    runs = []
    for _ in range(count):
        number, at = decode_varint(data, at)
        if number & 3 > Kind.TEXT:
            raise CorruptError("a block has a run of unknown kind")
        runs.append(Run(Kind(number & 3), number >> 2))
    if sum(run.size for run in runs) != raw_size:
        raise CorruptError("a block's runs do not add up to its size")
    return runs, at


def gather(raw: bytes, runs: list[Run], kind: Kind) -> bytes:
    """All bytes of one kind, in order."""
    pieces = []
    start = 0
    for run in runs:
        if run.kind == kind:
            pieces.append(raw[start : start + run.size])
        start += run.size
    return b"".join(pieces)


def scatter(runs: list[Run], parts: dict[Kind, bytes]) -> bytes:
    """The inverse of :func:`gather`: the block from the bytes of each kind."""
    used = dict.fromkeys(Kind, 0)
    pieces = []
    for run in runs:
        start = used[run.kind]
        pieces.append(parts[run.kind][start : start + run.size])
        used[run.kind] += run.size
    return b"".join(pieces)
