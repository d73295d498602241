"""What a predictor owes the ensemble.

A predictor is a module with a state (a NamedTuple of arrays) and a few kernels, gathered in one
:class:`Predictor`. For each byte of a lane the ensemble calls, of every predictor in turn,

    enter_byte(own, block, byte)               before the byte's first decision
    enter_nibble(own, block, byte, bit)        before its fifth bit
    leave_byte(own, block, byte, value)        after its last bit; the memory has moved on

where memory is far away it may ask for what it will need, while the last decision is learnt from

    expect_nibble(own, block, byte, nibble)    the first four bits are known
    expect_byte(own, block, byte)              all are, and the memory has moved on

and for each decision

    select(own, block, byte, bit, rows, at)    choose a row in each of its weight sets
    predict(own, block, byte, bit, inputs, at) write its inputs: logits in nats, 0 for "no opinion"
    learn(own, block, byte, bit, outcome)      take in what was coded

``own`` is its state, ``rows`` (int64) and ``inputs`` (float32) are written from ``at`` on. Kernels
are inlined, so that what a predictor leaves out costs nothing. Coding is not a predictor's
business: it never sees the range coder, and encoder and decoder call it alike.

A decision is a bit of a byte, or (under a transformer only) "the token ends here", which comes
before a byte whose contexts have been entered. The second has ``bit.partial`` 0 (TOKEN_END).

The model of this page is cmix's models/model.h (B. Knoll) and paq8px's models, which bring their
own inputs and weight sets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.jit import kernel
from nczip.predictors.memory import Followers, Strides
from nczip.predictors.recurrent import Weights
from nczip.predictors.table import Table
from nczip.predictors.transformer.trie import Trie

TOKEN_END = (
    0  #: stands in for the partial byte, which is at least 1, in a "token ends here" decision
)


class Block(NamedTuple):
    """The block being coded and what its lanes remember; predictors read it."""

    data: npt.NDArray[np.uint8]  #: uint8[n], the block's bytes, lane after lane
    lanes: npt.NDArray[np.int64]  #: int64[lanes, columns], see memory.py
    followers: Followers
    strides: Strides
    binary: int  #: 1 where contexts of bytes replace those of text


class Byte(NamedTuple):
    """Where the next byte stands; int64 all."""

    lane: int
    depth: int  #: bytes of its token before it; -1 without a transformer
    expected: int  #: the match model's byte + 256, or 0
    match_class: int  #: the match's, by length and reliability; 0 without one
    last: int  #: the lane's last byte
    before: int  #: the one before it
    classes: int  #: classes of the last three bytes, four bits each, the last in the low ones


class Choice(NamedTuple):
    """What the transformer's vocabulary makes of a decision."""

    middle: int  #: the first leaf of those on the side of a one (of the others, at a token's end)
    forced: int  #: the only possible outcome, or -1
    logit: float  #: float32, ln of the odds of a one


class Bit(NamedTuple):
    """Which decision about the byte is next; int64."""

    partial: int  #: a one, then the bits known; TOKEN_END
    number: int  #: bits known, 0 to 7
    nibble: int  #: 0 or 1
    node: int  #: a one, then the nibble's bits known; 0 for TOKEN_END
    choice: Choice


class WeightSet(NamedTuple):
    """One of the mixer's weight sets, of which each decision uses one row."""

    name: str
    rows: int


@dataclass(frozen=True)
class Setup:
    """What the states of predictors are made of."""

    table_bits: int  #: log2 of the n-gram table's lines
    lanes: int
    primed: Table  #: what text contexts know beforehand; one empty line for nothing
    trie: Trie  #: the transformer's vocabulary, or of no leaves
    network: Weights  #: the recurrent network's, or of no units


@kernel(inline=True)
def _no_byte(own, block, byte):
    pass


@kernel(inline=True)
def _no_nibble(own, block, byte, nibble):
    pass


@kernel(inline=True)
def _no_bit(own, block, byte, last):
    pass


@kernel(inline=True)
def _no_learning(own, block, byte, bit, outcome):
    pass


@kernel(inline=True)
def no_output(own, block, byte, bit, out, at):
    pass


def _nothing_learnt(own: Any) -> dict[str, npt.NDArray[Any]]:
    return {}


@dataclass(frozen=True)
class Predictor:
    """A member of the ensemble.

    Two predictors may name the same input or weight set where at most one of them has something to
    say in a decision; the later in the list then writes over what the earlier wrote.
    """

    name: str
    new: Callable[[Setup, dict[str, Any]], Any]  #: its state, from the setup and the states before
    inputs: tuple[str, ...] = ()  #: names of what it gives the mixer
    final_inputs: tuple[str, ...] = ()  #: those that also enter the final mixers
    sets: tuple[WeightSet, ...] = ()
    enter_byte: Callable[..., Any] = _no_byte
    enter_nibble: Callable[..., Any] = _no_bit
    leave_byte: Callable[..., Any] = _no_bit
    expect_nibble: Callable[..., Any] = _no_nibble
    expect_byte: Callable[..., Any] = _no_byte
    select: Callable[..., Any] = no_output
    predict: Callable[..., Any] = no_output
    learn: Callable[..., Any] = _no_learning
    #: Views of the arrays of its state that are learnt offline and shipped, by name.
    learnt: Callable[[Any], dict[str, npt.NDArray[Any]]] = field(default=_nothing_learnt)
