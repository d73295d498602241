"""N-gram tables: hashed contexts in cache lines.

A context owns one line of 16 uint32 for each nibble that follows it. Word 0 holds 16 check bits
and, in the line of the first nibble, the "token ends here" slot: 12 bits of probability and 4
of count. Words 1 to 15 are the nodes of the nibble's binary tree:

    18 bits probability of a one | 6 bits count | 8 bits history (predictors/history.py)

so a context costs one cache line and nibble (the idea of lpaq1's nibble hash, M. Mahoney).
"""

import numpy as np
import numpy.typing as npt
from nczip.coder.jit import kernel
from nczip.predictors.counters import RECIPROCAL
from nczip.predictors.history import NEXT_STATE

LINE_WORDS = 16
LINE_BYTES = 4 * LINE_WORDS
MIN_TABLE_BITS = 10
MAX_TABLE_BITS = 26

_NODE_LIMIT = 60
_FRESH_NODE = np.uint32(1 << 31)
_FRESH_TOKEN_END = np.uint32(1 << 15)
_K1 = np.uint64(0x9E3779B97F4A7C15)
_K2 = np.uint64(0xD6E8FEB86659FD93)
_ONE = np.uint64(1)


def new_table(bits: int) -> npt.NDArray[np.uint32]:
    """An empty table of 2^bits lines, uint32[2^bits, 16], aligned to cache lines."""
    words = LINE_WORDS << bits
    raw = np.zeros(words + LINE_WORDS, np.uint32)
    skip = -(raw.ctypes.data // 4) % LINE_WORDS
    return raw[skip : skip + words].reshape(-1, LINE_WORDS)


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
    """The line (int64) where the search for hash ``h`` starts."""
    return np.int64(h >> np.uint64(20)) & (table.shape[0] - 1)


@kernel(inline=True)
def find_line(table, h):
    """The line of hash ``h``: its own, or the less used of two neighbours, emptied for it."""
    check = np.uint32((h >> np.uint64(4)) & np.uint64(0xFFFF)) | np.uint32(1)
    line = home_line(table, h)
    if table[line, 0] >> np.uint32(16) == check:
        return line
    other = line ^ 1
    if table[other, 0] >> np.uint32(16) == check:
        return other
    # A node's 6 bits of count follow its 18 bits of probability.
    count = (table[line, 1] >> np.uint32(8)) & np.uint32(63)
    if (table[other, 1] >> np.uint32(8)) & np.uint32(63) < count:
        line = other
    table[line, 0] = (check << np.uint32(16)) | _FRESH_TOKEN_END
    for i in range(1, LINE_WORDS):
        table[line, i] = _FRESH_NODE
    return line


@kernel(inline=True)
def update_node(node, bit):
    """A node (uint32) after ``bit`` (int64)."""
    p = np.int64(node >> np.uint32(14))
    count = np.int64((node >> np.uint32(8)) & np.uint32(63))
    state = np.int64(node & np.uint32(255))
    p += (((bit << 18) - bit - p) * RECIPROCAL[count]) >> 16
    if count < _NODE_LIMIT:
        count += 1
    return np.uint32((p << 14) | (count << 8) | np.int64(NEXT_STATE[state, bit]))


@kernel(inline=True)
def update_token_end(word, bit):
    """Word 0 of a line after a "token ends here" decision."""
    slot = np.int64(word & np.uint32(0xFFFF))
    p, count = slot >> 4, slot & 15
    p += (((bit << 12) - bit - p) * RECIPROCAL[count]) >> 16
    if count < 15:
        count += 1
    return (word & np.uint32(0xFFFF0000)) | np.uint32((p << 4) | count)
