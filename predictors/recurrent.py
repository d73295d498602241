"""A small recurrent network that knows other text.

A gated recurrent unit (Cho et al., 2014) reads a lane's bytes; each node of the next byte's bit
tree has a row of weights whose product with the unit's state is the logit of a one (Morin and
Bengio, 2005: a hierarchical softmax, of which coding a byte needs eight nodes). All weights were
trained offline (predictors/train/recurrent.py) and stay: adapting is what the tables do, and a
network that adapts with them says less that they do not (bench/EXPERIMENTS.md).

The unit's matrix is int8, its state is rounded to 15 bits: sums of integers have no order. All else
is float32 in a written-down order, so that every machine computes the same.
"""

import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.jit import kernel
from nczip.coder.simd import (
    PANEL_GROUP,
    dot,
    gated_update,
    product_4x1,
    round_levels,
    to_panels,
)
from nczip.coder.vectors import LANES

F32Array = npt.NDArray[np.float32]

_LEVELS = 16383  # times 127 and the units, it stays below 2^31
_MAX_LOGIT = np.float32(12.0)


class Weights(NamedTuple):
    """What was trained; H units, a multiple of 64."""

    inputs: F32Array  #: float32[256, 3 H], what the last byte adds to reset, update, candidate
    matrix: npt.NDArray[np.int8]  #: int8[3 H / 16, H / 2, 16, 2], of the state, in panels
    scales: F32Array  #: float32[3 H], of the matrix's rows
    nodes: F32Array  #: float32[256, H + 16], a row for each partial byte; H: bias, then zeros


class Network(NamedTuple):
    """The weights, and all that changes; without weights H is 0 and nothing is predicted."""

    weights: Weights
    states: F32Array  #: float32[lanes, H]
    state: F32Array  #: float32[H + 16], of the lane being coded; 1, then zeros
    levels: npt.NDArray[np.int16]  #: int16[H]
    gates: F32Array  #: float32[3 H]
    unit: F32Array  #: float32[1], the state's level


def no_weights() -> Weights:
    """Those of a network of no units."""
    return Weights(
        inputs=np.zeros((256, 0), np.float32),
        matrix=np.zeros((0, 0, LANES, 2), np.int8),
        scales=np.zeros(0, np.float32),
        nodes=np.zeros((256, 0), np.float32),
    )


def new_network(weights: Weights, lanes: int) -> Network:
    """A network that has read nothing in any lane."""
    units = len(weights.scales) // 3
    state = np.zeros(units + LANES, np.float32)
    state[units] = 1.0
    return Network(
        weights=weights,
        states=np.zeros((lanes, units), np.float32),
        state=state,
        levels=np.zeros(units, np.int16),
        gates=np.zeros(3 * units, np.float32),
        unit=np.array([1 / _LEVELS], np.float32),
    )


def pack_weights(inputs: F32Array, matrix: F32Array, nodes: F32Array, biases: F32Array) -> bytes:
    """Trained weights as an ``npz``: the matrix in 255 levels, the rest as float16.

    Args:
        inputs: float32[256, 3 H].
        matrix: float32[3 H, H].
        nodes, biases: float32[256, H] and float32[256].
    """
    scales = (np.abs(matrix).max(axis=1) / 127).astype(np.float32)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        inputs=inputs.astype(np.float16),
        matrix=np.rint(matrix / scales[:, None]).astype(np.int8),
        scales=scales,
        nodes=np.column_stack([nodes, biases]).astype(np.float16),
    )
    return buffer.getvalue()


def unpack_weights(packed: bytes) -> Weights:
    """The weights that :func:`pack_weights` was given, rounded."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return Weights(
            inputs=arrays["inputs"].astype(np.float32),
            matrix=to_panels(arrays["matrix"]),
            scales=arrays["scales"],
            nodes=np.pad(arrays["nodes"].astype(np.float32), ((0, 0), (0, LANES - 1))),
        )


@kernel()
def read_byte(network, lane, byte):
    """Let the unit read the lane's last byte (0 before the first)."""
    weights, state = network.weights, network.state
    units = network.levels.shape[0]
    start = lane * units
    round_levels(
        network.states, start, np.float32(_LEVELS), np.int32(_LEVELS), network.levels, 0, units
    )
    stride = units * LANES
    for panel in range(0, weights.matrix.shape[0], PANEL_GROUP):
        product_4x1(
            weights.matrix, panel * stride, stride, units, network.levels,
            weights.scales, panel * LANES, network.unit[0], network.gates, panel * LANES,
        )  # fmt: skip
    gated_update(
        network.gates, weights.inputs, byte * 3 * units, network.states, start, state, units
    )


@kernel(inline=True)
def node_logit(network, partial):
    """The network's logit, float32 nats, for the next bit of a byte known to be ``partial``."""
    size = network.state.shape[0]
    logit = dot(network.state, 0, network.weights.nodes, partial * size, size)
    return min(max(logit, -_MAX_LOGIT), _MAX_LOGIT)
