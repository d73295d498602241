"""Where the byte stands: no opinions, but seven weight sets to choose by."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.jit import kernel
from nczip.predictors.memory import (
    BRACKETS,
    LINE_START,
    POSITION,
    SHAPE,
    STRIDE,
    byte_back,
)
from nczip.predictors.protocol import Predictor, Setup, WeightSet

_COLUMN, _BRACKET, _SHAPE = range(3)


class State(NamedTuple):
    """Of the byte being coded."""

    places: npt.NDArray[np.int64]  #: int64[3], below 256, 256 and 4096: see :func:`_enter_byte`


def _new(setup: Setup, states: dict[str, Any]) -> State:
    return State(np.zeros(3, np.int64))


@kernel(spliced=True)
def _enter_byte(own, block, byte):
    """Of text the column, the innermost bracket, and the last three runs; of binary data the column
    of the record, the byte one record back, and the upper halves of the last three bytes."""
    data, lanes, lane = block.data, block.lanes, byte.lane
    column = lanes[lane, POSITION] - lanes[lane, LINE_START]
    bracket = lanes[lane, BRACKETS] & 255
    shape = lanes[lane, SHAPE] & 0xFFF
    if block.binary == 1:
        stride = lanes[lane, STRIDE]
        column = lanes[lane, POSITION] % stride
        bracket = np.int64(byte_back(data, lanes, lane, stride))
        shape = np.int64(0)
        for back in range(3, 0, -1):
            shape = shape << 4 | np.int64(byte_back(data, lanes, lane, back)) >> 4
    own.places[_COLUMN] = min(column, 255)
    own.places[_BRACKET] = bracket
    own.places[_SHAPE] = shape


@kernel(spliced=True)
def _select(own, block, byte, bit, rows, at):
    rows[at] = (byte.last >> 3) * 256 + bit.partial
    rows[at + 1] = byte.last
    rows[at + 2] = byte.before * 8 + bit.number
    rows[at + 3] = own.places[_SHAPE]
    rows[at + 4] = own.places[_COLUMN] * 8 + bit.number
    rows[at + 5] = own.places[_BRACKET] * 8 + bit.number
    rows[at + 6] = byte.classes


PREDICTOR = Predictor(
    name="surroundings",
    new=_new,
    sets=(
        WeightSet("upper bits of the last byte", 32 * 256),
        WeightSet("last byte", 256),
        WeightSet("byte before the last", 256 * 8),
        WeightSet("runs", 4096),
        WeightSet("column", 256 * 8),
        WeightSet("bracket", 256 * 8),
        WeightSet("classes", 4096),
    ),
    enter_byte=_enter_byte,
    select=_select,
)
