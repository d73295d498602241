"""N-gram tables: hashed contexts in cache lines.

A context owns one slot of 20 bytes for each nibble that follows it; three slots share a line of
64 bytes, so that a context costs one cache line and nibble (the idea of lpaq1's nibble hash and
paq8's buckets, M. Mahoney):

    u16 check | u8 run byte | u8 run count | u8 "token ends here" | u8[15] nodes of the nibble

A node is a bit history (predictors/history.py). The run, the byte that last followed the context
and how often in a row, and the token end belong to the slot of a byte's first nibble.
"""

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


def new_table(bits: int) -> npt.NDArray[np.uint8]:
    """An empty table of 2^bits lines, uint8[2^bits * 64], aligned to cache lines."""
    size = LINE_BYTES << bits
    raw = np.zeros(size + LINE_BYTES, np.uint8)
    skip = -raw.ctypes.data % LINE_BYTES
    return raw[skip : skip + size]


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
    return np.int64(h >> np.uint64(20)) & (table.shape[0] - LINE_BYTES)


@kernel(inline=True)
def find_slot(table, checks, words, h):
    """Where the slot of hash ``h`` starts (int64, bytes): its own, or the one of its line that
    has seen least, emptied for it.

    ``checks`` and ``words`` are the table seen as uint16 and uint32.
    """
    check = np.uint16((h >> np.uint64(4)) & np.uint64(0xFFFF)) | np.uint16(1)
    line = home_line(table, h)
    least, victim = np.int64(256), line
    found = np.int64(-1)
    for slot in (line + 2 * SLOT_BYTES, line + SLOT_BYTES, line):
        priority = np.int64(PRIORITY[table[slot + ROOT]])
        victim = slot if priority <= least else victim
        least = min(priority, least)
        found = slot if checks[slot >> 1] == check else found
    if found >= 0:
        return found
    for i in range(victim >> 2, (victim + SLOT_BYTES) >> 2):
        words[i] = 0
    checks[victim >> 1] = check
    return victim


@kernel(inline=True)
def update_node(table, at, bit):
    """The node at byte ``at`` has seen ``bit`` (int64)."""
    table[at] = NEXT_STATE[table[at], bit]


@kernel(inline=True)
def update_run(table, slot, byte):
    """The context of a first nibble's slot was followed by ``byte`` (int64)."""
    if table[slot + RUN_BYTE] == byte:
        table[slot + RUN_COUNT] = min(table[slot + RUN_COUNT] + 1, _RUN_LIMIT)
    else:
        table[slot + RUN_BYTE] = byte
        table[slot + RUN_COUNT] = 1
