"""The ensemble: every predictor's opinion of the next bit, mixed, coded and learnt from.

One kernel body serves text and binary, with and without a transformer, encoder and decoder, so
that all of them predict alike. A decision is coded in four steps, each a function below: collect
the inputs, select the weight sets, mix and refine, learn. Two kinds of decision exist: a bit of a
byte, and (only under a transformer) "the token ends here", which comes before a byte and has the
hashes of that byte's contexts, rows of weights of its own, and a slot in each context's line.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from nczip.coder.exactmath import STRETCH, STRETCH_BITS, quantise, squash
from nczip.coder.jit import kernel
from nczip.coder.rangecoder import code_bit
from nczip.predictors import apm, ngram
from nczip.predictors.contexts import (
    CLASSES,
    CONTEXTS,
    MATCH_LENGTH,
    POSITION,
    STOP,
    Followers,
    Strides,
    advance,
    byte_back,
    hash_contexts,
    new_lanes,
    new_strides,
)
from nczip.predictors.counters import EVEN_ODDS, update_counter
from nczip.predictors.history import FIRST_GUESS
from nczip.predictors.match import (
    LENGTH_BUCKETS,
    expected_byte,
    length_bucket,
    new_match_table,
    update_match,
)
from nczip.predictors.mixer import Mixer, learn, mix, new_mixer, settle
from nczip.predictors.simd import prefetch
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
SKIP, BIAS, ORDERS, WORDS, SPARSE, LAYOUT, INDIRECT, MATCH, TRANSFORMER, SSE, RECORDS = (
    1 << i for i in range(11)
)
SWITCHES = {
    "skip": SKIP,
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
}
ALL_SWITCHES = sum(SWITCHES.values())
_CONTEXT_SWITCH = (
    [ORDERS] * 7 + [WORDS] * 4 + [SPARSE] * 2 + [LAYOUT] * 2 + [INDIRECT] * 2 + [LAYOUT]
    + [MATCH] * 2 + [RECORDS] * 2
)  # fmt: skip

#: A lane is certain of its next token after a match this long (bytes).
CERTAIN_LENGTH = 32

# Inputs: two for each context, then these.
_ORDER0, _MATCH, _TRANSFORMER, _CONSTANT = range(2 * CONTEXTS, 2 * CONTEXTS + 4)
_INPUTS = 48
_CONSTANT_INPUT = np.float32(0.3)

# Weight sets: rows for the bits of a byte, then as many for "token ends here" decisions.
_SETS = 6
_ROWS = (LENGTH_BUCKETS * 8, 256, 256, 256 * 8, 256, 32 * 8)
_BASES = np.concatenate([[0], 2 * np.cumsum(_ROWS)]).astype(np.int64)
_SIZES = np.array(_ROWS, np.int64)

_HISTORY_LIMIT = 255
_ORDER0_LIMIT = 255
_MATCH_LIMIT = 1023
_INDEX_SHIFT = np.uint32(32 - STRETCH_BITS)
_APM_ORDER1 = 1 << 16  # rows of the order-1 curves; the hashed order-2 curves follow
_TOKEN_END = 0  # stands in for the partial byte, which is at least 1, in a "token ends" decision


class Ensemble(NamedTuple):
    """All that adapts while a block is coded, and the block itself."""

    data: npt.NDArray[np.uint8]  #: uint8[n], the block's bytes, lane after lane
    lanes: npt.NDArray[np.int64]  #: int64[lanes, columns], see contexts.py
    table: npt.NDArray[np.uint32]  #: uint32[lines, 16], see ngram.py
    followers: Followers
    strides: Strides
    match_table: npt.NDArray[np.int32]
    histories: npt.NDArray[np.uint32]  #: uint32[CONTEXTS, 256], counter of each bit history
    order0: npt.NDArray[np.uint32]  #: uint32[256], counter of each partial byte
    match_counters: npt.NDArray[np.uint32]  #: uint32[LENGTH_BUCKETS * 2], by expected bit
    mixer: Mixer
    curves: npt.NDArray[np.float32]  #: float32[2 * 65536, 33], APMs of order 1 and 2
    hashes: npt.NDArray[np.uint64]  #: uint64[CONTEXTS], of the byte being coded
    lines: npt.NDArray[np.int64]  #: int64[CONTEXTS], lines of the nibble being coded
    leaves: npt.NDArray[np.int64]  #: int64[2], range of leaves still possible; empty without trie
    sums: npt.NDArray[np.int64]  #: int64[leaves + 1], running weights of the lane being coded
    bias: npt.NDArray[np.float32]  #: float32[V], the adaptive bias head
    masses: npt.NDArray[np.float32]  #: float32[V], token probabilities of the lane being coded
    trie: Trie
    disabled: npt.NDArray[np.int64]  #: int64[1], mask of the predictors that are off


def new_ensemble(
    data: npt.NDArray[np.uint8],
    edges: npt.NDArray[np.int64],
    table_bits: int,
    trie: Trie,
    disabled: int,
) -> Ensemble:
    """The state before a block: ``data`` holds its bytes (encoding) or room for them (decoding).

    Args:
        data: uint8[n].
        edges: int64[lanes + 1], where the lanes start, rising from 0 to n.
        table_bits: log2 of the lines of 64 bytes in the n-gram table.
        trie: the transformer's vocabulary, or ``no_trie()``.
        disabled: the predictors not to use, a sum of SWITCHES.
    """
    mixer = new_mixer(_INPUTS, 2 * CONTEXTS + 2, int(_BASES[-1]), 256, _SETS)
    for context, switch in enumerate(_CONTEXT_SWITCH):
        if disabled & switch:
            mixer.gate[2 * context : 2 * context + 2] = 0
    mixer.gate[_MATCH] = 0 if disabled & MATCH else 1
    mixer.gate[_TRANSFORMER] = 0 if disabled & TRANSFORMER else 1
    return Ensemble(
        data=data,
        lanes=new_lanes(edges),
        table=ngram.new_table(table_bits),
        followers=Followers(np.zeros(256, np.uint32), np.zeros(1 << 16, np.uint32)),
        strides=new_strides(),
        match_table=new_match_table(min(max(table_bits - 2, 10), 22)),
        histories=np.tile(FIRST_GUESS.astype(np.uint32) << np.uint32(16), (CONTEXTS, 1)),
        order0=np.full(256, EVEN_ODDS, np.uint32),
        match_counters=np.full(LENGTH_BUCKETS * 2, EVEN_ODDS, np.uint32),
        mixer=mixer,
        curves=apm.new_apm(2 * _APM_ORDER1),
        hashes=np.zeros(CONTEXTS, np.uint64),
        lines=np.zeros(CONTEXTS, np.int64),
        leaves=np.zeros(2, np.int64),
        sums=np.zeros(len(trie.token) + 1, np.int64),
        bias=new_bias(trie),
        masses=np.zeros(len(trie.spells), np.float32),
        trie=trie,
        disabled=np.array([disabled], np.int64),
    )


@kernel(inline=True)
def _find_lines(table, hashes, lines):
    """The lines of all contexts' hashes; all are asked for before the first is read."""
    for i in range(CONTEXTS):
        prefetch(table, ngram.home_line(table, hashes[i]))
    for i in range(CONTEXTS):
        lines[i] = ngram.find_line(table, hashes[i])


