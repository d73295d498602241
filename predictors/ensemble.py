"""The ensemble: every predictor's opinion of the next bit, mixed, coded and learnt from.

One kernel body serves text and binary, with and without a transformer, encoder and decoder, so
that all of them predict alike. A decision is coded in four steps, each a function below: collect
the inputs, select the weight sets, mix and refine, learn. Two kinds of decision exist: a bit of a
byte, and (only under a transformer) "the token ends here", which comes before a byte and has the
hashes of that byte's contexts and a slot in each context's line. It has weights of its own, and so
have the bits of a token's first byte: only the transformer knows which bytes a new token may start
with.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.exactmath import STRETCH, STRETCH_BITS, quantise, squash
from nczip.coder.jit import kernel
from nczip.coder.rangecoder import code_bit
from nczip.coder.simd import prefetch
from nczip.predictors import apm, ngram
from nczip.predictors.contexts import (
    CONTEXTS,
    ORDER_CONTEXTS,
    PRIMED_CONTEXTS,
    RUN_CONTEXTS,
    hash_contexts,
    hash_token_contexts,
)
from nczip.predictors.counters import EVEN_ODDS, update_counter
from nczip.predictors.history import FIRST_GUESS, PRIORITY
from nczip.predictors.lanes import (
    BRACKETS,
    CLASSES,
    LINE_START,
    MATCH_LENGTH,
    MISSES,
    POSITION,
    SHAPE,
    STOP,
    STRIDE,
    Followers,
    Strides,
    advance,
    advance_token,
    byte_back,
    new_followers,
    new_lanes,
    new_strides,
)
from nczip.predictors.match import (
    LENGTH_BUCKETS,
    MISS_CLASS,
    MISS_CLASSES,
    expected_byte,
    length_bucket,
    new_match_table,
    update_match,
)
from nczip.predictors.mixer import FINALS, Mixer, learn, mix, new_mixer, prefetch_rows
from nczip.predictors.recurrent import (
    Network,
    Weights,
    new_network,
    no_weights,
    node_logit,
    read_byte,
)
from nczip.predictors.transformer.trie import (
    Trie,
    ends_here,
    learn_bias,
    log_odds,
    new_bias,
    running_weights,
    split,
)

#: What an ablation can take away; a header names those that are switched off by these bits.
(
    BIAS, ORDERS, WORDS, SPARSE, LAYOUT, INDIRECT, MATCH, TRANSFORMER, SSE, RECORDS, SYNTAX, SHAPES,
    NETWORK,
) = (1 << i for i in range(13))  # fmt: skip
SWITCHES = {
    "bias": BIAS,
    "orders": ORDERS,
    "words": WORDS,
    "sparse": SPARSE,
    "layout": LAYOUT,
    "indirect": INDIRECT,
    "match": MATCH,
    "transformer": TRANSFORMER,
    "sse": SSE,
    "records": RECORDS,
    "syntax": SYNTAX,
    "shapes": SHAPES,
    "network": NETWORK,
}
ALL_SWITCHES = sum(SWITCHES.values())
_CONTEXT_SWITCH = (
    [ORDERS] * 7 + [WORDS] * 5 + [SPARSE] * 4 + [LAYOUT] * 4 + [INDIRECT] * 2 + [SYNTAX] * 2
    + [SHAPES] + [SYNTAX] + [MATCH] * 2 + [RECORDS] * 2 + [LAYOUT] * 7 + [SYNTAX] * 2
    + [SHAPES] * 11 + [INDIRECT] * 3 + [MATCH] + [SPARSE] + [INDIRECT] * 4 + [MATCH] * 2
    + [ORDERS] + [SPARSE] + [SHAPES] + [WORDS] * 5 + [SYNTAX] * 4 + [LAYOUT] * 3 + [INDIRECT] * 3
    + [MATCH]
)  # fmt: skip

# Inputs: the bit history of each context, the runs of the first, then these. The neural one is the
# transformer's, or without it the recurrent network's.
_RUNS = CONTEXTS
_ORDER0, _MATCH, _NEURAL, _CONSTANT = range(_RUNS + RUN_CONTEXTS, _RUNS + RUN_CONTEXTS + 4)
_INPUTS = 96
_CONSTANT_INPUT = np.float32(0.3)
_FIRST_WEIGHTS = 3.0  # their sum over the tables' inputs
_FIRST_NETWORK_WEIGHT = 0.2

# Weight sets: all rows for the bits of a byte; under a transformer as many again for "token ends
# here" decisions, and for the bits of a token's first byte.
_BITS, _TOKEN_ENDS, _FIRST_BITS, _BANKS = range(4)
_SETS = 11
_ROWS = (LENGTH_BUCKETS * 8, 32 * 256, 256, 256 * 8, 4096, 32 * 8, 8 * 256, 2048, 2048, 4096, 1024)
_BASES = np.concatenate([[0], np.cumsum(_ROWS)]).astype(np.int64)
# A final mixer for the partial byte, and three that share the rows of these sets.
_FINAL_SETS = (0, 9, 10)
_FINAL_BASES = np.cumsum([0, 256, *(_ROWS[number] for number in _FINAL_SETS)]).astype(np.int64)
_BANK, _FINAL_BANK = _BASES[-1], _FINAL_BASES[-1]

#: How much a bit history knows, in four classes; one set is chosen by that of these contexts, of
#: text and of binary data.
_CONFIDENCE = np.array([0, 1, 2, 2, 3], np.int64)[np.minimum(PRIORITY, 4)]
_CONFIDENCE_CONTEXTS = np.array([[2, 4, 6, 7, 8], [1, 2, 4, 6, 32]])

_HISTORY_LIMIT = 1023
_ORDER0_LIMIT = 255
_MATCH_LIMIT = 1023
_INDEX_SHIFT = np.uint32(32 - STRETCH_BITS)
_APM_CLASSES = 1 << 16  # rows of the curves by two classes; the hashed order-2 curves follow
_TOKEN_END = 0  # stands in for the partial byte, which is at least 1, in a "token ends" decision


@dataclass(frozen=True)
class Primer:
    """What an ensemble knows before its first byte (predictors/primer.py)."""

    table: ngram.Table
    learnt: dict[str, npt.NDArray[Any]]  #: see :func:`learnt_state`; without a transformer
    learnt_tokens: dict[str, npt.NDArray[Any]]  #: the same for text under a transformer


class Ensemble(NamedTuple):
    """All that adapts while a block is coded, and the block itself."""

    data: npt.NDArray[np.uint8]  #: uint8[n], the block's bytes, lane after lane
    lanes: npt.NDArray[np.int64]  #: int64[lanes, columns], see lanes.py
    table: ngram.Table
    primed: ngram.Table  #: what the contexts knew before the block; never written
    followers: Followers
    strides: Strides
    match_table: npt.NDArray[np.int32]
    histories: npt.NDArray[np.uint32]  #: uint32[CONTEXTS, 256], counter of each bit history
    end_histories: npt.NDArray[np.uint32]  #: the same for "token ends here"
    runs: npt.NDArray[np.uint32]  #: uint32[RUN_CONTEXTS, 128], counters: does the run go on?
    order0: npt.NDArray[np.uint32]  #: uint32[256], counter of each partial byte
    match_counters: npt.NDArray[np.uint32]  #: uint32[buckets * misses * 2], by expected bit
    mixer: Mixer
    curves: npt.NDArray[np.float32]  #: float32[2 * 65536, 33], APMs of classes and order 2
    hashes: npt.NDArray[np.uint64]  #: uint64[CONTEXTS], of the byte being coded
    slots: npt.NDArray[np.int64]  #: int64[2, CONTEXTS], slots of the byte's nibbles
    expectations: npt.NDArray[np.int64]  #: int64[2, RUN_CONTEXTS]: byte + 256 or 0, column
    known: npt.NDArray[np.int64]  #: int64[1], how many of the orders have been seen before
    leaves: npt.NDArray[np.int64]  #: int64[2], range of leaves still possible; empty without trie
    sums: npt.NDArray[np.int64]  #: int64[leaves + 1], running weights of the lane being coded
    bias: npt.NDArray[np.float32]  #: float32[V], the adaptive bias head
    masses: npt.NDArray[np.float32]  #: float32[V], token probabilities of the lane being coded
    trie: Trie
    network: Network
    disabled: npt.NDArray[np.int64]  #: int64[1], mask of the predictors that are off
    binary: npt.NDArray[np.int64]  #: int64[1], 1 where contexts of bytes replace those of text


def new_ensemble(
    data: npt.NDArray[np.uint8],
    edges: npt.NDArray[np.int64],
    table_bits: int,
    trie: Trie,
    disabled: int,
    primer: Primer | None = None,
    binary: bool = False,
    weights: Weights | None = None,
) -> Ensemble:
    """The state before a block: ``data`` holds its bytes (encoding) or room for them (decoding).

    Args:
        data: uint8[n].
        edges: int64[lanes + 1], where the lanes start, rising from 0 to n.
        table_bits: log2 of the lines of 64 bytes in the n-gram table.
        trie: the transformer's vocabulary, or ``no_trie()``.
        disabled: the predictors not to use, a sum of SWITCHES.
        primer: what to know from the start; None for nothing.
        binary: whether words and lines mean nothing.
        weights: the recurrent network's, where it takes the transformer's place.
    """
    banks = _BANKS if len(trie.token) else 1
    rows, final_rows = banks * int(_BANK), banks * int(_FINAL_BANK)
    network = new_network(weights or no_weights(), len(edges) - 1)
    mixer = new_mixer(_first_weights(network), rows, final_rows, _SETS)
    for context, switch in enumerate(_CONTEXT_SWITCH):
        if disabled & switch:
            mixer.gate[context] = 0
            if context < RUN_CONTEXTS:
                mixer.gate[_RUNS + context] = 0
    mixer.gate[_MATCH] = 0 if disabled & MATCH else 1
    mixer.gate[_NEURAL] = 0 if disabled & TRANSFORMER and len(trie.token) else 1
    first_guesses = FIRST_GUESS.astype(np.uint32) << np.uint32(16)
    ensemble = Ensemble(
        data=data,
        lanes=new_lanes(edges),
        table=ngram.new_table(table_bits),
        primed=ngram.new_table(0) if primer is None else primer.table,
        followers=new_followers(),
        strides=new_strides(),
        match_table=new_match_table(min(max(table_bits - 2, 10), 22)),
        histories=np.tile(first_guesses, (CONTEXTS, 1)),
        end_histories=np.tile(first_guesses, (CONTEXTS, 1)),
        runs=np.full((RUN_CONTEXTS, 128), EVEN_ODDS, np.uint32),
        order0=np.full(256, EVEN_ODDS, np.uint32),
        match_counters=np.full(LENGTH_BUCKETS * MISS_CLASSES * 2, EVEN_ODDS, np.uint32),
        mixer=mixer,
        curves=apm.new_apm(2 * _APM_CLASSES),
        hashes=np.zeros(CONTEXTS, np.uint64),
        slots=np.zeros((2, CONTEXTS), np.int64),
        expectations=np.zeros((2, RUN_CONTEXTS), np.int64),
        known=np.zeros(1, np.int64),
        leaves=np.zeros(2, np.int64),
        sums=np.zeros(len(trie.token) + 1, np.int64),
        bias=new_bias(trie),
        masses=np.zeros(len(trie.spells), np.float32),
        trie=trie,
        network=network,
        disabled=np.array([disabled], np.int64),
        binary=np.array([binary], np.int64),
    )
    if primer is not None:
        learnt = primer.learnt_tokens if len(trie.token) else primer.learnt
        for name, array in learnt_state(ensemble).items():
            array[...] = learnt[name]
    return ensemble


def _first_weights(network: Network) -> npt.NDArray[np.float32]:
    """The weights of the inputs where nothing has been learnt, float32[_INPUTS]."""
    weights = np.full(_INPUTS, _FIRST_WEIGHTS / (CONTEXTS + RUN_CONTEXTS), np.float32)
    if len(network.levels):
        weights[_NEURAL] = _FIRST_NETWORK_WEIGHT
    return weights


def learnt_state(ensemble: Ensemble) -> dict[str, npt.NDArray[Any]]:
    """What an ensemble has learnt of how to weigh its tables: views of its arrays, by name."""
    mixer = ensemble.mixer
    return {
        "histories": ensemble.histories,
        "end_histories": ensemble.end_histories,
        "runs": ensemble.runs,
        "order0": ensemble.order0,
        "match_counters": ensemble.match_counters,
        "weights": mixer.weights,
        "uses": mixer.uses,
        "final_weights": mixer.final_weights,
        "final_uses": mixer.final_uses,
        "curves": ensemble.curves,
    }


@kernel(inline=True)
def _find_slots(table, primed, hashes, slots, nibble):
    """The slots of all contexts' hashes; all are asked for before the first is read.

    A context that is new to the table brings what the primed table knows of it.
    """
    for i in range(CONTEXTS):
        prefetch(table.data, ngram.home_line(table, hashes[i]))
    for i in range(CONTEXTS):
        slots[nibble, i] = ngram.search(table, hashes[i])
        if i < PRIMED_CONTEXTS and slots[nibble, i] < 0:
            prefetch(primed.data, ngram.home_line(primed, hashes[i]))
    for i in range(CONTEXTS):
        slot = slots[nibble, i]
        if slot < 0:
            slot = -1 - slot
            ngram.claim(table, slot, hashes[i])
            if i < PRIMED_CONTEXTS:
                ngram.copy_known(table, slot, primed, hashes[i])
            slots[nibble, i] = slot


@kernel()
def _enter_byte(ensemble, lane, depth):
    """Hash the contexts of the lane's next byte and find their slots; returns the expected byte.

    ``depth`` is its place in the token, -1 without a transformer.
    """
    expected = expected_byte(ensemble.data, ensemble.lanes, lane)
    hash_contexts(
        ensemble.data,
        ensemble.lanes,
        lane,
        ensemble.followers,
        expected,
        ensemble.binary[0],
        ensemble.hashes,
    )
    if depth >= 0:
        hash_token_contexts(ensemble.data, ensemble.lanes, lane, depth, ensemble.hashes)
    _find_slots(ensemble.table, ensemble.primed, ensemble.hashes, ensemble.slots, 0)
    _expect_runs(ensemble.table.data, ensemble.slots, ensemble.expectations, ensemble.known)
    return expected


@kernel()
def _enter_second_nibble(ensemble, nibble):
    hashes = ensemble.hashes
    for i in range(CONTEXTS):
        hashes[i] = ngram.nibble_hash(hashes[i], nibble)
    _find_slots(ensemble.table, ensemble.primed, hashes, ensemble.slots, 1)


@kernel(inline=True)
def _expect_runs(data, slots, expectations, known):
    """What each context's run expects of a byte whose slots have been found; see ``known``."""
    known[0] = 0
    for i in range(RUN_CONTEXTS):
        first = slots[0, i]
        count = np.int64(data[first + ngram.RUN_COUNT])
        expectations[0, i] = 0
        if count > 0:
            expectations[0, i] = np.int64(data[first + ngram.RUN_BYTE]) | 256
            expectations[1, i] = min(count - 1, 15) * 8
            if i < ORDER_CONTEXTS:
                known[0] += 1


