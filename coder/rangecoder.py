"""A 32-bit range coder with carry propagation and 24-bit probabilities.

The coder of LZMA (Igor Pavlov; after G. N. N. Martin, "Range encoding", 1979): the encoder
keeps a 33-bit ``low`` and a 32-bit ``range``; a carry runs into bytes that wait until it is
decided. The interval is split by a 64-bit product, so 24-bit probabilities stay exact while
``range`` is at least 2^24.

The state is one ``uint64[10]`` array, so that a kernel passes it on at no cost, and one kernel
serves both directions:

    encoder: LOW, RANGE, CACHE (last byte not yet written), PENDING (0xFF bytes behind it), POS
    decoder: LOW holds the code value relative to the interval's start; POS the next byte to read

Two cells are for other threads, which look on while a kernel codes a whole block without the GIL:

    ABORT   set from outside (:func:`abort_all`): whoever loops over bytes returns when it is not 0
    CODED   raw bytes coded so far, kept by whoever loops over bytes, for progress

A state may be longer: two cells more for each raw byte, in which it is noted how far the string
had come when the byte was coded (:func:`costs`). Who does not ask for them pays for one comparison
in the thousands of instructions that a byte takes.
"""

import threading
import weakref
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.errors import AbortedError, CorruptError
from nczip.coder.jit import kernel

PROBABILITY_BITS = 24
PROBABILITY_ONE = 1 << PROBABILITY_BITS

LOW, RANGE, CACHE, PENDING, POS, END, DECODING, OVERFLOW, ABORT, CODED = range(10)
_CELLS = 10  # behind them are the notes: position and end of a token, bytes and RANGE

_TOP = np.uint64(1 << 24)
_MASK32 = np.uint64(0xFFFFFFFF)
_BYTE = np.uint64(8)
_SHIFT = np.uint64(PROBABILITY_BITS)
_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_FF = np.uint64(0xFF)

U8Array = npt.NDArray[np.uint8]
U64Array = npt.NDArray[np.uint64]

_lock = threading.Lock()
_live: "weakref.WeakValueDictionary[int, U64Array]" = weakref.WeakValueDictionary()
_aborting = False


def _new_state(notes: int = 0) -> U64Array:
    state = np.zeros(_CELLS + 2 * notes, np.uint64)
    state[RANGE] = _MASK32
    with _lock:
        state[ABORT] = _aborting
        _live[id(state)] = state
    return state


def _states() -> list[U64Array]:
    with _lock:
        return list(_live.values())


def abort_all(*, for_good: bool = False) -> None:
    """Have all coders stop; ``for_good`` those to come, too, for the process is about to end."""
    global _aborting  # noqa: PLW0603
    with _lock:
        _aborting = for_good
        for state in list(_live.values()):
            state[ABORT] = 1


def allow_coding() -> None:
    """Undo :func:`abort_all` ``for_good`` for coders to come."""
    global _aborting  # noqa: PLW0603
    with _lock:
        _aborting = False


def raise_if_aborted(state: U64Array) -> None:
    """Raise AbortedError where kernels may have left off before their end."""
    if state[ABORT]:
        raise AbortedError("coding was stopped")


def raw_in_progress() -> int:
    """Raw bytes that the encoders now at work have coded."""
    return sum(int(state[CODED]) for state in _states() if not state[DECODING])


def coded_in_progress() -> int:
    """Coded bytes that the decoders now at work have read."""
    return sum(int(min(state[POS], state[END])) for state in _states() if state[DECODING])


@kernel(inline=True)
def _put(state, buffer, byte):
    """Write one byte, or note the overflow: the block is then kept without coding."""
    if state[POS] < state[END]:
        buffer[state[POS]] = np.uint8(byte & _FF)
        state[POS] += _ONE
    else:
        state[OVERFLOW] = _ONE


@kernel()
def _shift_low(state, buffer):
    """Move the top byte of LOW out, resolving a carry into the bytes that wait."""
    low = state[LOW]
    if low < np.uint64(0xFF000000) or low > _MASK32:
        carry = low >> np.uint64(32)
        _put(state, buffer, state[CACHE] + carry)
        while state[PENDING] > _ZERO:
            _put(state, buffer, _FF + carry)
            state[PENDING] -= _ONE
        state[CACHE] = (low >> np.uint64(24)) & _FF
    else:
        state[PENDING] += _ONE
    state[LOW] = (low << _BYTE) & _MASK32


@kernel(inline=True)
def _next_byte(state, buffer):
    """The next coded byte; zeros behind the end, which the encoder's last bytes rely on."""
    byte = _ZERO
    if state[POS] < state[END]:
        byte = np.uint64(buffer[state[POS]])
    state[POS] += _ONE
    return byte


@kernel(inline=True)
def _normalise(state, buffer):
    while state[RANGE] < _TOP:
        state[RANGE] = state[RANGE] << _BYTE
        if state[DECODING] != _ZERO:
            state[LOW] = (state[LOW] << _BYTE) | _next_byte(state, buffer)
        else:
            _shift_low(state, buffer)


