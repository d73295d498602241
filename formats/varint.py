"""Unsigned LEB128 integers: seven bits a byte, lowest first, the top bit says "more follows"."""

from nczip.coder.errors import CorruptError, TruncatedError

_MAX_BYTES = 9  # 63 bits


def encode_varint(value: int) -> bytes:
    """The bytes of an integer in [0, 2^63)."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes | bytearray | memoryview, position: int) -> tuple[int, int]:
    """The integer at ``position`` and the position behind it.

    Raises:
        TruncatedError: ``data`` ends inside the integer.
        CorruptError: the integer has over 63 bits.
    """
    value = 0
    for i in range(_MAX_BYTES):
        if position + i >= len(data):
            raise TruncatedError("the data ends inside a number")
        byte = data[position + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, position + i + 1
    raise CorruptError("a number in the stream is too large")