@kernel()
def _enter_byte(data, lanes, lane, followers, table, hashes, lines):
    """Hash the contexts of the lane's next byte and find their lines; returns the expected byte."""
    expected = expected_byte(data, lanes, lane)
    hash_contexts(data, lanes, lane, followers, expected, hashes)
    _find_lines(table, hashes, lines)
    return expected


@kernel()
def _enter_second_nibble(table, hashes, lines, nibble):
    for i in range(CONTEXTS):
        hashes[i] = ngram.nibble_hash(hashes[i], nibble)
    _find_lines(table, hashes, lines)


@kernel(inline=True)
def _collect_bit_inputs(inputs, table, lines, histories, node):
    """The opinions of the n-gram tables on the next bit of a byte."""
    for i in range(CONTEXTS):
        word = table[lines[i], node]
        inputs[2 * i] = STRETCH[word >> _INDEX_SHIFT]
        inputs[2 * i + 1] = STRETCH[histories[i, word & np.uint32(255)] >> _INDEX_SHIFT]


@kernel(inline=True)
def _collect_token_end_inputs(inputs, table, lines):
    """The opinions of the tables on "the token ends here": one slot for each context."""
    for i in range(CONTEXTS):
        inputs[2 * i] = STRETCH[(table[lines[i], 0] >> np.uint32(4)) & np.uint32(0xFFF)]
        inputs[2 * i + 1] = np.float32(0.0)


@kernel(inline=True)
def _learn_bit(table, lines, histories, node, bit):
    for i in range(CONTEXTS):
        word = table[lines[i], node]
        state = word & np.uint32(255)
        histories[i, state] = update_counter(histories[i, state], bit, _HISTORY_LIMIT)
        table[lines[i], node] = ngram.update_node(word, bit)


@kernel(inline=True)
def _learn_token_end(table, lines, bit):
    for i in range(CONTEXTS):
        table[lines[i], 0] = ngram.update_token_end(table[lines[i], 0], bit)


