"""How long compressing a file will take, from a measurement and not from a table.

Machines, models and contents differ by far more than presets do. So a piece of the very file is
compressed, with the options that the file will be.
"""

import time
from collections.abc import Callable

from nczip.options import CompressOptions
from nczip.settings import choose
from nczip.stream import Compressor

_SAMPLE = 8 << 10
#: A sample of a smaller file would cost more than a fiftieth of its own time.
SMALLEST = 50 * _SAMPLE


def estimate_compression(
    size: int, sample: Callable[[int], bytes], options: CompressOptions
) -> str | None:
    """How long it will take and how fast it goes, in words; None where it is not worth measuring.

    Args:
        size: bytes to compress.
        sample: gives that many bytes of them, b"" where it cannot.
        options: as they will be compressed.
    """
    if size < SMALLEST:
        return None
    piece = sample(_SAMPLE)
    if not piece:
        return None
    _compress(piece[:64], options)  # loads all that is loaded once
    start = time.monotonic()
    _compress(piece, options)
    seconds = max(time.monotonic() - start, 1e-6)
    blocks = -(-size // choose(options).block_size)
    speed = len(piece) / seconds * min(options.workers, blocks)
    return in_words(size / speed, speed)


def _compress(piece: bytes, options: CompressOptions) -> None:
    compressor = Compressor(options.preset, **options.keywords())
    compressor.compress(piece)
    compressor.flush()


def in_words(seconds: float, speed: float) -> str:
    """As in "about 40 s at 20 kB/s"; ``speed`` is in bytes a second."""
    return f"about {_duration(seconds)} at {_rounded(speed / 1000)} kB/s"


def _duration(seconds: float) -> str:
    """With two digits: more are not known."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{_rounded(seconds / unit)} {name}"
    return f"{_rounded(seconds)} s"


def _rounded(value: float) -> str:
    if value < 10:
        return f"{value:.1f}".removesuffix(".0")
    digits = len(str(int(value))) - 2
    return f"{round(value / 10**digits) * 10**digits:d}"