@kernel(inline=True)
def _collect_bit_inputs(
    inputs, table, slots, histories, runs, expectations, nibble, node, partial, bit_number
):
    """The opinions of the n-gram tables on the next bit of a byte."""
    for i in range(CONTEXTS):
        state = table.data[slots[nibble, i] + ngram.NODES + node]
        logit = STRETCH[histories[i, state] >> _INDEX_SHIFT]
        inputs[i] = logit if state > 0 else np.float32(0.0)
    for i in range(RUN_CONTEXTS):
        inputs[_RUNS + i] = np.float32(0.0)
        expected = expectations[0, i] >> (7 - bit_number)
        if expected >> 1 == partial:
            logit = STRETCH[runs[i, expectations[1, i] + bit_number] >> _INDEX_SHIFT]
            inputs[_RUNS + i] = logit if expected & 1 == 1 else -logit


@kernel(inline=True)
def _collect_token_end_inputs(inputs, table, slots, histories):
    """The opinions of the tables on "the token ends here": one node for each context."""
    for i in range(CONTEXTS):
        state = table.data[slots[0, i] + ngram.NODES]
        inputs[i] = STRETCH[histories[i, state] >> _INDEX_SHIFT]
    for i in range(RUN_CONTEXTS):
        inputs[_RUNS + i] = np.float32(0.0)