@kernel(inline=True)
def _select(mixer, recent, bank, partial, bit_number, length, depth):
    """Choose a row of weights in each set.

    ``recent`` packs the lane's last two bytes (bits 0 to 15) and the classes of the last three
    (16 to 27); ``bank`` is 1 for "token ends here"; ``depth`` is the position in the token, -1
    without a transformer.
    """
    if depth >= 0:
        certainty = np.int64(mixer.inputs[_TRANSFORMER] + np.float32(16.5))
        fifth = min(max(certainty, 0), 31) * 8 + min(depth, 7)
    else:
        fifth = ((recent >> 24) & 15) * 8 + bit_number
    _select_row(mixer, bank, 0, length_bucket(length) * 8 + bit_number)
    _select_row(mixer, bank, 1, partial)
    _select_row(mixer, bank, 2, recent & 255)
    _select_row(mixer, bank, 3, ((recent >> 8) & 255) * 8 + bit_number)
    _select_row(mixer, bank, 4, (recent >> 16) & 255)
    _select_row(mixer, bank, 5, fifth)


@kernel(inline=True)
def _select_row(mixer, bank, number, row):
    mixer.selected[number] = (_BASES[number] + bank * _SIZES[number] + row) * _INPUTS


@kernel(inline=True)
def _recent(data, lanes, lane):
    """What :func:`_select` wants to know of the lane's past."""
    c1 = np.int64(byte_back(data, lanes, lane, 1))
    c2 = np.int64(byte_back(data, lanes, lane, 2))
    return c1 | c2 << 8 | (lanes[lane, CLASSES] & 0xFFF) << 16


@kernel()
def _code_decision(mixer, curves, use_curves, coder, buffer, recent, partial, bit):
    """Mix, refine, code and let mixer and APMs learn; returns the bit."""
    logit = mix(mixer, _SETS, partial)
    p = squash(logit)
    refined = p
    position = apm.axis_position(logit)
    order1 = partial | (recent & 255) << 8
    order2 = partial | (recent & 0xFFFF) << 8
    order2 = _APM_ORDER1 + np.int64(
        ngram.hash_pair(np.uint64(0), np.uint64(order2)) >> np.uint64(48)
    )
    if use_curves:
        q1 = apm.refine(curves, order1, position)
        q2 = apm.refine(curves, order2, position)
        refined = p * 0.34 + q1 * 0.33 + q2 * 0.33
    bit = code_bit(coder, buffer, quantise(refined), bit)
    apm.learn_apm(curves, order1, position, bit)
    apm.learn_apm(curves, order2, position, bit)
    learn(mixer, _SETS, partial, p, bit)
    return bit


@kernel(inline=True)
def _transformer_logit(sums, low, middle, high):
    """ln of the odds of [middle, high) against [low, middle), 0 where the transformer is off."""
    if sums[high] == 0:  # the lane skipped the transformer
        return np.float32(0.0)
    return log_odds(sums[high] - sums[middle], sums[middle] - sums[low])


@kernel()
def _code_byte(ensemble, coder, buffer, lane, expected, depth):
    """Code the lane's next byte, whose contexts are entered; narrows ``leaves``."""
    data, lanes, table, lines = ensemble.data, ensemble.lanes, ensemble.table, ensemble.lines
    mixer, leaves, order0 = ensemble.mixer, ensemble.leaves, ensemble.order0
    match_counters, inputs = ensemble.match_counters, ensemble.mixer.inputs
    position = lanes[lane, POSITION]
    byte = np.int64(data[position])
    length = lanes[lane, MATCH_LENGTH]
    recent = _recent(data, lanes, lane)
    guided = leaves[1] > leaves[0]
    use_curves = ensemble.disabled[0] & SSE == 0
    partial = np.int64(1)
    node = np.int64(1)
    inputs[_CONSTANT] = _CONSTANT_INPUT
    for bit_number in range(8):
        if bit_number == 4:
            _enter_second_nibble(table, ensemble.hashes, lines, partial & 15)
            node = np.int64(1)
        if length > 0 and expected >> (8 - bit_number) != partial:
            length = np.int64(0)
        match_slot = length_bucket(length) * 2 + ((expected >> (7 - bit_number)) & 1)
        forced = np.int64(-1)
        middle = np.int64(0)
        inputs[_TRANSFORMER] = np.float32(0.0)
        if guided:
            least = (((partial << 1) | 1) << (7 - bit_number)) & 255
            middle = split(ensemble.trie, leaves[0], leaves[1], depth, least)
            if middle == leaves[0]:
                forced = np.int64(1)
            elif middle == leaves[1]:
                forced = np.int64(0)
            else:
                inputs[_TRANSFORMER] = _transformer_logit(
                    ensemble.sums, leaves[0], middle, leaves[1]
                )
        if forced >= 0:  # the vocabulary leaves no choice
            bit = forced
        else:
            _collect_bit_inputs(inputs, table, lines, ensemble.histories, node)
            inputs[_ORDER0] = STRETCH[order0[partial] >> _INDEX_SHIFT]
            inputs[_MATCH] = np.float32(0.0)
            if length > 0:
                inputs[_MATCH] = STRETCH[match_counters[match_slot] >> _INDEX_SHIFT]
            _select(mixer, recent, 0, partial, bit_number, length, depth)
            bit = (byte >> (7 - bit_number)) & 1
            bit = _code_decision(
                mixer, ensemble.curves, use_curves, coder, buffer, recent, partial, bit
            )
            if guided:
                leaves[1 - bit] = middle
        _learn_bit(table, lines, ensemble.histories, node, bit)
        order0[partial] = update_counter(order0[partial], bit, _ORDER0_LIMIT)
        if length > 0:
            match_counters[match_slot] = update_counter(
                match_counters[match_slot], bit, _MATCH_LIMIT
            )
        partial = (partial << 1) | bit
        node = (node << 1) | bit
    data[position] = np.uint8(partial & 255)
    advance(data, lanes, lane, ensemble.followers, ensemble.strides)
    update_match(data, lanes, lane, ensemble.match_table)
    settle(mixer)


