"""Where lines of prose are broken.

A paragraph reads better to a predictor on one line: it need not guess at every space whether the
line ends there. So that is how it is coded, and the breaks apart from it. As an editor breaks a
line where the next word would make it longer than some width, only spaces before such words are
decisions, and each says little: it is coded under a counter chosen by how much too long the line
would be.
"""

import numpy as np
import numpy.typing as npt

from nczip.coder import rangecoder
from nczip.coder.jit import kernel
from nczip.predictors.counters import EVEN_ODDS, update_counter

U8Array = npt.NDArray[np.uint8]

_NEWLINE, _SPACE = 10, 32
_LIMIT = 255
_EXCESSES = 64  # bytes that a line would be too long, told apart up to here


@kernel()
def _code_breaks(data, width, counters, coder, buffer):
    """Code which spaces are breaks, in place: the encoder finds line ends there, and leaves spaces.

    Args:
        data: uint8[n].
        width: a line is broken only where it would be longer than this with the next word.
        counters: uint32[2 * _EXCESSES].
    """
    decoding = coder[rangecoder.DECODING] != np.uint64(0)
    size = data.shape[0]
    column = 0
    for i in range(size):
        byte = np.int64(data[i])
        blank = byte == _SPACE or (byte == _NEWLINE and not decoding)
        if blank and 0 < i < size - 1 and data[i - 1] > _SPACE and data[i + 1] > _SPACE:
            end = i + 1
            while end < size and data[end] > _SPACE:
                end += 1
            excess = column + end - i - width
            if excess > 0:
                which = min(excess, _EXCESSES) * 2 - (2 if column > width else 1)
                p1 = np.int64(counters[which] >> np.uint32(10)) * 4 + 2
                bit = rangecoder.code_bit(coder, buffer, p1, np.int64(byte == _NEWLINE))
                counters[which] = update_counter(counters[which], bit, _LIMIT)
                data[i] = _NEWLINE if bit == 1 and decoding else _SPACE
                byte = _NEWLINE if bit == 1 else _SPACE
        column = 0 if byte == _NEWLINE else column + 1


def _run(data: U8Array, width: int, coder: rangecoder.U64Array, buffer: U8Array) -> None:
    counters = np.full(2 * _EXCESSES, EVEN_ODDS, np.uint32)
    _code_breaks(data, width, counters, coder, buffer)


def take_out(text: bytes, width: int) -> tuple[bytes, bytes]:
    """The text with spaces for breaks at a width, and the breaks, coded."""
    data = np.frombuffer(text, np.uint8).copy()
    coder = rangecoder.new_encoder()
    # At most every second byte is a decision, and none takes more than 24 bits.
    buffer = rangecoder.attach(coder, 2 * len(text) + 64)
    _run(data, width, coder, buffer)
    breaks = rangecoder.finish(coder, buffer)
    assert breaks is not None
    return data.tobytes(), breaks


def put_back(text: bytes, width: int, breaks: bytes) -> bytes:
    """The inverse of :func:`take_out`.

    Raises:
        CorruptError: ``breaks`` do not end with the text.
    """
    data = np.frombuffer(text, np.uint8).copy()
    buffer = np.frombuffer(breaks or b"\0", np.uint8).copy()
    coder = rangecoder.new_decoder(buffer)
    _run(data, width, coder, buffer)
    rangecoder.check_finished(coder)
    return data.tobytes()
