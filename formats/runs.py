"""Runs: how the bytes of a block are kept, piece by piece (SPEC.md, "Run table")."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from nczip.coder.errors import CorruptError
from nczip.formats.varint import decode_varint, encode_varint

_MAX_RUNS = 1 << 20


class RunKind(IntEnum):
    """How a run is kept: as it is, coded byte by byte, or coded token by token."""

    STORED = 0
    BINARY = 1
    TEXT = 2


@dataclass(frozen=True)
class Run:
    """Consecutive bytes of one kind."""

    kind: RunKind
    size: int


def build_runs(runs: Sequence[Run]) -> bytes:
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
        if number & 3 > RunKind.TEXT:
            raise CorruptError("a block has a run of unknown kind")
        runs.append(Run(RunKind(number & 3), number >> 2))
    if sum(run.size for run in runs) != raw_size:
        raise CorruptError("a block's runs do not add up to its size")
    return runs, at


def size_of(runs: Sequence[Run], kind: RunKind) -> int:
    """How many bytes the runs of a kind hold."""
    return sum(run.size for run in runs if run.kind == kind)


def gather(raw: bytes, runs: Sequence[Run], kind: RunKind) -> bytes:
    """All bytes of one kind, in order."""
    pieces = []
    start = 0
    for run in runs:
        if run.kind == kind:
            pieces.append(raw[start : start + run.size])
        start += run.size
    return b"".join(pieces)


def scatter(runs: Sequence[Run], parts: dict[RunKind, bytes]) -> bytes:
    """The inverse of :func:`gather`: the block from the bytes of each kind."""
    used = dict.fromkeys(RunKind, 0)
    pieces = []
    for run in runs:
        start = used[run.kind]
        pieces.append(parts[run.kind][start : start + run.size])
        used[run.kind] += run.size
    return b"".join(pieces)