@kernel(inline=True)
def _learn_bit(table, slots, histories, runs, expectations, nibble, node, partial, bit_number, bit):
    for i in range(CONTEXTS):
        at = slots[nibble, i] + ngram.NODES + node
        state = table.data[at]
        histories[i, state] = update_counter(histories[i, state], bit, _HISTORY_LIMIT)
        ngram.update_node(table, at, bit)
    for i in range(RUN_CONTEXTS):
        expected = expectations[0, i] >> (7 - bit_number)
        if expected >> 1 == partial:
            column = expectations[1, i] + bit_number
            goes_on = np.int64(expected & 1 == bit)
            runs[i, column] = update_counter(runs[i, column], goes_on, _HISTORY_LIMIT)


@kernel(inline=True)
def _learn_byte(table, slots, byte):
    for i in range(RUN_CONTEXTS):
        ngram.update_run(table, slots[0, i], byte)


@kernel(inline=True)
def _learn_token_end(table, slots, histories, bit):
    for i in range(CONTEXTS):
        at = slots[0, i] + ngram.NODES
        state = table.data[at]
        histories[i, state] = update_counter(histories[i, state], bit, _HISTORY_LIMIT)
        ngram.update_node(table, at, bit)


@kernel(inline=True)
def _confidence(table, slots, nibble, node, binary):
    """What the node's histories know in some of the contexts, two bits each."""
    confidence = np.int64(0)
    for i in range(_CONFIDENCE_CONTEXTS.shape[1]):
        context = _CONFIDENCE_CONTEXTS[binary, i]
        state = table.data[slots[nibble, context] + ngram.NODES + node]
        confidence = confidence << 2 | _CONFIDENCE[state]
    return confidence


