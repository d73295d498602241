"""Coding: bytes and tokens as decisions, each predicted, coded, and learnt from.

A byte is eight decisions, the highest bit first. A token, under a transformer, is its path through
the byte trie: before each of its bytes but the first, where the vocabulary allows it, one decision
more says whether it ends there. A bit on which all the tokens still possible agree is not coded,
only learnt.

Other threads look on: the range coder's state counts the bytes coded and can ask to stop.
"""

import numpy as np

from nczip.coder.jit import kernel
from nczip.coder.rangecoder import ABORT, code_bit, count_byte, end_token
from nczip.predictors import layout
from nczip.predictors.ensemble import learn_bit, learn_mix, leave_byte, predict_bit
from nczip.predictors.match import expected_byte, match_class
from nczip.predictors.memory import (
    CLASSES,
    POSITION,
    STOP,
    advance_token,
    byte_back,
)
from nczip.predictors.protocol import TOKEN_END, Bit, Byte
from nczip.predictors.transformer.guide import choose_bit, choose_end
from nczip.predictors.transformer.trie import ends_here, learn_bias, running_weights


@kernel(internal=True)
def _enter_byte(ensemble, lane, depth):
    """Let the predictors look up what they know of the lane's next byte; returns the Byte.

    ``depth`` is its place in the token, -1 without a transformer.
    """
    block = ensemble.block
    data, lanes = block.data, block.lanes
    byte = Byte(
        lane,
        depth,
        expected_byte(data, lanes, lane),
        match_class(lanes, lane),
        np.int64(byte_back(data, lanes, lane, 1)),
        np.int64(byte_back(data, lanes, lane, 2)),
        lanes[lane, CLASSES] & 0xFFF,
    )
    layout.enter_byte(ensemble.states, block, byte)
    return byte


@kernel(internal=True)
def _enter_nibble(ensemble, byte, bit):
    layout.enter_nibble(ensemble.states, ensemble.block, byte, bit)


@kernel(spliced=True)
def _bit(ensemble, byte, partial, number):
    """The decision about bit ``number`` of a byte that is known to be ``partial``."""
    nibble = number >> 2
    known = number & 3
    node = 1 << known | partial & ((1 << known) - 1)
    choice = choose_bit(ensemble.states.transformer, byte.depth, partial, number)
    return Bit(partial, number, nibble, node, choice)


@kernel(internal=True)
def _code_byte(ensemble, coder, buffer, byte):
    """Code a byte that has been entered."""
    block = ensemble.block
    value = np.int64(block.data[block.lanes[byte.lane, POSITION]])  # means nothing to a decoder
    partial = np.int64(1)
    for number in range(8):
        bit = _bit(ensemble, byte, partial, number)
        if number == 4:
            _enter_nibble(ensemble, byte, bit)
        outcome = bit.choice.forced
        if outcome < 0:
            prediction = predict_bit(ensemble, byte, bit)
            outcome = (value >> (7 - number)) & 1
            outcome = code_bit(coder, buffer, prediction.probability, outcome)
            learn_mix(ensemble, prediction, outcome)
        learn_bit(ensemble, byte, bit, outcome)
        partial = partial << 1 | outcome
    leave_byte(ensemble, byte, partial & 255)


@kernel(internal=True)
def _code_token_end(ensemble, coder, buffer, byte, ends):
    """Code whether the token that is the first leaf of the range ends here; returns 1 or 0."""
    none = np.int64(0)  # literals would have their kernels compiled once more
    bit = Bit(np.int64(TOKEN_END), none, none, none, choose_end(ensemble.states.transformer))
    prediction = predict_bit(ensemble, byte, bit)
    outcome = code_bit(coder, buffer, prediction.probability, ends)
    learn_mix(ensemble, prediction, outcome)
    learn_bit(ensemble, byte, bit, outcome)
    return outcome


@kernel(internal=True)
def _code_token(ensemble, coder, buffer, lane, length):
    """Code one token as its path through the trie; returns its leaf.

    The transformer's weights for it are known; ``length`` is the token's bytes when encoding.
    """
    lanes, guide = ensemble.block.lanes, ensemble.states.transformer
    leaves, trie = guide.leaves, guide.trie
    leaves[0], leaves[1] = 0, trie.token.shape[0]
    depth = np.int64(0)
    while lanes[lane, POSITION] < lanes[lane, STOP]:
        may_end = depth > 0 and ends_here(trie, leaves[0], depth)
        if may_end and leaves[1] - leaves[0] == 1:
            break
        byte = _enter_byte(ensemble, lane, depth)
        if may_end:
            ends = np.int64(1) if depth == length else np.int64(0)
            if _code_token_end(ensemble, coder, buffer, byte, ends) == 1:
                break
        _code_byte(ensemble, coder, buffer, byte)
        count_byte(coder, lanes[lane, POSITION] - 1)
        depth += 1
    return leaves[0]


@kernel()
def code_bytes(ensemble, coder, buffer, first_lane, last_lane):
    """Code lanes [first, last) to their ends without a transformer, one byte of each in turn.

    Args:
        ensemble: from :func:`~nczip.predictors.ensemble.new_ensemble`.
        coder, buffer: see :func:`~nczip.coder.rangecoder.code_bit`.
        first_lane, last_lane: int64.
    """
    lanes = ensemble.block.lanes
    depth = np.int64(-1)  # a literal would have its kernels compiled once more
    more = True
    while more and coder[ABORT] == 0:
        more = False
        for lane in range(first_lane, last_lane):
            if lanes[lane, POSITION] < lanes[lane, STOP]:
                byte = _enter_byte(ensemble, lane, depth)
                _code_byte(ensemble, coder, buffer, byte)
                count_byte(coder, lanes[lane, POSITION] - 1)
                more = True


@kernel()
def code_tokens(ensemble, coder, buffer, step, logits):
    """Code one token of each active lane, in the order of ``step``.

    Args:
        ensemble, coder, buffer: as of :func:`code_bytes`.
        step: int64[k, 3], updated in place: the lane; the row of ``logits`` that belongs to it;
            the token's bytes when encoding (the block holds them), replaced by the token coded.
        logits: float32[rows, V], nats, finite.
    """
    guide = ensemble.states.transformer
    trie = guide.trie
    for i in range(step.shape[0]):
        if coder[ABORT] != 0:
            return
        running_weights(
            trie, logits, step[i, 1], guide.bias, guide.masses, guide.weights, guide.sums
        )
        leaf = _code_token(ensemble, coder, buffer, step[i, 0], step[i, 2])
        end_token(coder)
        advance_token(ensemble.block.lanes, step[i, 0], leaf)
        step[i, 2] = trie.token[leaf]
        if ensemble.adapt_bias:
            learn_bias(guide.bias, guide.masses, trie.token[leaf])
