"""The transformer as a predictor of bits: the token's leaves still possible, and their weights.

Before each token its probabilities become leaf weights (:func:`running_weights`); coding the token
narrows the range of leaves decision by decision (trie.py). The transformer alone knows which bits
are possible at all, so a decision starts with its :class:`~nczip.predictors.protocol.Choice`.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.jit import kernel
from nczip.predictors.protocol import TOKEN_END, Choice, Predictor, Setup, WeightSet
from nczip.predictors.transformer.trie import Trie, log_odds, new_bias, split

_MOST_DEPTH = 7
_CERTAINTIES = 32  # classes of the logit, one nat each


class State(NamedTuple):
    """The vocabulary; learnt; of the token being coded."""

    trie: Trie
    bias: npt.NDArray[np.float32]  #: float32[V], the adaptive bias head (trie.py)
    leaves: npt.NDArray[np.int64]  #: int64[2], range of leaves still possible; empty without trie
    sums: npt.NDArray[np.int64]  #: int64[leaves + 1], their running weights
    masses: npt.NDArray[np.float32]  #: float32[V], the tokens' probabilities
    weights: npt.NDArray[np.int32]  #: int32[V], the same as weights of leaves


def _new(setup: Setup, states: dict[str, Any]) -> State:
    trie = setup.trie
    return State(
        trie=trie,
        bias=new_bias(trie),
        leaves=np.zeros(2, np.int64),
        sums=np.zeros(len(trie.token) + 1, np.int64),
        masses=np.zeros(len(trie.spells), np.float32),
        weights=np.zeros(len(trie.spells), np.int32),
    )


@kernel(inline=True)
def _logit(sums, low, middle, high):
    """ln of the odds of [middle, high) against [low, middle)."""
    return log_odds(sums[high] - sums[middle], sums[middle] - sums[low])


@kernel(spliced=True)
def choose_bit(own, depth, partial, number):
    """The :class:`Choice` about bit ``number`` of the byte at ``depth``; -1: no transformer."""
    low, high = own.leaves[0], own.leaves[1]
    middle, forced, logit = low, np.int64(-1), np.float32(0.0)
    if depth >= 0:
        least = (((partial << 1) | 1) << (7 - number)) & 255
        middle = split(own.trie, low, high, depth, least)
        if middle == low:
            forced = np.int64(1)
        elif middle == high:
            forced = np.int64(0)
        else:
            logit = _logit(own.sums, low, middle, high)
    return Choice(middle, forced, logit)


@kernel(spliced=True)
def choose_end(own):
    """The :class:`Choice` whether the token is the first leaf of the range: it ends here."""
    low, high = own.leaves[0], own.leaves[1]
    return Choice(low + 1, np.int64(-1), -_logit(own.sums, low, low + 1, high))


@kernel(spliced=True)
def _select(own, block, byte, bit, rows, at):
    """By the transformer's certainty and the depth, or else by the class of the byte three back."""
    if byte.depth >= 0:
        certainty = np.int64(bit.choice.logit + np.float32(_CERTAINTIES / 2 + 0.5))
        rows[at] = min(max(certainty, 0), _CERTAINTIES - 1) * 8 + min(byte.depth, _MOST_DEPTH)
    else:
        rows[at] = (byte.classes >> 8) * 8 + bit.number


@kernel(spliced=True)
def _predict(own, block, byte, bit, inputs, at):
    """Without a transformer the network's opinion stays."""
    if byte.depth >= 0:
        inputs[at] = bit.choice.logit


@kernel(spliced=True)
def _learn(own, block, byte, bit, outcome):
    """Narrow the range of leaves."""
    if byte.depth >= 0:
        if bit.partial != TOKEN_END:
            own.leaves[1 - outcome] = bit.choice.middle
        elif outcome == 0:
            own.leaves[0] = bit.choice.middle


PREDICTOR = Predictor(
    name="transformer",
    new=_new,
    inputs=("network or transformer",),
    final_inputs=("network or transformer",),
    sets=(WeightSet("certainty and depth, or class", _CERTAINTIES * 8),),
    select=_select,
    predict=_predict,
    learn=_learn,
)