@kernel(inline=True)
def _surroundings(data, lanes, lane, binary):
    """Three numbers below 256, 256 and 4096 that choose weights.

    Of text the column, the innermost bracket, and the last three runs; of binary data the column of
    the record, the byte one record back, and the upper halves of the last three bytes.
    """
    column = lanes[lane, POSITION] - lanes[lane, LINE_START]
    bracket = lanes[lane, BRACKETS] & 255
    shape = lanes[lane, SHAPE] & 0xFFF
    if binary == 1:
        stride = lanes[lane, STRIDE]
        column = lanes[lane, POSITION] % stride
        bracket = np.int64(byte_back(data, lanes, lane, stride))
        shape = np.int64(0)
        for back in range(3, 0, -1):
            shape = shape << 4 | np.int64(byte_back(data, lanes, lane, back)) >> 4
    return min(column, 255), bracket, shape


@kernel(inline=True)
def _select(
    mixer, surroundings, recent, bank, partial, bit_number, length, depth, known, confidence
):
    """Choose a row of weights in each set, and ask for them.

    ``surroundings`` are :func:`_surroundings`'; ``recent`` packs the lane's last two bytes (bits 0
    to 15) and the classes of the last three (16 to 27); ``depth`` is the position in the token, -1
    without a transformer; ``known`` and ``confidence`` are what the tables know.
    """
    column, bracket, shape = surroundings
    if depth >= 0:
        certainty = np.int64(mixer.inputs[_NEURAL] + np.float32(16.5))
        fifth = min(max(certainty, 0), 31) * 8 + min(depth, 7)
    else:
        fifth = ((recent >> 24) & 15) * 8 + bit_number
    first = bank * _BANK
    mixer.selected[0] = first + _BASES[0] + length_bucket(length) * 8 + bit_number
    mixer.selected[1] = first + _BASES[1] + ((recent & 255) >> 3) * 256 + partial
    mixer.selected[2] = first + _BASES[2] + (recent & 255)
    mixer.selected[3] = first + _BASES[3] + ((recent >> 8) & 255) * 8 + bit_number
    mixer.selected[4] = first + _BASES[4] + shape
    mixer.selected[5] = first + _BASES[5] + fifth
    mixer.selected[6] = first + _BASES[6] + known * 256 + partial
    mixer.selected[7] = first + _BASES[7] + column * 8 + bit_number
    mixer.selected[8] = first + _BASES[8] + bracket * 8 + bit_number
    mixer.selected[9] = first + _BASES[9] + ((recent >> 16) & 0xFFF)
    mixer.selected[10] = first + _BASES[10] + confidence
    final_bank = bank * _FINAL_BANK
    mixer.final_selected[0] = final_bank + partial
    for j in range(FINALS - 1):
        number = _FINAL_SETS[j]
        row = mixer.selected[number] - first - _BASES[number]
        mixer.final_selected[j + 1] = final_bank + _FINAL_BASES[j + 1] + row
    prefetch_rows(mixer, _INPUTS, _SETS)


