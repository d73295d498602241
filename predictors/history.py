"""Bit histories: what a context has seen, in one byte.

After Mahoney's paq6-8 (M. Mahoney, "Adaptive weighing of context models for lossless data
compression", 2005) and the state tables of zpaq: up to four bits are remembered in full; then
the counts of zeros and ones, bounded, and the last bit. A bit that contradicts a run discards
part of the run's count, for recent bits say more than old ones.
"""

import numpy as np
import numpy.typing as npt

_FULL_LENGTH = 4
# Largest other count that is representable beside a smaller count of 0, 1, 2, ...
_BOUNDS = (40, 20, 12, 8, 6, 6, 6)
# What remains of the opposite count n after a contradiction.
_DISCOUNT = (0, 1, 2, 3, 4, 5, 5, 6)

_Counts = tuple[int, int]


def _discounted(n: int) -> int:
    return _DISCOUNT[n] if n < len(_DISCOUNT) else 7


def _representable(counts: _Counts) -> bool:
    small, large = min(counts), max(counts)
    return small < len(_BOUNDS) and large <= _BOUNDS[small]


def _odds(counts: _Counts) -> float:
    return (counts[1] + 0.4) / (counts[0] + 0.4)


def _nearest(counts: _Counts) -> _Counts:
    """The representable pair of at least 5 bits, no larger, whose odds are nearest."""
    if _representable(counts):
        return counts
    target = _odds(counts)

    def distance(pair: _Counts) -> float:
        ratio = _odds(pair) / target
        return max(ratio, 1.0 / ratio) - (pair[0] + pair[1]) / 1024

    pairs = [
        (a, b)
        for a in range(counts[0] + 1)
        for b in range(counts[1] + 1)
        if a + b > _FULL_LENGTH and _representable((a, b))
    ]
    return min(pairs, key=distance)


def _after(state: str | tuple[_Counts, int], bit: int) -> str | tuple[_Counts, int]:
    """The history after one more bit; a string while it is remembered in full."""
    if isinstance(state, str):
        text = state + str(bit)
        if len(text) <= _FULL_LENGTH:
            return text
        counts = [state.count("0"), state.count("1")]
    else:
        counts = list(state[0])
    counts[bit] += 1
    if not isinstance(state, str):
        counts[1 - bit] = _discounted(counts[1 - bit])
    if sum(counts) <= _FULL_LENGTH:  # a discount must not leave the counted part
        counts[bit] = _FULL_LENGTH + 1 - counts[1 - bit]
    return _nearest((counts[0], counts[1])), bit


def _build() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    numbers: dict[str | tuple[_Counts, int], int] = {"": 0}
    queue: list[str | tuple[_Counts, int]] = [""]
    rows: list[tuple[int, int]] = []
    for state in queue:
        row = []
        for bit in (0, 1):
            successor = _after(state, bit)
            if successor not in numbers:
                numbers[successor] = len(queue)
                queue.append(successor)
            row.append(numbers[successor])
        rows.append((row[0], row[1]))
    if len(queue) > 256:
        raise AssertionError(f"{len(queue)} bit histories do not fit a byte")
    successors = np.zeros((256, 2), np.uint8)
    successors[: len(rows)] = rows
    start = np.full(256, 1 << 15, np.uint16)
    priority = np.zeros(256, np.uint8)
    for state, number in numbers.items():
        counts = (state.count("0"), state.count("1")) if isinstance(state, str) else state[0]
        start[number] = int((counts[1] + 0.4) / (counts[0] + counts[1] + 0.8) * 65535)
        priority[number] = sum(counts)
    return successors, start, priority


#: ``NEXT_STATE[s, bit]`` (uint8[256, 2]), the first guess P(1) in units of 2^-16 (uint16[256]), and
#: how many bits a history counts (uint8[256]).
NEXT_STATE, FIRST_GUESS, PRIORITY = _build()
