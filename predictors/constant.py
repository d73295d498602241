"""A constant: what the mixer knows without any evidence."""

from typing import Any

import numpy as np

from nczip.coder.jit import kernel
from nczip.predictors.protocol import Predictor, Setup

_LOGIT = np.float32(0.3)


def _new(setup: Setup, states: dict[str, Any]) -> tuple[()]:
    return ()


@kernel(spliced=True)
def _predict(own, block, byte, bit, inputs, at):
    inputs[at] = _LOGIT


PREDICTOR = Predictor(
    name="constant",
    new=_new,
    inputs=("constant",),
    final_inputs=("constant",),
    predict=_predict,
)
