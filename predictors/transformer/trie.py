"""The byte trie: a transformer's token probabilities as probabilities of bits.

The distinct byte strings of a vocabulary, sorted, are the leaves. Every prefix is then one
contiguous range of leaves [low, high), and with the running sum of the leaf weights the
probability of the next bit is two look-ups and a division (docs/architecture.md, "Everything
becomes a binary decision"). No nodes are stored: a bit splits a range where a binary search says.

Weights are integers in units of 2^-30, at least 1, so their sums are exact.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.errors import ModelError
from nczip.coder.exactmath import exp32, log
from nczip.coder.jit import kernel
from nczip.coder.vectors import LANES
from nczip.predictors.transformer.kernels_simd import largest

I32Array = npt.NDArray[np.int32]
I64Array = npt.NDArray[np.int64]
F32Array = npt.NDArray[np.float32]

_WEIGHT_ONE = np.float32(1 << 30)
MAX_TOKENS = 1 << 18
MAX_TOKEN_BYTES = 4096

_LEAST_LOGIT = np.float32(-60.0)
_NO_LEAF_BIAS = np.float32(-1e4)
_BIAS_RATE = np.float32(0.05)

_LOG_BITS = 13
_LOGS = np.concatenate([[0.0], log(np.arange(1, 1 << _LOG_BITS))]).astype(np.float32)
_LN2 = np.float32(0.6931472)


class Trie(NamedTuple):
    """n leaves in the order of their bytes."""

    text: npt.NDArray[np.uint8]  #: uint8[total], the leaves' bytes one after another
    offsets: I64Array  #: int64[n + 1], where each leaf's bytes start
    token: I32Array  #: int32[n], the token to feed for a leaf
    duplicates: I32Array  #: int32[d, 2], tokens that share a leaf: the one not fed, the one fed
    spells: npt.NDArray[np.bool_]  #: bool[V], whether a token stands for any bytes


def build_trie(vocabulary: Sequence[bytes], fallback_token: int) -> Trie:
    """The trie of a vocabulary.

    Args:
        vocabulary: the bytes of each token; empty for tokens that stand for no bytes.
        fallback_token: fed for a byte that no token of its own spells.

    Raises:
        ModelError: the vocabulary is too large, or a token is too long.
    """
    if not 0 < len(vocabulary) <= MAX_TOKENS:
        raise ModelError(f"a vocabulary of {len(vocabulary)} tokens is not supported")
    if max(map(len, vocabulary)) > MAX_TOKEN_BYTES:
        raise ModelError(f"the vocabulary has a token of over {MAX_TOKEN_BYTES} bytes")
    tokens: dict[bytes, int] = {}
    duplicates = []
    for number, spelling in enumerate(vocabulary):
        if spelling and tokens.setdefault(spelling, number) != number:
            duplicates.append((number, tokens[spelling]))
    for byte in range(256):
        tokens.setdefault(bytes([byte]), fallback_token)
    spellings = sorted(tokens)
    offsets = np.zeros(len(spellings) + 1, np.int64)
    np.cumsum([len(spelling) for spelling in spellings], out=offsets[1:])
    return Trie(
        text=np.frombuffer(b"".join(spellings), np.uint8).copy(),
        offsets=offsets,
        token=np.array([tokens[spelling] for spelling in spellings], np.int32),
        duplicates=np.array(duplicates, np.int32).reshape(-1, 2),
        spells=np.array([bool(spelling) for spelling in vocabulary]),
    )


def no_trie() -> Trie:
    """The trie of no vocabulary at all."""
    return Trie(
        text=np.zeros(0, np.uint8),
        offsets=np.zeros(1, np.int64),
        token=np.zeros(0, np.int32),
        duplicates=np.zeros((0, 2), np.int32),
        spells=np.zeros(0, np.bool_),
    )


def new_bias(trie: Trie) -> F32Array:
    """A bias head before the first token: 0, or next to minus infinity for tokens of no bytes."""
    return np.where(trie.spells, np.float32(0.0), _NO_LEAF_BIAS)


@kernel(inline=True)
def maximum(values, n):
    """The largest of the first n > 0 of ``values``, float32."""
    whole = n & ~(LANES - 1)
    top = largest(values, 0, whole) if whole else values[0]
    for i in range(whole, n):
        top = values[i] if values[i] > top else top
    return top


@kernel(inline=True)
def total(values, n):
    """Their sum in float64: four independent chains, added as (a + b) + (c + d)."""
    a = b = c = d = np.float64(0.0)
    whole = n & ~3
    for i in range(0, whole, 4):
        a += values[i]
        b += values[i + 1]
        c += values[i + 2]
        d += values[i + 3]
    for i in range(whole, n):
        a += values[i]
    return (a + b) + (c + d)


@kernel()
def running_weights(trie, logits, row, bias, masses, weights, sums):
    """Softmax into leaf weights and their running sum.

    Args:
        logits: float32[rows, V], nats, finite; ``row`` says which to use.
        bias: float32[V] from :func:`new_bias`, added to the logits.
        masses: float32[V], the tokens' probabilities (a result).
        weights: int32[V], the tokens' leaf weights (a result): converted where they lie one after
            another, a vector at a time, before the leaves' order scatters them.
        sums: int64[n + 1], the result: ``sums[i]`` is the weight of the leaves before i.
    """
    count = logits.shape[1]
    for t in range(count):
        masses[t] = logits[row, t] + bias[t]
    top = maximum(masses, count)
    for t in range(count):
        x = masses[t] - top
        masses[t] = exp32(x if x > _LEAST_LOGIT else _LEAST_LOGIT)
    scale = np.float32(1.0 / total(masses, count))
    for t in range(count):
        masses[t] *= scale
    for i in range(trie.duplicates.shape[0]):
        masses[trie.duplicates[i, 1]] += masses[trie.duplicates[i, 0]]
    for t in range(np.uint64(count)):  # below 2^31 even where the masses add up to a little over 1
        weights[t] = np.int32(masses[t] * _WEIGHT_ONE) + np.int32(1)
    weight = np.int64(0)
    sums[0] = 0
    for i in range(np.uint64(trie.token.shape[0])):
        weight += np.int64(weights[np.uint32(trie.token[i])])
        sums[i + np.uint64(1)] = weight


@kernel()
def learn_bias(bias, masses, token):
    """One gradient step of the bias head: ``bias += rate * (onehot(token) - p)``."""
    for t in range(bias.shape[0]):
        bias[t] -= masses[t] * _BIAS_RATE
    bias[token] += _BIAS_RATE


@kernel(inline=True)
def ends_here(trie, low, depth):
    """Whether the first leaf of a range ends after ``depth`` bytes."""
    return trie.offsets[low + 1] - trie.offsets[low] == depth


@kernel(inline=True)
def split(trie, low, high, depth, byte):
    """First leaf of [low, high) whose byte at ``depth`` is at least ``byte``; ``high`` if none.

    Every leaf of the range must be longer than ``depth``.
    """
    while low < high:
        middle = (low + high) >> 1
        if np.int64(trie.text[trie.offsets[middle] + depth]) < byte:
            low = middle + 1
        else:
            high = middle
    return low


@kernel(inline=True)
def _log_integer(n):
    """ln n of a positive int64 below 2^50, float32; relative error of n below 2^-12."""
    shift = 0
    step = 32
    while step > 0:
        if n >> (step + _LOG_BITS - 1) > 0:
            n >>= step
            shift += step
        step >>= 1
    return _LOGS[n] + np.float32(shift) * _LN2


@kernel(inline=True)
def log_odds(ones, zeros):
    """ln(ones / zeros) of two positive weights, float32, in nats."""
    return _log_integer(ones) - _log_integer(zeros)


@kernel()
def longest_match(trie, text, start, stop):
    """The leaf of the longest token that ``text[start:stop]`` begins with, int64."""
    low, high = np.int64(0), trie.token.shape[0]
    best = np.int64(-1)
    depth = 0
    while start + depth < stop and low < high:
        byte = np.int64(text[start + depth])
        low = split(trie, low, high, depth, byte)
        high = split(trie, low, high, depth, byte + 1)
        depth += 1
        if low < high and ends_here(trie, low, depth):
            best = low
            low += 1
    return best


@kernel()
def find_leaves(trie, text, lengths, leaves):
    """The leaf of each of a text's tokens; ``leaves``, int64[tokens], is the result."""
    start = np.int64(0)
    for i in range(lengths.shape[0]):
        low, high = np.int64(0), trie.token.shape[0]
        for depth in range(lengths[i]):
            # A leaf that ends here would come first, and cannot be the one that goes on.
            if ends_here(trie, low, depth):
                low += 1
            byte = np.int64(text[start + depth])
            low = split(trie, low, high, depth, byte)
            high = split(trie, low, high, depth, byte + 1)
        leaves[i] = low
        start += lengths[i]