@kernel(inline=True)
def _recent(data, lanes, lane):
    """What :func:`_select` wants to know of the lane's past."""
    c1 = np.int64(byte_back(data, lanes, lane, 1))
    c2 = np.int64(byte_back(data, lanes, lane, 2))
    return c1 | c2 << 8 | (lanes[lane, CLASSES] & 0xFFF) << 16


@kernel()
def _code_decision(mixer, curves, use_curves, coder, buffer, recent, partial, bit):
    """Mix, refine, code and let mixer and APMs learn; returns the bit."""
    classes = partial | ((recent >> 16) & 255) << 8
    order2 = partial | (recent & 0xFFFF) << 8
    order2 = _APM_CLASSES + np.int64(
        ngram.hash_pair(np.uint64(0), np.uint64(order2)) >> np.uint64(48)
    )
    apm.prefetch_curve(curves, classes)
    apm.prefetch_curve(curves, order2)
    logit = mix(mixer, _INPUTS, _SETS)
    p = squash(logit)
    refined = p
    position = apm.axis_position(logit)
    if use_curves:
        q1 = apm.refine(curves, classes, position)
        q2 = apm.refine(curves, order2, position)
        refined = p * 0.34 + q1 * 0.33 + q2 * 0.33
    bit = code_bit(coder, buffer, quantise(refined), bit)
    apm.learn_apm(curves, classes, position, bit)
    apm.learn_apm(curves, order2, position, bit)
    learn(mixer, _INPUTS, _SETS, bit)
    return bit