@kernel(inline=True)
def code_bit(state, buffer, p1, bit):
    """Code one binary decision in the direction that ``state`` was made for.

    Args:
        state: uint64[10] from :func:`new_encoder` or :func:`new_decoder`.
        buffer: uint8[n], coded bytes.
        p1: int64, P(bit = 1) in units of 2^-24, in [1, 2^24 - 1].
        bit: int64, 0 or 1; ignored when decoding.

    Returns:
        The bit coded or decoded, int64.
    """
    bound = (state[RANGE] * np.uint64(p1)) >> _SHIFT
    if state[DECODING] != _ZERO:
        bit = np.int64(1) if state[LOW] < bound else np.int64(0)
    if bit != 0:
        state[RANGE] = bound
    else:
        if state[DECODING] != _ZERO:
            state[LOW] -= bound
        else:
            state[LOW] += bound
        state[RANGE] -= bound
    _normalise(state, buffer)
    return bit


@kernel(inline=True)
def count_byte(state, position):
    """Count a raw byte that has been coded, the one at ``position`` (int64) of its block."""
    state[CODED] += _ONE
    if state.shape[0] > _CELLS:
        at = np.int64(state[CODED]) * 2 + (_CELLS - 2)
        state[at] = np.uint64(position) << _ONE
        state[at + 1] = (state[POS] + state[PENDING]) << np.uint64(32) | state[RANGE]


@kernel(inline=True)
def end_token(state):
    """Count what was coded since the last byte, that the token ends there, to that byte."""
    if state.shape[0] > _CELLS:
        at = np.int64(state[CODED]) * 2 + (_CELLS - 2)
        state[at] |= _ONE
        state[at + 1] = (state[POS] + state[PENDING]) << np.uint64(32) | state[RANGE]


@kernel()
def _flush(state, buffer):
    """Write the shortest number inside the interval: as many zero bits at its end as fit."""
    low, top = state[LOW], state[LOW] + state[RANGE] - _ONE
    mask = np.uint64(0xFFFFFFFFFF)
    value = (low + mask) & ~mask
    while value > top:
        mask >>= _ONE
        value = (low + mask) & ~mask
    state[LOW] = value
    for _ in range(5):
        _shift_low(state, buffer)


def new_encoder(notes: int = 0) -> U64Array:
    """State of an encoder; the caller sets END to the size of its buffer (:func:`attach`).

    ``notes`` is the number of raw bytes for which it is to note their :func:`costs`.
    """
    return _new_state(notes)


class Costs(NamedTuple):
    """What each of n raw bytes took, in the order in which they were coded."""

    positions: npt.NDArray[np.int64]  #: int64[n], in the block
    bits: npt.NDArray[np.float64]  #: float64[n]
    ends: npt.NDArray[np.bool_]  #: bool[n], whether a token ends with it


def costs(state: U64Array) -> Costs:
    """The costs of the bytes coded so far, from the notes of a state that was made for them.

    What a string has taken is 8 bits for each byte moved out of LOW, and log2 of what its interval
    has shrunk to since: the decisions' costs but for the coder's rounding, some 2^-24 of each.
    """
    notes = state[_CELLS:].reshape(-1, 2)[: int(state[CODED])]
    shifted, interval = notes[:, 1] >> np.uint64(32), notes[:, 1] & _MASK32
    spent = 8.0 * shifted - np.log2(interval.astype(np.float64))
    start = -np.log2(float(_MASK32))
    positions = (notes[:, 0] >> _ONE).astype(np.int64)
    return Costs(positions, np.diff(spent, prepend=start), (notes[:, 0] & _ONE) != _ZERO)


def attach(state: U64Array, capacity: int) -> U8Array:
    """A buffer for an encoder: it notes OVERFLOW instead of writing past ``capacity`` bytes."""
    buffer = np.zeros(capacity + 1, np.uint8)  # the first byte of an LZMA coder is always 0
    state[END] = len(buffer)
    return buffer


def finish(state: U64Array, buffer: U8Array) -> bytes | None:
    """End the coded data; None where it overflowed its buffer. Trailing zeros are implied.

    Raises:
        AbortedError: coding was stopped before its end.
    """
    raise_if_aborted(state)
    _flush(state, buffer)
    if state[OVERFLOW]:
        return None
    return buffer[1 : int(state[POS])].tobytes().rstrip(b"\0")


def new_decoder(buffer: U8Array) -> U64Array:
    """State of a decoder at the start of ``buffer``."""
    state = _new_state()
    state[END] = len(buffer)
    state[DECODING] = 1
    state[POS] = 4
    head = buffer[:4].tobytes().ljust(4, b"\0")
    state[LOW] = int.from_bytes(head, "big")
    return state


def check_finished(state: U64Array) -> None:
    """Raise CorruptError unless a decoder has consumed its whole buffer.

    It may have read on into the zeros that :func:`finish` leaves out. Where coding was stopped
    before its end, AbortedError says so instead.
    """
    raise_if_aborted(state)
    if state[POS] < state[END]:
        raise CorruptError("coded data does not end where its block says")
