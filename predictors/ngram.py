"""The n-gram contexts: what followed each of them before, as bit histories in a hashed table.

A context's history of a bit (history.py) is looked up in its slot (table.py) and becomes a logit
through a counter that has learnt how often a one follows such a history (indirect modelling:
M. Mahoney, paq6 and later).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.exactmath import STRETCH
from nczip.coder.jit import kernel
from nczip.coder.simd import prefetch
from nczip.predictors import table as tables
from nczip.predictors.contexts import (
    BINARY_CONFIDENCE,
    CONTEXTS,
    PRIMED_CONTEXTS,
    TEXT_CONFIDENCE,
    context_names,
    hash_contexts,
)
from nczip.predictors.counters import STRETCH_SHIFT, update_counter
from nczip.predictors.history import FIRST_GUESS, PRIORITY
from nczip.predictors.protocol import TOKEN_END, Predictor, Setup, WeightSet
from nczip.predictors.table import NODES, Table

_LIMIT = 1023
# Rows of a power of two would share a few sets of the first cache.
_PADDING = 16
_CONFIDENCE_CONTEXTS = np.array([TEXT_CONFIDENCE, BINARY_CONFIDENCE])
#: How much a bit history knows, in four classes.
_CONFIDENCE = np.array([0, 1, 2, 2, 3], np.int64)[np.minimum(PRIORITY, 4)]


class State(NamedTuple):
    """Learnt: ``table``, ``histories``; of the byte being coded: ``hashes``, ``slots``."""

    table: Table
    primed: Table  #: what the first contexts knew before the block; never written
    #: uint32[2, CONTEXTS, 256 + 16], counters: of bits, of token ends; the last 16 are not used.
    histories: npt.NDArray[np.uint32]
    hashes: npt.NDArray[np.uint64]  #: uint64[CONTEXTS]
    slots: npt.NDArray[np.int64]  #: int64[2, CONTEXTS], where the slots of both nibbles start


def _new(setup: Setup, states: dict[str, Any]) -> State:
    first_guesses = FIRST_GUESS.astype(np.uint32) << np.uint32(16)
    return State(
        table=tables.new_table(setup.table_bits),
        primed=setup.primed,
        histories=np.tile(np.pad(first_guesses, (0, _PADDING)), (2, CONTEXTS, 1)),
        hashes=np.zeros(CONTEXTS, np.uint64),
        slots=np.zeros((2, CONTEXTS), np.int64),
    )


@kernel(spliced=True)
def _find_slots(own, nibble):
    """Find the slots of all hashes; all lines are prefetched before the first is read.

    A context that is new to the table brings what the primed table knows of it.
    """
    table, primed, hashes, slots = own.table, own.primed, own.hashes, own.slots
    for i in range(CONTEXTS):
        prefetch(table.data, tables.home_line(table, hashes[i]))
    for i in range(CONTEXTS):
        slots[nibble, i] = tables.search(table, hashes[i])
        if i < PRIMED_CONTEXTS and slots[nibble, i] < 0:
            prefetch(primed.data, tables.home_line(primed, hashes[i]))
    for i in range(CONTEXTS):
        slot = slots[nibble, i]
        if slot < 0:
            slot = -1 - slot
            tables.claim(table, slot, hashes[i])
            if i < PRIMED_CONTEXTS:
                tables.copy_known(table, slot, primed, hashes[i])
            slots[nibble, i] = slot


@kernel(spliced=True)
def _enter_byte(own, block, byte):
    hash_contexts(block, byte, own.hashes)
    _find_slots(own, 0)


@kernel(spliced=True)
def _enter_nibble(own, block, byte, bit):
    for i in range(CONTEXTS):
        own.hashes[i] = tables.nibble_hash(own.hashes[i], bit.partial & 15)
    _find_slots(own, 1)


@kernel(spliced=True)
def _node(own, bit, context):
    """Where the context's history of the bit lies in the table (unsigned: no index from behind)."""
    return np.uint64(own.slots[bit.nibble, context]) + np.uint64(NODES + bit.node)


@kernel(spliced=True)
def _select(own, block, byte, bit, rows, at):
    """By what the node's histories know in some of the contexts, two bits each."""
    confidence = np.int64(0)
    if bit.partial != TOKEN_END:
        for i in range(_CONFIDENCE_CONTEXTS.shape[1]):
            context = _CONFIDENCE_CONTEXTS[block.binary, i]
            state = own.table.data[own.slots[bit.nibble, context] + NODES + bit.node]
            confidence = confidence << 2 | _CONFIDENCE[state]
    rows[at] = confidence


@kernel(spliced=True)
def _predict(own, block, byte, bit, inputs, at):
    """A context that has not seen this node has no opinion, except on the end of a token."""
    end = np.int64(bit.partial == TOKEN_END)
    for i in range(CONTEXTS):
        state = own.table.data[_node(own, bit, i)]
        logit = STRETCH[own.histories[end, i, state] >> STRETCH_SHIFT]
        inputs[at + i] = logit if np.int64(state) + end > 0 else np.float32(0.0)


@kernel(spliced=True)
def _learn(own, block, byte, bit, outcome):
    end = np.int64(bit.partial == TOKEN_END)
    for i in range(CONTEXTS):
        at = _node(own, bit, i)
        state = own.table.data[at]
        counter = own.histories[end, i, state]
        own.histories[end, i, state] = update_counter(counter, outcome, _LIMIT)
        tables.update_node(own.table, at, outcome)


PREDICTOR = Predictor(
    name="contexts",
    new=_new,
    inputs=context_names(),
    sets=(WeightSet("confidence", 4 ** len(TEXT_CONFIDENCE), final=True),),
    enter_byte=_enter_byte,
    enter_nibble=_enter_nibble,
    select=_select,
    predict=_predict,
    learn=_learn,
    learnt=lambda own: {"histories": own.histories[:, :, :-_PADDING]},
)
