"""Gated logistic mixing in two layers.

Mahoney's mixer (paq7; "Data Compression Explained", section 4.3.2): inputs are logits, a weight
set chosen by a small context gives their weighted sum, and after each bit the set moves down the
gradient of the coding cost. Several sets, each chosen by another context, run side by side; a
second mixer combines their outputs (paq8's two layers).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from nczip.coder.exactmath import squash
from nczip.coder.jit import kernel
from nczip.predictors.simd import LANES, axpy, dot

F32Array = npt.NDArray[np.float32]

_RATE, _RATE_FLOOR, _FINAL_RATE = range(3)
_RATE_START = 0.02
_RATE_DECAY = np.float32(0.9999)
_MAX_DOT = np.float32(16.0)


class Mixer(NamedTuple):
    """State of a mixer of n inputs (n a multiple of 16) and up to 16 weight sets."""

    inputs: F32Array  #: float32[n], logits in nats
    gate: F32Array  #: float32[n], 0 where an input is switched off, else 1
    weights: F32Array  #: float32[rows * n]
    selected: npt.NDArray[np.int64]  #: int64[16], where each set's weights start
    logits: F32Array  #: float32[16], the sets' outputs
    final_weights: F32Array  #: float32[final_rows * 16]
    rates: F32Array  #: float32[3]: current rate, its floor, the final layer's rate


def new_mixer(inputs: int, active: int, rows: int, final_rows: int, sets: int) -> Mixer:
    """A mixer with equal weights over ``active`` expected inputs."""
    final_weights = np.zeros((final_rows, LANES), np.float32)
    final_weights[:, :sets] = np.float32(1.0) / np.float32(sets)
    return Mixer(
        inputs=np.zeros(inputs, np.float32),
        gate=np.ones(inputs, np.float32),
        weights=np.full(rows * inputs, np.float32(5.0) / np.float32(active), np.float32),
        selected=np.zeros(LANES, np.int64),
        logits=np.zeros(LANES, np.float32),
        final_weights=final_weights.reshape(-1),
        rates=np.array([_RATE_START, 0.004, 0.002], np.float32),
    )


@kernel(inline=True)
def mix(mixer, sets, final_row):
    """The mixed logit, float32, of ``sets`` selected weight sets under ``final_row``."""
    n = mixer.inputs.shape[0]
    for i in range(n):
        mixer.inputs[i] *= mixer.gate[i]
    for j in range(sets):
        logit = dot(mixer.inputs, 0, mixer.weights, mixer.selected[j], n)
        mixer.logits[j] = min(max(logit, -_MAX_DOT), _MAX_DOT)
    return dot(mixer.logits, 0, mixer.final_weights, final_row * LANES, LANES)


@kernel(inline=True)
def learn(mixer, sets, final_row, p, bit):
    """Move all weights used by :func:`mix` towards ``bit``; ``p`` is the mixed probability."""
    n = mixer.inputs.shape[0]
    target = np.float32(bit)
    step = (target - np.float32(p)) * mixer.rates[_FINAL_RATE]
    axpy(step, mixer.logits, mixer.final_weights, final_row * LANES, LANES)
    for j in range(sets):
        step = (target - np.float32(squash(mixer.logits[j]))) * mixer.rates[_RATE]
        axpy(step, mixer.inputs, mixer.weights, mixer.selected[j], n)


@kernel(inline=True)
def settle(mixer):
    """Lower the learning rate a little; called once for each byte."""
    if mixer.rates[_RATE] > mixer.rates[_RATE_FLOOR]:
        mixer.rates[_RATE] *= _RATE_DECAY
