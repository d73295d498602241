"""The match model: the longest known repetition of the lane's last bytes predicts the next one.

As in lpaq1 (M. Mahoney), but verified: the hash only proposes a place, the length is counted
byte by byte, and after a mismatch the next proposal is looked up at once. Lanes find matches in
what any lane has coded so far.
"""

import numpy as np
import numpy.typing as npt
from nczip.coder.jit import kernel
from nczip.predictors.contexts import MATCH_LENGTH, MATCH_POINTER, POSITION, START

MIN_LENGTH = 6
_VERIFY_LIMIT = 400
_MAX_LENGTH = 65535
LENGTH_BUCKETS = 32

_K = np.uint64(0x9E3779B97F4A7C15)


def new_match_table(bits: int) -> npt.NDArray[np.int32]:
    """Positions behind the last occurrence of each hash of 6 bytes, 0 unknown; int32[2^bits]."""
    return np.zeros(1 << bits, np.int32)


@kernel(inline=True)
def _is_coded(lanes, position):
    """Whether the byte at ``position`` has been coded: false at every lane's own front."""
    for lane in range(lanes.shape[0]):
        if position == lanes[lane, POSITION]:
            return False
    return True


@kernel(inline=True)
def _common_length(data, lanes, lane, pointer):
    """How many bytes before ``pointer``, in its own lane, equal those before the lane's position.

    The end of the lane before the pointer's is not known to a decoder yet.
    """
    first = np.int64(0)
    for other in range(lanes.shape[0]):
        if lanes[other, START] <= pointer:
            first = max(first, lanes[other, START])
    position = lanes[lane, POSITION]
    limit = min(position - lanes[lane, START], pointer - first, _VERIFY_LIMIT)
    length = 0
    while length < limit and data[pointer - length - 1] == data[position - length - 1]:
        length += 1
    return length


@kernel()
def update_match(data, lanes, lane, table):
    """Follow or renew the lane's match; called after its position has moved past a byte."""
    position = lanes[lane, POSITION]
    pointer, length = lanes[lane, MATCH_POINTER], lanes[lane, MATCH_LENGTH]
    if length > 0 and data[pointer] == data[position - 1]:
        length = min(length + 1, _MAX_LENGTH)
        pointer += 1
    else:
        length = 0
    if position - lanes[lane, START] >= MIN_LENGTH:
        h = np.uint64(0)
        for distance in range(1, MIN_LENGTH + 1):
            h = h << np.uint64(8) | np.uint64(data[position - distance])
        # The top bits of the product index the table.
        slot = np.int64(h * _K >> np.uint64(40)) & (table.shape[0] - 1)
        if length == 0 and table[slot] > 0:
            pointer = np.int64(table[slot])
            length = _common_length(data, lanes, lane, pointer)
            if length < MIN_LENGTH:
                length = 0
        table[slot] = np.int32(position)
    if length > 0 and not _is_coded(lanes, pointer):
        length = 0
    lanes[lane, MATCH_POINTER] = pointer
    lanes[lane, MATCH_LENGTH] = length


@kernel(inline=True)
def expected_byte(data, lanes, lane):
    """The byte that the match predicts, + 256; 0 without a match (int64)."""
    if lanes[lane, MATCH_LENGTH] == 0:
        return 0
    return np.int64(data[lanes[lane, MATCH_POINTER]]) | 256


@kernel(inline=True)
def length_bucket(length):
    """Match lengths in 32 classes: each up to 15, then ever wider."""
    if length < 16:
        return length
    if length < 32:
        return 16 + ((length - 16) >> 2)
    if length < 64:
        return 20 + ((length - 32) >> 3)
    return min(24 + ((length - 64) >> 6), LENGTH_BUCKETS - 1)