@kernel(inline=True)
def _transformer_logit(sums, low, middle, high):
    """ln of the odds of [middle, high) against [low, middle)."""
    return log_odds(sums[high] - sums[middle], sums[middle] - sums[low])


@kernel(inline=True)
def _part_leaves(ensemble, depth, partial, bit_number):
    """Where the leaves of a one start, the bit that they force (-1 for neither), and its logit."""
    low, high = ensemble.leaves[0], ensemble.leaves[1]
    least = (((partial << 1) | 1) << (7 - bit_number)) & 255
    middle = split(ensemble.trie, low, high, depth, least)
    forced = np.int64(-1)
    logit = np.float32(0.0)
    if middle == low:
        forced = np.int64(1)
    elif middle == high:
        forced = np.int64(0)
    else:
        logit = _transformer_logit(ensemble.sums, low, middle, high)
    return middle, forced, logit


@kernel()
def _code_byte(ensemble, coder, buffer, lane, expected, depth):
    """Code the lane's next byte, whose contexts are entered; narrows ``leaves``."""
    data, lanes, table, slots = ensemble.data, ensemble.lanes, ensemble.table, ensemble.slots
    mixer, leaves, order0 = ensemble.mixer, ensemble.leaves, ensemble.order0
    match_counters, inputs = ensemble.match_counters, ensemble.mixer.inputs
    histories, runs, expectations = ensemble.histories, ensemble.runs, ensemble.expectations
    position = lanes[lane, POSITION]
    byte = np.int64(data[position])
    length = lanes[lane, MATCH_LENGTH]
    miss_class = MISS_CLASS[lanes[lane, MISSES]]
    recent = _recent(data, lanes, lane)
    surroundings = _surroundings(data, lanes, lane, ensemble.binary[0])
    guided = leaves[1] > leaves[0]
    networked = not guided and ensemble.network.levels.shape[0] > 0
    if networked:
        read_byte(ensemble.network, lane, recent & 255)
    bank = _FIRST_BITS if depth == 0 else _BITS
    use_curves = ensemble.disabled[0] & SSE == 0
    partial = np.int64(1)
    node = np.int64(1)
    inputs[_CONSTANT] = _CONSTANT_INPUT
    for bit_number in range(8):
        if bit_number == 4:
            _enter_second_nibble(ensemble, partial & 15)
            node = np.int64(1)
        nibble = bit_number >> 2
        if length > 0 and expected >> (8 - bit_number) != partial:
            length = np.int64(0)
        match_row = length_bucket(length) * MISS_CLASSES + miss_class
        match_slot = match_row * 2 + ((expected >> (7 - bit_number)) & 1)
        forced = np.int64(-1)
        middle = np.int64(0)
        inputs[_NEURAL] = np.float32(0.0)
        if guided:
            middle, forced, inputs[_NEURAL] = _part_leaves(ensemble, depth, partial, bit_number)
        elif networked:
            inputs[_NEURAL] = node_logit(ensemble.network, partial)
        if forced >= 0:  # the vocabulary leaves no choice
            bit = forced
        else:
            confidence = _confidence(table, slots, nibble, node, ensemble.binary[0])
            _select(
                mixer, surroundings, recent, bank, partial, bit_number, length, depth,
                ensemble.known[0], confidence,
            )  # fmt: skip
            _collect_bit_inputs(
                inputs, table, slots, histories, runs, expectations,
                nibble, node, partial, bit_number,
            )  # fmt: skip
            inputs[_ORDER0] = STRETCH[order0[partial] >> _INDEX_SHIFT]
            inputs[_MATCH] = np.float32(0.0)
            if length > 0:
                inputs[_MATCH] = STRETCH[match_counters[match_slot] >> _INDEX_SHIFT]
            bit = (byte >> (7 - bit_number)) & 1
            bit = _code_decision(
                mixer, ensemble.curves, use_curves, coder, buffer, recent, partial, bit
            )
            if guided:
                leaves[1 - bit] = middle
        _learn_bit(
            table, slots, histories, runs, expectations, nibble, node, partial, bit_number, bit
        )
        order0[partial] = update_counter(order0[partial], bit, _ORDER0_LIMIT)
        if length > 0:
            match_counters[match_slot] = update_counter(
                match_counters[match_slot], bit, _MATCH_LIMIT
            )
        partial = (partial << 1) | bit
        node = (node << 1) | bit
    _learn_byte(table, slots, partial & 255)
    data[position] = np.uint8(partial & 255)
    advance(data, lanes, lane, ensemble.followers, ensemble.strides)
    update_match(data, lanes, lane, ensemble.match_table)


