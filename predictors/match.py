"""The match model: the longest known repetition of the lane's last bytes predicts the next one.

As in lpaq1 (M. Mahoney), but verified: the hash only proposes a place, the length is counted
byte by byte. After a mismatch the match goes on behind it, as paq8px's does, for records and logs
differ in single bytes; a longer proposal replaces it, three mismatches in a row end it. Lanes find
matches in what any lane has coded so far.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.exactmath import STRETCH
from nczip.coder.jit import kernel
from nczip.predictors.counters import EVEN_ODDS, STRETCH_SHIFT, update_counter
from nczip.predictors.memory import MATCH_LENGTH, MATCH_POINTER, MISSES, POSITION, START, is_coded
from nczip.predictors.protocol import TOKEN_END, Predictor, Setup, WeightSet

MIN_LENGTH = 6
_VERIFY_LIMIT = 400
_MAX_LENGTH = 65535
_SETTLED_LENGTH = 16  # a match that went on for so long after a mismatch is not replaced
_LOST = 0b111  # the last mismatches that end a match
_LENGTH_BUCKETS = 32
_MISS_CLASSES = 4
_LIMIT = 1023

#: How many of the last eight bytes were mismatches, at most 3: int64[256], by MISSES.
_MISS_CLASS = np.array([min(bin(misses).count("1"), _MISS_CLASSES - 1) for misses in range(256)])

_K = np.uint64(0x9E3779B97F4A7C15)


class State(NamedTuple):
    """Learnt; the matches themselves are in the memory of the lanes."""

    table: npt.NDArray[np.int32]  #: int32[2^n], position behind each hash's last six bytes, or 0
    counters: npt.NDArray[np.uint32]  #: uint32[buckets * miss classes * 2], by the expected bit


def _new(setup: Setup, states: dict[str, Any]) -> State:
    return State(
        table=np.zeros(1 << min(max(setup.table_bits - 2, 10), 22), np.int32),
        counters=np.full(_LENGTH_BUCKETS * _MISS_CLASSES * 2, EVEN_ODDS, np.uint32),
    )


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


@kernel(spliced=True)
def _leave_byte(own, block, byte, value):
    """Follow or renew the lane's match: its position has moved past a byte."""
    _update(block.data, block.lanes, byte.lane, own.table)


@kernel(internal=True)
def _update(data, lanes, lane, table):
    """The same, called by whole arrays so that it is compiled once."""
    position = lanes[lane, POSITION]
    pointer, length = lanes[lane, MATCH_POINTER], lanes[lane, MATCH_LENGTH]
    misses = lanes[lane, MISSES]
    if length > 0:
        missed = data[pointer] != data[position - 1]
        length = 1 if missed else min(length + 1, _MAX_LENGTH)
        misses = (misses << 1 | missed) & 255
        pointer += 1
    if position - lanes[lane, START] >= MIN_LENGTH:
        h = np.uint64(0)
        for distance in range(1, MIN_LENGTH + 1):
            h = h << np.uint64(8) | np.uint64(data[position - distance])
        # The top bits of the product index the table.
        slot = np.int64(h * _K >> np.uint64(40)) & (table.shape[0] - 1)
        if (length == 0 or (misses > 0 and length < _SETTLED_LENGTH)) and table[slot] > 0:
            proposed = np.int64(table[slot])
            found = _common_length(data, lanes, lane, proposed)
            if found >= MIN_LENGTH and found > length:
                pointer, length, misses = proposed, found, 0
        table[slot] = np.int32(position)
    if length > 0 and (misses & _LOST == _LOST or not is_coded(lanes, pointer)):
        length = 0
    lanes[lane, MATCH_POINTER] = pointer
    lanes[lane, MATCH_LENGTH] = length
    lanes[lane, MISSES] = misses if length > 0 else 0


@kernel(inline=True)
def expected_byte(data, lanes, lane):
    """The byte that the match predicts, + 256; 0 without a match (int64)."""
    if lanes[lane, MATCH_LENGTH] == 0:
        return 0
    return np.int64(data[lanes[lane, MATCH_POINTER]]) | 256


@kernel(inline=True)
def _length_bucket(length):
    """Match lengths in 32 classes: each up to 15, then ever wider."""
    if length < 16:
        return length
    if length < 32:
        return 16 + ((length - 16) >> 2)
    if length < 64:
        return 20 + ((length - 32) >> 3)
    return min(24 + ((length - 64) >> 6), _LENGTH_BUCKETS - 1)


@kernel(inline=True)
def match_class(lanes, lane):
    """The class of the lane's match, by length and reliability (int64); 0 without a match."""
    misses = _MISS_CLASS[lanes[lane, MISSES]]
    return _length_bucket(lanes[lane, MATCH_LENGTH]) * _MISS_CLASSES + misses


@kernel(spliced=True)
def _holds(byte, bit):
    """Whether there is a match, and no bit of the byte has contradicted it."""
    return byte.expected > 0 and byte.expected >> (8 - bit.number) == bit.partial


@kernel(spliced=True)
def _counter(byte, bit):
    """Which counter says how often a match of this class is right."""
    return byte.match_class * 2 + ((byte.expected >> (7 - bit.number)) & 1)


@kernel(spliced=True)
def _select(own, block, byte, bit, rows, at):
    goes_on = _holds(byte, bit) or bit.partial == TOKEN_END
    bucket = byte.match_class // _MISS_CLASSES if goes_on else 0
    rows[at] = bucket * 8 + bit.number


@kernel(spliced=True)
def _predict(own, block, byte, bit, inputs, at):
    inputs[at] = np.float32(0.0)
    if _holds(byte, bit):
        inputs[at] = STRETCH[own.counters[_counter(byte, bit)] >> STRETCH_SHIFT]


@kernel(spliced=True)
def _learn(own, block, byte, bit, outcome):
    if _holds(byte, bit):
        counter = _counter(byte, bit)
        own.counters[counter] = update_counter(own.counters[counter], outcome, _LIMIT)


PREDICTOR = Predictor(
    name="match",
    new=_new,
    inputs=("match",),
    final_inputs=("match",),
    sets=(WeightSet("match length", _LENGTH_BUCKETS * 8),),
    leave_byte=_leave_byte,
    select=_select,
    predict=_predict,
    learn=_learn,
    learnt=lambda own: {"match_counters": own.counters},
)
