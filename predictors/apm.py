"""Adaptive probability maps: the last correction (secondary symbol estimation, SSE).

Mahoney's APM (paq7 and later, after S. Osnach): for a small context, a curve over the logit axis,
33 points interpolated, learns what really happened when the mixer said p.
"""

import numpy as np
import numpy.typing as npt

from nczip.coder.exactmath import exp
from nczip.coder.jit import kernel
from nczip.coder.simd import prefetch
from nczip.coder.vectors import LANES
from nczip.predictors.table import hash_pair

POINTS = 33
_SPAN = 8.0
_SCALE = (POINTS - 1) / (2 * _SPAN)
_RATE = np.float32(0.02)
# Curves of the last byte, or of two classes of bytes; of order 2, hashed, follow as many.
_CURVES = 1 << 16

F32Array = npt.NDArray[np.float32]


def _identity() -> F32Array:
    """The curve that changes nothing: squash at the 33 points."""
    odds = [float(exp.py_func(point / _SCALE - _SPAN)) for point in range(POINTS)]
    return np.array([x / (1.0 + x) for x in odds], np.float32)


_IDENTITY = _identity()


def new_apm(contexts: int) -> F32Array:
    """Curves that change nothing yet, float32[contexts, 33]: corrections to the identity.

    Zeros cost no time and no memory before they are touched.
    """
    return np.zeros((contexts, POINTS), np.float32)


def new_curves(kinds: int) -> F32Array:
    """The curves of :func:`find_one`, or those of :func:`find_two`, that change nothing yet."""
    return new_apm(kinds * _CURVES)


@kernel(spliced=True)
def find_two(byte, bit):
    """The curves of a decision: by the classes of the last two bytes, and by these bytes."""
    classes = bit.partial | (byte.classes & 255) << 8
    order2 = np.uint64(bit.partial | byte.last << 8 | byte.before << 16)
    return classes, _CURVES + np.int64(hash_pair(np.uint64(0), order2) >> np.uint64(48))


@kernel(spliced=True)
def find_one(byte, bit):
    """The same where there is one curve: by the last byte."""
    last = bit.partial | byte.last << 8
    return last, last


@kernel(inline=True)
def axis_position(logit):
    """Where a logit (nats) lies on the axis: float64 in [0, 32)."""
    return (min(max(np.float64(logit), -_SPAN + 1e-3), _SPAN - 1e-3) + _SPAN) * _SCALE


@kernel(inline=True)
def prefetch_curve(curves, context):
    """Prefetch a curve; most are far away."""
    for point in range(0, POINTS, LANES):
        prefetch(curves, context * POINTS + point)


@kernel(inline=True)
def refine(curves, context, position):
    """The interpolated probability of a one, float64."""
    low = np.int64(position)
    fraction = position - low
    at_low = _IDENTITY[low] + curves[context, low]
    at_high = _IDENTITY[low + 1] + curves[context, low + 1]
    return at_low * (1.0 - fraction) + at_high * fraction


@kernel(inline=True)
def learn_apm(curves, context, position, bit):
    """Move the nearest point towards ``bit``."""
    nearest = np.int64(position + 0.5)
    p = _IDENTITY[nearest] + curves[context, nearest]
    curves[context, nearest] += (np.float32(bit) - p) * _RATE
