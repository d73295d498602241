"""Runs: the byte that last followed a context, expected again as long as it comes.

The first contexts' slots keep that byte and how often in a row it came (table.py). How far to trust
a run of some length is learnt, bit by bit (the run model of lpaq1 and paq8, M. Mahoney).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.exactmath import STRETCH
from nczip.coder.jit import kernel
from nczip.predictors.contexts import ContextLists
from nczip.predictors.counters import EVEN_ODDS, STRETCH_SHIFT, update_counter
from nczip.predictors.protocol import Predictor, Setup, WeightSet
from nczip.predictors.table import RUN_BYTE, RUN_COUNT, Table, update_run

_LIMIT = 1023
_LENGTHS = 16  # lengths told apart
_BYTE, _COLUMN = 0, 1  # rows of ``expectations``


class State(NamedTuple):
    """Shared with the n-gram contexts; learnt; of the byte being coded."""

    table: Table
    slots: npt.NDArray[np.int64]  #: int64[2, contexts]
    counters: npt.NDArray[np.uint32]  #: uint32[runs, 16 lengths * 8]: does the run go on?
    expectations: npt.NDArray[np.int64]  #: int64[2, runs]: byte + 256 or 0, first counter
    known: npt.NDArray[np.int64]  #: int64[1], how many of the orders have been seen before


def predictor(lists: ContextLists) -> Predictor:
    """The runs of a layout's contexts."""
    runs, orders = lists.runs, lists.orders

    def new(setup: Setup, states: dict[str, Any]) -> State:
        contexts = states["contexts"]
        return State(
            table=contexts.table,
            slots=contexts.slots,
            counters=np.full((runs, _LENGTHS * 8), EVEN_ODDS, np.uint32),
            expectations=np.zeros((2, runs), np.int64),
            known=np.zeros(1, np.int64),
        )

    @kernel(spliced=True)
    def enter_byte(own, block, byte):
        data, expectations = own.table.data, own.expectations
        known = 0
        for i in range(runs):
            slot = own.slots[0, i]
            count = np.int64(data[slot + RUN_COUNT])
            expectations[_BYTE, i] = 0
            if count > 0:
                expectations[_BYTE, i] = np.int64(data[slot + RUN_BYTE]) | 256
                expectations[_COLUMN, i] = min(count - 1, _LENGTHS - 1) * 8
                if i < orders:
                    known += 1
        own.known[0] = known

    @kernel(spliced=True)
    def select(own, block, byte, bit, rows, at):
        rows[at] = own.known[0] * 256 + bit.partial

    @kernel(spliced=True)
    def predict(own, block, byte, bit, inputs, at):
        for i in range(runs):
            inputs[at + i] = np.float32(0.0)
            expected = own.expectations[_BYTE, i] >> (7 - bit.number)
            if expected >> 1 == bit.partial:
                column = own.expectations[_COLUMN, i] + bit.number
                logit = STRETCH[own.counters[i, column] >> STRETCH_SHIFT]
                inputs[at + i] = logit if expected & 1 == 1 else -logit

    @kernel(spliced=True)
    def learn(own, block, byte, bit, outcome):
        for i in range(runs):
            expected = own.expectations[_BYTE, i] >> (7 - bit.number)
            if expected >> 1 == bit.partial:
                column = own.expectations[_COLUMN, i] + bit.number
                goes_on = np.int64(expected & 1 == outcome)
                own.counters[i, column] = update_counter(own.counters[i, column], goes_on, _LIMIT)

    @kernel(spliced=True)
    def leave_byte(own, block, byte, value):
        for i in range(runs):
            update_run(own.table, own.slots[0, i], value)

    inputs = tuple(f"run {i}" for i in range(runs))
    return Predictor(
        name="runs",
        new=new,
        inputs=inputs,
        final_inputs=inputs[-1:],
        sets=(WeightSet("orders known", (orders + 1) * 256),),
        enter_byte=enter_byte,
        select=select,
        predict=predict,
        learn=learn,
        leave_byte=leave_byte,
        learnt=lambda own: {"runs": own.counters},
    )
