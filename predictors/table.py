"""N-gram tables: hashed contexts in cache lines.

A context owns one slot of 20 bytes for each nibble that follows it; three slots share a line of
64 bytes, so that a context costs one cache line and nibble (the idea of lpaq1's nibble hash and
paq8's buckets, M. Mahoney):

    u16 check | u8 run byte | u8 run count | u8 "token ends here" | u8[15] nodes of the nibble

A node is a bit history (predictors/history.py). The run, the byte that last followed the context
and how often in a row, and the token end belong to the slot of a byte's first nibble.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.jit import kernel
from nczip.predictors.history import NEXT_STATE, PRIORITY

LINE_BYTES = 64
SLOTS = 3
SLOT_BYTES = 20
RUN_BYTE, RUN_COUNT, NODES = 2, 3, 4
ROOT = NODES + 1  #: node 1; node 0 is the token end

_K1 = np.uint64(0x9E3779B97F4A7C15)
_K2 = np.uint64(0xD6E8FEB86659FD93)
_ONE = np.uint64(1)
_RUN_LIMIT = 255


class Table(NamedTuple):
    """The lines of an n-gram table: one memory, seen in three ways."""

    data: npt.NDArray[np.uint8]  #: uint8[lines * 64]
    checks: npt.NDArray[np.uint16]  #: uint16[lines * 32]
    words: npt.NDArray[np.uint32]  #: uint32[lines * 16]


def view_table(data: npt.NDArray[np.uint8]) -> Table:
    """A table in the memory of ``data``, 2^n lines of 64 bytes, aligned to them."""
    return Table(data, data.view(np.uint16), data.view(np.uint32))


def new_table(bits: int) -> Table:
    """An empty table of 2^bits lines."""
    size = LINE_BYTES << bits
    raw = np.zeros(size + LINE_BYTES, np.uint8)
    skip = -raw.ctypes.data % LINE_BYTES
    return view_table(raw[skip : skip + size])


@kernel(inline=True)
def hash_pair(a, b):
    """A 64-bit hash of two uint64."""
    h = (a + _ONE) * _K1 ^ b * _K2
    h ^= h >> np.uint64(29)
    return h * _K1


@kernel(inline=True)
def nibble_hash(h, nibble):
    """The hash of a context after its first nibble (int64)."""
    return (h ^ np.uint64(nibble + 1) * _K2) * _K1


@kernel(inline=True)
def home_line(table, h):
    """Where the line of hash ``h`` starts in the table (int64, bytes)."""
    return np.int64(h >> np.uint64(20)) & (table.data.shape[0] - LINE_BYTES)


@kernel(inline=True)
def _check(h):
    """What tells the contexts of a line apart: 16 bits of the hash, never 0, which is free."""
    return np.uint16((h >> np.uint64(4)) & np.uint64(0xFFFF)) | np.uint16(1)


@kernel(inline=True)
def search(table, h):
    """Where the slot of hash ``h`` starts (int64, bytes).

    Returns -1 - v where it has none, v being the slot of its line that has seen least."""
    check = _check(h)
    line = home_line(table, h)
    least, victim = np.int64(256), line
    found = np.int64(-1)
    for slot in (line + 2 * SLOT_BYTES, line + SLOT_BYTES, line):
        priority = np.int64(PRIORITY[table.data[slot + ROOT]])
        victim = slot if priority <= least else victim
        least = min(priority, least)
        found = slot if table.checks[slot >> 1] == check else found
    return found if found >= 0 else -1 - victim


@kernel(inline=True)
def claim(table, slot, h):
    """Empty ``slot`` for hash ``h``."""
    for i in range(slot >> 2, (slot + SLOT_BYTES) >> 2):
        table.words[i] = 0
    table.checks[slot >> 1] = _check(h)


@kernel(inline=True)
def copy_known(table, slot, primed, h):
    """Put into ``slot``, just claimed for hash ``h``, what the primed table knows of it, if any."""
    check = _check(h)
    line = home_line(primed, h)
    source = np.int64(-1)
    for candidate in (line + 2 * SLOT_BYTES, line + SLOT_BYTES, line):
        source = candidate if primed.checks[candidate >> 1] == check else source
    if source >= 0:
        for i in range(SLOT_BYTES >> 2):
            table.words[(slot >> 2) + i] = primed.words[(source >> 2) + i]


@kernel(inline=True)
def update_node(table, at, bit):
    """The node at byte ``at`` has seen ``bit`` (int64)."""
    table.data[at] = NEXT_STATE[table.data[at], bit]


@kernel(inline=True)
def update_run(table, slot, byte):
    """The context of a first nibble's slot was followed by ``byte`` (int64)."""
    data = table.data
    if data[slot + RUN_BYTE] == byte:
        data[slot + RUN_COUNT] = min(data[slot + RUN_COUNT] + 1, _RUN_LIMIT)
    else:
        data[slot + RUN_BYTE] = byte
        data[slot + RUN_COUNT] = 1
