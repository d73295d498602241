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
from nczip.predictors.contexts import ContextLists, hasher
from nczip.predictors.counters import STRETCH_SHIFT, update_counter
from nczip.predictors.history import FIRST_GUESS, PRIORITY
from nczip.predictors.protocol import TOKEN_END, Predictor, Setup, WeightSet, no_output
from nczip.predictors.table import NODES, Table

_LIMIT = 1023
# Rows of a power of two would share a few sets of the first cache.
_PADDING = 16
#: How much a bit history knows, in four classes.
_CONFIDENCE = np.array([0, 1, 2, 2, 3], np.int64)[np.minimum(PRIORITY, 4)]


class State(NamedTuple):
    """Learnt: ``table``, ``histories``; of the byte being coded: ``hashes``, ``slots``."""

    table: Table
    primed: Table  #: what the first contexts knew before the block; never written
    #: uint32[2, contexts, 256 + 16], counters: of bits, of token ends; the last 16 are not used.
    histories: npt.NDArray[np.uint32]
    hashes: npt.NDArray[np.uint64]  #: uint64[contexts]
    slots: npt.NDArray[np.int64]  #: int64[2, contexts], where the slots of both nibbles start


def _look_ups(contexts: int, primed_contexts: int) -> tuple[Any, Any]:
    """The kernels that ask for the lines of so many contexts, and find their slots."""

    @kernel(spliced=True)
    def ask(own):
        """Prefetch the lines of all hashes."""
        for i in range(contexts):
            prefetch(own.table.data, tables.home_line(own.table, own.hashes[i]))

    @kernel(spliced=True)
    def find_slots(own, nibble):
        """Find the slots of all hashes, whose lines have been asked for.

        A context that is new to the table brings what the primed table knows of it.
        """
        table, primed, hashes, slots = own.table, own.primed, own.hashes, own.slots
        for i in range(contexts):
            slots[nibble, i] = tables.search(table, hashes[i])
            if i < primed_contexts and slots[nibble, i] < 0:
                prefetch(primed.data, tables.home_line(primed, hashes[i]))
        for i in range(contexts):
            slot = slots[nibble, i]
            if slot < 0:
                slot = -1 - slot
                tables.claim(table, slot, hashes[i])
                if i < primed_contexts:
                    tables.copy_known(table, slot, primed, hashes[i])
                slots[nibble, i] = slot

    return ask, find_slots


@kernel(spliced=True)
def _node(own, bit, context):
    """Where the context's history of the bit lies in the table (unsigned: no index from behind)."""
    return np.uint64(own.slots[bit.nibble, context]) + np.uint64(NODES + bit.node)


def predictor(lists: ContextLists) -> Predictor:
    """The contexts of a layout."""
    contexts = lists.size
    confident = np.array([lists.text_confidence, lists.binary_confidence], np.int64)
    hash_contexts = hasher(lists)
    ask, find_slots = _look_ups(contexts, lists.primed)

    def new(setup: Setup, states: dict[str, Any]) -> State:
        first_guesses = FIRST_GUESS.astype(np.uint32) << np.uint32(16)
        return State(
            table=tables.new_table(setup.table_bits),
            primed=setup.primed,
            histories=np.tile(np.pad(first_guesses, (0, _PADDING)), (2, contexts, 1)),
            hashes=np.zeros(contexts, np.uint64),
            slots=np.zeros((2, contexts), np.int64),
        )

    @kernel(spliced=True)
    def expect_byte(own, block, byte):
        """None of the contexts may depend on the match, which is not known yet."""
        hash_contexts(block, byte, own.hashes)
        ask(own)

    @kernel(spliced=True)
    def enter_byte(own, block, byte):
        hash_contexts(block, byte, own.hashes)
        ask(own)
        find_slots(own, 0)

    @kernel(spliced=True)
    def expect_nibble(own, block, byte, nibble):
        for i in range(contexts):
            own.hashes[i] = tables.nibble_hash(own.hashes[i], nibble)
        ask(own)

    @kernel(spliced=True)
    def enter_nibble(own, block, byte, bit):
        find_slots(own, 1)

    @kernel(spliced=True)
    def select(own, block, byte, bit, rows, at):
        """By what the node's histories know in some of the contexts, two bits each."""
        confidence = np.int64(0)
        if bit.partial != TOKEN_END:
            for i in range(confident.shape[1]):
                context = confident[block.binary, i]
                state = own.table.data[own.slots[bit.nibble, context] + NODES + bit.node]
                confidence = confidence << 2 | _CONFIDENCE[state]
        rows[at] = confidence

    @kernel(spliced=True)
    def predict(own, block, byte, bit, inputs, at):
        """A context that has not seen this node has no opinion, except on the end of a token."""
        end = np.int64(bit.partial == TOKEN_END)
        for i in range(contexts):
            state = own.table.data[_node(own, bit, i)]
            logit = STRETCH[own.histories[end, i, state] >> STRETCH_SHIFT]
            inputs[at + i] = logit if np.int64(state) + end > 0 else np.float32(0.0)

    @kernel(spliced=True)
    def learn(own, block, byte, bit, outcome):
        end = np.int64(bit.partial == TOKEN_END)
        for i in range(contexts):
            at = _node(own, bit, i)
            state = own.table.data[at]
            counter = own.histories[end, i, state]
            own.histories[end, i, state] = update_counter(counter, outcome, _LIMIT)
            tables.update_node(own.table, at, outcome)

    confidence = WeightSet("confidence", 4 ** len(lists.text_confidence))
    early = {} if lists.need_match else {"expect_byte": expect_byte}
    return Predictor(
        name="contexts",
        new=new,
        inputs=lists.names,
        sets=(confidence,) if lists.text_confidence else (),
        enter_byte=enter_byte,
        enter_nibble=enter_nibble,
        expect_nibble=expect_nibble,
        select=select if lists.text_confidence else no_output,
        predict=predict,
        learn=learn,
        learnt=lambda own: {"histories": own.histories[:, :, :-_PADDING]},
        **early,
    )
