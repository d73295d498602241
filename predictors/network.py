"""The recurrent network as a predictor: it reads text that no transformer guides."""

from typing import Any

import numpy as np

from nczip.coder.jit import kernel
from nczip.predictors.protocol import Predictor, Setup
from nczip.predictors.recurrent import Network, new_network, node_logit, read_byte


def _new(setup: Setup, states: dict[str, Any]) -> Network:
    return new_network(setup.network, setup.lanes)


@kernel(spliced=True)
def _is_asked(own, byte):
    """Whether there is a network, and no transformer in its place."""
    return byte.depth < 0 and own.levels.shape[0] > 0


@kernel(spliced=True)
def _enter_byte(own, block, byte):
    if _is_asked(own, byte):
        read_byte(own, byte.lane, byte.last)


@kernel(spliced=True)
def _predict(own, block, byte, bit, inputs, at):
    inputs[at] = np.float32(0.0)
    if _is_asked(own, byte):
        inputs[at] = node_logit(own, bit.partial)


PREDICTOR = Predictor(
    name="network",
    new=_new,
    inputs=("network or transformer",),
    final_inputs=("network or transformer",),
    enter_byte=_enter_byte,
    predict=_predict,
)
