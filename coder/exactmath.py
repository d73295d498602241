"""exp, log, stretch and squash from exact operations only.

Libraries round the last digit of exp and log as they like; two machines then disagree about a
probability and the decoder loses its way. These use IEEE add, subtract, multiply, divide and
table look-ups in a written-down order, so every machine computes the same bits.

Units: stretch(p) = ln(p / (1 - p)) is in nats; squash is its inverse.
"""

import numpy as np
import numpy.typing as npt

from nczip.coder.jit import kernel
from nczip.coder.rangecoder import PROBABILITY_ONE

F64Array = npt.NDArray[np.float64]
F32Array = npt.NDArray[np.float32]

_LN2_HIGH = 0.693147180369123816490  # ln 2 in two pieces (fdlibm): k * high is exact
_LN2_LOW = 1.90821492927058770002e-10
_LOG2_E = 1.44269504088896338700
_LN2 = 0.69314718055994530942

# 2^k for k in [-64, 63]: scaling by a look-up, without bit casts.
_POWERS_OF_TWO = np.array([2.0**k for k in range(-64, 64)])


@kernel(inline=True)
def exp(x):
    """e^x for float64 ``x``, clamped to [-44, 43]; relative error below 1e-9.

    Cody and Waite's range reduction, then Taylor's polynomial on [-ln 2 / 2, ln 2 / 2].
    """
    x = min(max(x, -44.0), 43.0)
    k = np.int64(x * _LOG2_E + 64.5) - 64
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    y = 1.0 / 40320.0
    y = y * r + 1.0 / 5040.0
    y = y * r + 1.0 / 720.0
    y = y * r + 1.0 / 120.0
    y = y * r + 1.0 / 24.0
    y = y * r + 1.0 / 6.0
    y = y * r + 0.5
    y = y * r + 1.0
    y = y * r + 1.0
    return y * _POWERS_OF_TWO[k + 64]


@kernel(inline=True)
def exp32(x):
    """e^x of a float32 in [-60, 20], in a form that LLVM vectorises: Taylor's polynomial of
    e^(x / 64), squared six times. The relative error is below 2e-5 within +-20 and grows to 2 % at
    -60, where a probability is nothing."""
    r = x * np.float32(1.0 / 64.0)
    y = np.float32(1.0 / 720.0)
    y = y * r + np.float32(1.0 / 120.0)
    y = y * r + np.float32(1.0 / 24.0)
    y = y * r + np.float32(1.0 / 6.0)
    y = y * r + np.float32(0.5)
    y = y * r + np.float32(1.0)
    y = y * r + np.float32(1.0)
    y *= y
    y *= y
    y *= y
    y *= y
    y *= y
    return y * y


def log(x: npt.ArrayLike) -> F64Array:
    """ln x for positive float64 ``x``, elementwise; relative error below 1e-14.

    frexp is exact; the mantissa goes through the series of 2 artanh((m - 1) / (m + 1)).
    """
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    z = (mantissa * 1.5 - 1.0) / (mantissa * 1.5 + 1.0)  # mantissa * 1.5 in [0.75, 1.5)
    square = z * z
    total = np.zeros_like(z)
    for odd in range(31, 0, -2):
        total = total * square + 1.0 / odd
    log_three_halves = 0.40546510810816438198
    result: F64Array = 2.0 * z * total + (exponent * _LN2 - log_three_halves)
    return result


STRETCH_BITS = 12


def _stretch_table() -> F32Array:
    """stretch at the middle of each of 2^12 equal cells of the probability axis."""
    p = (np.arange(1 << STRETCH_BITS) + 0.5) / (1 << STRETCH_BITS)
    return (log(p) - log(1.0 - p)).astype(np.float32)


STRETCH = _stretch_table()

MAX_LOGIT = 16.5  # squash(16.5) is within one unit of the 24-bit probability axis' end


@kernel(inline=True)
def squash(logit):
    """1 / (1 + e^-logit), float64, for a logit in nats (clamped to +-16.5)."""
    return 1.0 / (1.0 + exp(-min(max(np.float64(logit), -MAX_LOGIT), MAX_LOGIT)))


_SQUASH_CELLS = 1024
_SQUASH_SCALE = _SQUASH_CELLS / (2 * MAX_LOGIT)


def _squash_table() -> F64Array:
    """squash at the edges of 2^10 equal cells from -16.5 to 16.5, and once more at the end."""
    edges = [cell / _SQUASH_SCALE - MAX_LOGIT for cell in range(_SQUASH_CELLS + 1)]
    odds = [float(exp.py_func(edge)) for edge in edges]
    values = [x / (1.0 + x) for x in odds]
    return np.array([*values, values[-1]])


_SQUASH_TABLE = _squash_table()


@kernel(inline=True)
def squash_near(logit):
    """squash by linear interpolation, in a third of the time; relative error below 1.4e-4."""
    place = (min(max(np.float64(logit), -MAX_LOGIT), MAX_LOGIT) + MAX_LOGIT) * _SQUASH_SCALE
    cell = np.int64(place)
    low = _SQUASH_TABLE[cell]
    return low + (_SQUASH_TABLE[cell + 1] - low) * (place - cell)


@kernel(inline=True)
def quantise(p):
    """A float64 probability as int64 in units of 2^-24, inside [1, 2^24 - 1]."""
    return min(max(np.int64(p * PROBABILITY_ONE), 1), PROBABILITY_ONE - 1)