@kernel()
def _code_token_end(ensemble, coder, buffer, lane, depth, bit):
    """Code whether the token that is the first leaf of the range ends here; returns the bit."""
    mixer, order0 = ensemble.mixer, ensemble.order0
    inputs, leaves = ensemble.mixer.inputs, ensemble.leaves
    recent = _recent(ensemble.data, ensemble.lanes, lane)
    surroundings = _surroundings(ensemble.data, ensemble.lanes, lane, ensemble.binary[0])
    length = ensemble.lanes[lane, MATCH_LENGTH]
    # Literals would have their kernels compiled once more.
    bank, partial, none = np.int64(_TOKEN_ENDS), np.int64(_TOKEN_END), np.int64(0)
    inputs[_ORDER0] = STRETCH[order0[_TOKEN_END] >> _INDEX_SHIFT]
    inputs[_MATCH] = np.float32(0.0)
    # ln of the odds of ending: the first leaf against all others of the range.
    inputs[_NEURAL] = -_transformer_logit(ensemble.sums, leaves[0], leaves[0] + 1, leaves[1])
    inputs[_CONSTANT] = _CONSTANT_INPUT
    _select(
        mixer, surroundings, recent, bank, partial, none, length, depth,
        ensemble.known[0], none,
    )  # fmt: skip
    _collect_token_end_inputs(inputs, ensemble.table, ensemble.slots, ensemble.end_histories)
    use_curves = ensemble.disabled[0] & SSE == 0
    bit = _code_decision(mixer, ensemble.curves, use_curves, coder, buffer, recent, partial, bit)
    _learn_token_end(ensemble.table, ensemble.slots, ensemble.end_histories, bit)
    order0[_TOKEN_END] = update_counter(order0[_TOKEN_END], bit, _ORDER0_LIMIT)
    return bit


