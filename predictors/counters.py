"""Adaptive probabilities: a counter that starts fast and settles.

The StateMap of lpaq1 (M. Mahoney): 22 bits of probability and 10 bits of count in a uint32; each
bit moves the probability by its error / (count + 1.5), until the count reaches a limit.
"""

import numpy as np
import numpy.typing as npt

from nczip.coder.exactmath import STRETCH_BITS
from nczip.coder.jit import kernel

U32Array = npt.NDArray[np.uint32]

EVEN_ODDS = np.uint32(1 << 31)
STRETCH_SHIFT = np.uint32(32 - STRETCH_BITS)  #: from a counter to the place of its logit in STRETCH

#: 2^16 / (n + 1.5), uint16[1024]
RECIPROCAL = (65536 / (np.arange(1024) + 1.5)).astype(np.uint16)


@kernel(inline=True)
def update_counter(counter, bit, limit):
    """A counter (uint32) after ``bit`` (int64), its count staying at most ``limit`` (< 1024)."""
    count = np.int64(counter) & 1023
    p = np.int64(counter) >> 10
    p += (((bit << 22) - bit - p) * np.int64(RECIPROCAL[count])) >> 16
    if count < limit:
        count += 1
    return np.uint32((p << 10) | count)
