"""Gated logistic mixing in two layers.

Mahoney's mixer (paq7; "Data Compression Explained", section 4.3.2): inputs are logits, a weight
set chosen by a small context gives their weighted sum, and after each bit the set moves down the
gradient of the coding cost. Several sets, each chosen by another context, run side by side;
further mixers, also chosen by contexts of their own, combine their outputs and the last inputs, and
the mean of these is the result (paq8's two layers, the second of them several times). Without
further mixers the result is the mean of the sets' outputs.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.exactmath import squash
from nczip.coder.jit import kernel
from nczip.coder.simd import axpy, dot, logistic, multiply, prefetch
from nczip.coder.vectors import LANES

F32Array = npt.NDArray[np.float32]

_MAX_DOT = np.float32(16.0)
_MAX_USES = 2047


def _rates(settled: float, new: float) -> F32Array:
    """Learning rate of a row after 8 n uses: a new row learns fast, an old one settles."""
    uses = 8 * np.arange((_MAX_USES >> 3) + 1)
    return (settled + new / np.sqrt(1 + uses / 60)).astype(np.float32)


_RATES = _rates(0.0011, 0.013)
_FINAL_RATES = _rates(0.0010, 0.005)


class Mixer(NamedTuple):
    """State of a mixer of n inputs (n a multiple of 16), s weight sets and f final mixers.

    The final mixers have 16 inputs: the sets' outputs, and some of the first layer's inputs.
    """

    inputs: F32Array  #: float32[n], logits in nats
    gate: F32Array  #: float32[n], 0 where an input is switched off, else 1
    weights: F32Array  #: float32[rows * n]
    uses: npt.NDArray[np.uint16]  #: uint16[rows], bits that each row has learnt from
    selected: npt.NDArray[np.int64]  #: int64[s], the row that each set uses
    final_inputs: npt.NDArray[np.int64]  #: int64[at most 16 - s], which inputs those are
    logits: F32Array  #: float32[16], the final mixers' inputs
    guesses: F32Array  #: float32[16], squash of these
    final_weights: F32Array  #: float32[final_rows * 16]
    final_uses: npt.NDArray[np.uint16]  #: uint16[final_rows]
    final_selected: npt.NDArray[np.int64]  #: int64[f], the row that each final mixer uses
    final_logits: F32Array  #: float32[f], their outputs


def new_mixer(
    first_weights: F32Array,
    rows: int,
    sets: int,
    final_rows: int,
    final_inputs: list[int],
    finals: int,
) -> Mixer:
    """A mixer whose rows start with ``first_weights``, float32[n]; the others are as in Mixer."""
    assert len(first_weights) % LANES == 0
    assert finals == 0 or sets + len(final_inputs) <= LANES
    inputs = len(first_weights)
    final_weights = np.zeros((final_rows, LANES), np.float32)
    final_weights[:, :sets] = np.float32(1.0) / np.float32(sets)
    return Mixer(
        inputs=np.zeros(inputs, np.float32),
        gate=np.ones(inputs, np.float32),
        weights=np.tile(first_weights, rows),
        uses=np.zeros(rows, np.uint16),
        selected=np.zeros(sets, np.int64),
        final_inputs=np.array(final_inputs, np.int64),
        logits=np.zeros(LANES, np.float32),
        guesses=np.zeros(LANES, np.float32),
        final_weights=final_weights.reshape(-1),
        final_uses=np.zeros(final_rows, np.uint16),
        final_selected=np.zeros(finals, np.int64),
        final_logits=np.zeros(finals, np.float32),
    )


@kernel(inline=True)
def prefetch_rows(mixer, n, sets):
    """Prefetch the selected rows of weights; most are far away."""
    for j in range(sets):
        for i in range(0, n, LANES):
            prefetch(mixer.weights, mixer.selected[j] * n + i)


@kernel(inline=True)
def mean_logit(mixer, sets):
    """The mean of the sets' outputs, float32."""
    total = np.float32(0.0)
    for j in range(sets):
        total += mixer.logits[j]
    return total * np.float32(1.0 / sets)


@kernel(inline=True)
def mix(mixer, n, sets, finals):
    """The mixed logit, float32: the mean of the final mixers, of the sets, of the ``n`` inputs."""
    multiply(mixer.inputs, mixer.gate, n)
    for j in range(sets):
        logit = dot(mixer.inputs, 0, mixer.weights, mixer.selected[j] * n, n)
        mixer.logits[j] = min(max(logit, -_MAX_DOT), _MAX_DOT)
    if finals == 0:
        return mean_logit(mixer, sets)
    for i in range(mixer.final_inputs.shape[0]):
        mixer.logits[sets + i] = mixer.inputs[mixer.final_inputs[i]]
    total = np.float32(0.0)
    for j in range(finals):
        row = mixer.final_selected[j]
        logit = dot(mixer.logits, 0, mixer.final_weights, row * LANES, LANES)
        mixer.final_logits[j] = logit
        total += logit
    return total * np.float32(1.0 / finals)


@kernel(inline=True)
def learn(mixer, n, sets, finals, bit):
    """Move all weights used by :func:`mix` towards ``bit``."""
    target = np.float32(bit)
    for j in range(finals):
        row = mixer.final_selected[j]
        uses = mixer.final_uses[row]
        step = (target - np.float32(squash(mixer.final_logits[j]))) * _FINAL_RATES[uses >> 3]
        axpy(step, mixer.logits, mixer.final_weights, row * LANES, LANES)
        if uses < _MAX_USES:
            mixer.final_uses[row] = uses + 1
    logistic(mixer.logits, mixer.guesses)
    for j in range(sets):
        row = mixer.selected[j]
        uses = mixer.uses[row]
        step = (target - mixer.guesses[j]) * _RATES[uses >> 3]
        axpy(step, mixer.inputs, mixer.weights, row * n, n)
        if uses < _MAX_USES:
            mixer.uses[row] = uses + 1