@kernel()
def _code_token(ensemble, coder, buffer, lane, length):
    """Code one token as its path through the trie; returns its leaf.

    ``ensemble.sums`` holds the transformer's weights for it; ``length`` is the token's bytes when
    encoding.
    """
    lanes, leaves, trie = ensemble.lanes, ensemble.leaves, ensemble.trie
    leaves[0], leaves[1] = 0, trie.token.shape[0]
    depth = np.int64(0)
    while lanes[lane, POSITION] < lanes[lane, STOP]:
        may_end = depth > 0 and ends_here(trie, leaves[0], depth)
        if may_end and leaves[1] - leaves[0] == 1:
            break
        expected = _enter_byte(ensemble, lane, depth)
        if may_end:
            bit = np.int64(1) if depth == length else np.int64(0)
            if _code_token_end(ensemble, coder, buffer, lane, depth, bit) == 1:
                break
            leaves[0] += 1
        _code_byte(ensemble, coder, buffer, lane, expected, depth)
        depth += 1
    return leaves[0]


@kernel()
def code_bytes(ensemble, coder, buffer, first_lane, last_lane):
    """Code lanes [first, last) to their ends without a transformer, one byte of each in turn."""
    lanes = ensemble.lanes
    ensemble.leaves[0] = ensemble.leaves[1] = 0
    depth = np.int64(-1)  # a literal would have its kernels compiled once more
    more = True
    while more:
        more = False
        for lane in range(first_lane, last_lane):
            if lanes[lane, POSITION] < lanes[lane, STOP]:
                expected = _enter_byte(ensemble, lane, depth)
                _code_byte(ensemble, coder, buffer, lane, expected, depth)
                more = True


@kernel()
def code_tokens(ensemble, coder, buffer, step, logits):
    """Code one token of each active lane, in the order of ``step``.

    Args:
        step: int64[k, 3], updated in place: the lane; the row of ``logits`` that belongs to it;
            the token's bytes when encoding (``data`` holds them), replaced by the token coded.
        logits: float32[rows, V], nats, finite.
    """
    trie, sums = ensemble.trie, ensemble.sums
    for i in range(step.shape[0]):
        running_weights(trie, logits, step[i, 1], ensemble.bias, ensemble.masses, sums)
        leaf = _code_token(ensemble, coder, buffer, step[i, 0], step[i, 2])
        advance_token(ensemble.lanes, step[i, 0], leaf)
        step[i, 2] = trie.token[leaf]
        if ensemble.disabled[0] & BIAS == 0:
            learn_bias(ensemble.bias, ensemble.masses, trie.token[leaf])