@kernel()
def _code_token_end(ensemble, coder, buffer, lane, depth, bit):
    """Code whether the token that is the first leaf of the range ends here; returns the bit."""
    mixer, order0 = ensemble.mixer, ensemble.order0
    inputs, leaves = ensemble.mixer.inputs, ensemble.leaves
    recent = _recent(ensemble.data, ensemble.lanes, lane)
    length = ensemble.lanes[lane, MATCH_LENGTH]
    _collect_token_end_inputs(inputs, ensemble.table, ensemble.lines)
    inputs[_ORDER0] = STRETCH[order0[_TOKEN_END] >> _INDEX_SHIFT]
    inputs[_MATCH] = np.float32(0.0)
    # ln of the odds of ending: the first leaf against all others of the range.
    inputs[_TRANSFORMER] = -_transformer_logit(ensemble.sums, leaves[0], leaves[0] + 1, leaves[1])
    inputs[_CONSTANT] = _CONSTANT_INPUT
    _select(mixer, recent, 1, _TOKEN_END, 0, length, depth)
    use_curves = ensemble.disabled[0] & SSE == 0
    bit = _code_decision(mixer, ensemble.curves, use_curves, coder, buffer, recent, _TOKEN_END, bit)
    _learn_token_end(ensemble.table, ensemble.lines, bit)
    order0[_TOKEN_END] = update_counter(order0[_TOKEN_END], bit, _ORDER0_LIMIT)
    return bit


@kernel()
def _code_token(ensemble, coder, buffer, lane, length):
    """Code one token as its path through the trie; returns its leaf.

    ``ensemble.sums`` holds the transformer's weights for it, or zeros where it was skipped;
    ``length`` is the token's bytes when encoding.
    """
    data, lanes, leaves, trie = ensemble.data, ensemble.lanes, ensemble.leaves, ensemble.trie
    leaves[0], leaves[1] = 0, trie.token.shape[0]
    depth = np.int64(0)
    while lanes[lane, POSITION] < lanes[lane, STOP]:
        may_end = depth > 0 and ends_here(trie, leaves[0], depth)
        if may_end and leaves[1] - leaves[0] == 1:
            break
        expected = _enter_byte(
            data, lanes, lane, ensemble.followers, ensemble.table, ensemble.hashes, ensemble.lines
        )
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
    more = True
    while more:
        more = False
        for lane in range(first_lane, last_lane):
            if lanes[lane, POSITION] < lanes[lane, STOP]:
                expected = _enter_byte(
                    ensemble.data, lanes, lane, ensemble.followers, ensemble.table,
                    ensemble.hashes, ensemble.lines,
                )  # fmt: skip
                _code_byte(ensemble, coder, buffer, lane, expected, -1)
                more = True


@kernel()
def code_tokens(ensemble, coder, buffer, step, logits):
    """Code one token of each active lane, in the order of ``step``.

    Args:
        step: int64[k, 3], updated in place: the lane; the row of ``logits`` that belongs to it,
            -1 where the transformer was skipped; the token's bytes when encoding (``data`` holds
            them), replaced by the token that was coded.
        logits: float32[rows, V], nats, finite.
    """
    trie, sums = ensemble.trie, ensemble.sums
    for i in range(step.shape[0]):
        lane, row = step[i, 0], step[i, 1]
        if row >= 0:
            running_weights(trie, logits, row, ensemble.bias, ensemble.masses, sums)
        else:
            for j in range(sums.shape[0]):
                sums[j] = 0
        leaf = _code_token(ensemble, coder, buffer, lane, step[i, 2])
        step[i, 2] = trie.token[leaf]
        if row >= 0 and ensemble.disabled[0] & BIAS == 0:
            learn_bias(ensemble.bias, ensemble.masses, trie.token[leaf])
