"""Gated logistic mixing in two layers.

Mahoney's mixer (paq7; "Data Compression Explained", section 4.3.2): inputs are logits, a weight
set chosen by a small context gives their weighted sum, and after each bit the set moves down the
gradient of the coding cost. Several sets, each chosen by another context, run side by side; a
second mixer combines their outputs (paq8's two layers).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from nczip.coder.jit import kernel
from nczip.predictors.simd import LANES, axpy, dot, logistic, multiply

F32Array = npt.NDArray[np.float32]

_FINAL_RATE = np.float32(0.001)
_FIRST_WEIGHTS = np.float32(3.0)  # their sum over all active inputs
_MAX_DOT = np.float32(16.0)
_MAX_USES = 2047


def _rates() -> F32Array:
    """Learning rate of a row after 8 n uses: a new row learns fast, an old one settles."""
    uses = 8 * np.arange((_MAX_USES >> 3) + 1)
    return (0.0014 + 0.013 / np.sqrt(1 + uses / 60)).astype(np.float32)


_RATES = _rates()


class Mixer(NamedTuple):
    """State of a mixer of n inputs (n a multiple of 16) and up to 16 weight sets."""

    inputs: F32Array  #: float32[n], logits in nats
    gate: F32Array  #: float32[n], 0 where an input is switched off, else 1
    weights: F32Array  #: float32[rows * n]
    uses: npt.NDArray[np.uint16]  #: uint16[rows], bits that each row has learnt from
    selected: npt.NDArray[np.int64]  #: int64[16], the row that each set uses
    logits: F32Array  #: float32[16], the sets' outputs
    guesses: F32Array  #: float32[16], squash of the sets' outputs
    final_weights: F32Array  #: float32[final_rows * 16]


def new_mixer(inputs: int, active: int, rows: int, final_rows: int, sets: int) -> Mixer:
    """A mixer with equal weights over ``active`` expected inputs."""
    final_weights = np.zeros((final_rows, LANES), np.float32)
    final_weights[:, :sets] = np.float32(1.0) / np.float32(sets)
    return Mixer(
        inputs=np.zeros(inputs, np.float32),
        gate=np.ones(inputs, np.float32),
        weights=np.full(rows * inputs, _FIRST_WEIGHTS / np.float32(active), np.float32),
        uses=np.zeros(rows, np.uint16),
        selected=np.zeros(LANES, np.int64),
        logits=np.zeros(LANES, np.float32),
        guesses=np.zeros(LANES, np.float32),
        final_weights=final_weights.reshape(-1),
    )


@kernel(inline=True)
def mix(mixer, n, sets, final_row):
    """The mixed logit, float32, of ``sets`` selected weight sets of ``n`` inputs."""
    multiply(mixer.inputs, mixer.gate, n)
    for j in range(sets):
        logit = dot(mixer.inputs, 0, mixer.weights, mixer.selected[j] * n, n)
        mixer.logits[j] = min(max(logit, -_MAX_DOT), _MAX_DOT)
    return dot(mixer.logits, 0, mixer.final_weights, final_row * LANES, LANES)


@kernel(inline=True)
def learn(mixer, n, sets, final_row, p, bit):
    """Move all weights used by :func:`mix` towards ``bit``; ``p`` is the mixed probability."""
    target = np.float32(bit)
    step = (target - np.float32(p)) * _FINAL_RATE
    axpy(step, mixer.logits, mixer.final_weights, final_row * LANES, LANES)
    logistic(mixer.logits, mixer.guesses)
    for j in range(sets):
        row = mixer.selected[j]
        uses = mixer.uses[row]
        step = (target - mixer.guesses[j]) * _RATES[uses >> 3]
        axpy(step, mixer.inputs, mixer.weights, row * n, n)
        if uses < _MAX_USES:
            mixer.uses[row] = uses + 1
