"""Adaptive probability maps: the last correction (secondary symbol estimation, SSE).

Mahoney's APM (paq7 and later, after S. Osnach): for a small context, a curve over the logit axis,
33 points interpolated, learns what really happened when the mixer said p.
"""

import numpy as np
import numpy.typing as npt
from nczip.coder.exactmath import squash
from nczip.coder.jit import kernel

POINTS = 33
_SPAN = 8.0
_SCALE = (POINTS - 1) / (2 * _SPAN)
_RATE = np.float32(0.02)

F32Array = npt.NDArray[np.float32]


@kernel()
def _fill(curves):
    for i in range(POINTS):
        value = np.float32(squash(i / _SCALE - _SPAN))
        for context in range(curves.shape[0]):
            curves[context, i] = value


def new_apm(contexts: int) -> F32Array:
    """Curves that change nothing yet, float32[contexts, 33]."""
    curves = np.empty((contexts, POINTS), np.float32)
    _fill(curves)
    return curves


@kernel(inline=True)
def axis_position(logit):
    """Where a logit (nats) lies on the axis: float64 in [0, 32)."""
    return (min(max(np.float64(logit), -_SPAN + 1e-3), _SPAN - 1e-3) + _SPAN) * _SCALE


@kernel(inline=True)
def refine(curves, context, position):
    """The interpolated probability of a one, float64."""
    low = np.int64(position)
    fraction = position - low
    return curves[context, low] * (1.0 - fraction) + curves[context, low + 1] * fraction


@kernel(inline=True)
def learn_apm(curves, context, position, bit):
    """Move the nearest point towards ``bit``."""
    nearest = np.int64(position + 0.5)
    curves[context, nearest] += (np.float32(bit) - curves[context, nearest]) * _RATE
