"""Coding: bytes and tokens as decisions, each predicted, coded, and learnt from.

A byte is eight decisions, the highest bit first. A token, under a transformer, is its path through
the byte trie: before each of its bytes but the first, where the vocabulary allows it, one decision
more says whether it ends there. A bit on which all the tokens still possible agree is not coded,
only learnt.

Other threads look on: the range coder's state counts the bytes coded and can ask to stop.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from nczip.coder.jit import kernel
from nczip.coder.rangecoder import ABORT, code_bit, count_byte, end_token
from nczip.predictors.ensemble import kernels
from nczip.predictors.layout import Layout
from nczip.predictors.match import expected_byte, match_class
from nczip.predictors.memory import (
    CLASSES,
    POSITION,
    STOP,
    advance_token,
    byte_back,
)
from nczip.predictors.protocol import TOKEN_END, Bit, Byte, Choice
from nczip.predictors.transformer.guide import choose_bit, choose_end
from nczip.predictors.transformer.trie import ends_here, learn_bias, running_weights


@kernel(spliced=True)
def _choose_freely(own, depth, partial, number):
    """The :class:`Choice` without a transformer: any bit."""
    return Choice(np.int64(0), np.int64(-1), np.float32(0.0))


class _Bytes(NamedTuple):
    enter_byte: Any
    code_byte: Any


@functools.cache
def _bytes_of(layout: Layout) -> _Bytes:
    """What codes one byte under a layout."""
    own = kernels(layout)
    look_up_byte, look_up_nibble = own.enter_byte, own.enter_nibble
    predict_bit, learn_mix, learn_bit = own.predict_bit, own.learn_mix, own.learn_bit
    expect_nibble, advance, leave = own.expect_nibble, own.advance, own.leave_byte
    choose = choose_bit if layout.is_guided else _choose_freely

    @kernel(internal=True, variant=layout.name)
    def enter_byte(ensemble, lane, depth):
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
        look_up_byte(ensemble.states, block, byte)
        return byte

    @kernel(internal=True, variant=layout.name)
    def enter_nibble(ensemble, byte, bit):
        look_up_nibble(ensemble.states, ensemble.block, byte, bit)

    @kernel(spliced=True)
    def decide(ensemble, byte, partial, number):
        """The decision about bit ``number`` of a byte that is known to be ``partial``."""
        nibble = number >> 2
        known = number & 3
        node = 1 << known | partial & ((1 << known) - 1)
        choice = choose(ensemble.states.transformer, byte.depth, partial, number)
        return Bit(partial, number, nibble, node, choice)

    @kernel(internal=True, variant=layout.name)
    def code_byte(ensemble, coder, buffer, byte):
        """Code a byte that has been entered."""
        block = ensemble.block
        value = np.int64(block.data[block.lanes[byte.lane, POSITION]])  # means nothing to a decoder
        partial = np.int64(1)
        for number in range(8):
            bit = decide(ensemble, byte, partial, number)
            if number == 4:
                enter_nibble(ensemble, byte, bit)
            outcome = bit.choice.forced
            coded = outcome < 0
            if coded:
                prediction = predict_bit(ensemble, byte, bit)
                outcome = (value >> (7 - number)) & 1
                outcome = code_bit(coder, buffer, prediction.probability, outcome)
            partial = partial << 1 | outcome
            if number == 3:
                expect_nibble(ensemble.states, block, byte, partial & 15)
            elif number == 7:
                advance(ensemble, byte, partial & 255)
            if coded:
                learn_mix(ensemble, prediction, outcome)
            learn_bit(ensemble, byte, bit, outcome)
        leave(ensemble.states, block, byte, partial & 255)

    return _Bytes(enter_byte, code_byte)


@functools.cache
def bytes_coder(layout: Layout) -> Any:
    """The loop over bytes of a layout."""
    enter_byte, code_byte = _bytes_of(layout)

    @kernel(variant=layout.name)
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
                    byte = enter_byte(ensemble, lane, depth)
                    code_byte(ensemble, coder, buffer, byte)
                    count_byte(coder, lanes[lane, POSITION] - 1)
                    more = True

    return code_bytes


@functools.cache
def tokens_coder(layout: Layout) -> Any:
    """The loop over tokens of a layout that a transformer guides."""
    own = kernels(layout)
    predict_bit, learn_mix, learn_bit = own.predict_bit, own.learn_mix, own.learn_bit
    enter_byte, code_byte = _bytes_of(layout)

    @kernel(internal=True, variant=layout.name)
    def code_token_end(ensemble, coder, buffer, byte, ends):
        """Code whether the token that is the first leaf of the range ends here; returns 1 or 0."""
        none = np.int64(0)  # literals would have their kernels compiled once more
        bit = Bit(np.int64(TOKEN_END), none, none, none, choose_end(ensemble.states.transformer))
        prediction = predict_bit(ensemble, byte, bit)
        outcome = code_bit(coder, buffer, prediction.probability, ends)
        learn_mix(ensemble, prediction, outcome)
        learn_bit(ensemble, byte, bit, outcome)
        return outcome

    @kernel(internal=True, variant=layout.name)
    def code_token(ensemble, coder, buffer, lane, length):
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
            byte = enter_byte(ensemble, lane, depth)
            if may_end:
                ends = np.int64(1) if depth == length else np.int64(0)
                if code_token_end(ensemble, coder, buffer, byte, ends) == 1:
                    break
            code_byte(ensemble, coder, buffer, byte)
            count_byte(coder, lanes[lane, POSITION] - 1)
            depth += 1
        return leaves[0]

    @kernel(variant=layout.name)
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
            leaf = code_token(ensemble, coder, buffer, step[i, 0], step[i, 2])
            end_token(coder)
            advance_token(ensemble.block.lanes, step[i, 0], leaf)
            step[i, 2] = trie.token[leaf]
            if ensemble.adapt_bias:
                learn_bias(guide.bias, guide.masses, trie.token[leaf])

    return code_tokens
