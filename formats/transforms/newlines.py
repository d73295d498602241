"""Line ends: text whose lines all end in CRLF is coded with LF alone.

Whatever predicts it then sees text as it mostly is, and one byte less a line.
"""

_CRLF, _LF = b"\r\n", b"\n"


def to_lf(text: bytes) -> tuple[bytes, int]:
    """The text with LF for every CRLF, and how many there were.

    A text with any CR or LF outside of a CRLF is returned as it is, with 0.
    """
    lines = text.count(_CRLF)
    if not lines or lines != text.count(b"\r") or lines != text.count(_LF):
        return text, 0
    return text.replace(_CRLF, _LF), lines


def to_crlf(text: bytes) -> bytes:
    """The inverse, for a text in which :func:`to_lf` found any CRLF."""
    return text.replace(_LF, _CRLF)
