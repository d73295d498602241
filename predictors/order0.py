"""Order 0: how often each bit of a byte, or a token's end, comes without any context."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.exactmath import STRETCH
from nczip.coder.jit import kernel
from nczip.predictors.counters import EVEN_ODDS, STRETCH_SHIFT, update_counter
from nczip.predictors.protocol import Predictor, Setup

_LIMIT = 255


class State(NamedTuple):
    """Learnt."""

    counters: npt.NDArray[np.uint32]  #: uint32[256], by partial byte; 0 for the token's end


def _new(setup: Setup, states: dict[str, Any]) -> State:
    return State(np.full(256, EVEN_ODDS, np.uint32))


@kernel(spliced=True)
def _predict(own, block, byte, bit, inputs, at):
    inputs[at] = STRETCH[own.counters[bit.partial] >> STRETCH_SHIFT]


@kernel(spliced=True)
def _learn(own, block, byte, bit, outcome):
    own.counters[bit.partial] = update_counter(own.counters[bit.partial], outcome, _LIMIT)


PREDICTOR = Predictor(
    name="order0",
    new=_new,
    inputs=("order 0",),
    final_inputs=("order 0",),
    predict=_predict,
    learn=_learn,
    learnt=lambda own: {"order0": own.counters},
)
