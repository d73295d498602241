"""The byte trie: exact, complete, and free of charge."""

import math

import numba
import numpy as np
import pytest

from nczip.coder.errors import ModelError
from nczip.predictors.transformer import trie as tr

VOCABULARY = [b"", b"a", b"ab", b"abc", b"b", b"the", b" the", b"them", b"\xc3\xa9", b"a"]


@numba.njit
def _split(trie, low, high, depth, byte):
    return tr.split(trie, low, high, depth, byte)


@numba.njit
def _ends_here(trie, low, depth):
    return tr.ends_here(trie, low, depth)


@numba.njit
def _log_odds(ones, zeros):
    return tr.log_odds(ones, zeros)


def _sums(trie, logits):
    sums = np.zeros(len(trie.token) + 1, np.int64)
    masses = np.zeros(len(logits), np.float32)
    weights = np.zeros(len(logits), np.int32)
    rows, bias = np.array([logits], np.float32), tr.new_bias(trie)
    tr.running_weights(trie, rows, 0, bias, masses, weights, sums)
    return sums, masses


def _path_probability(trie, sums, spelling):
    """The product of the probabilities of all bits and "ends here" decisions of one token."""
    low, high = 0, len(trie.token)
    p = 1.0
    for depth, byte in enumerate(spelling):
        for bit in range(7, -1, -1):
            least = (byte >> bit | 1) << bit
            middle = _split(trie, low, high, depth, least)
            whole, ones = sums[high] - sums[low], sums[high] - sums[middle]
            if byte >> bit & 1:
                p, low = p * ones / whole, middle
            else:
                p, high = p * (whole - ones) / whole, middle
        if _ends_here(trie, low, depth + 1):
            ends = (sums[low + 1] - sums[low]) / (sums[high] - sums[low])
            if depth + 1 == len(spelling):
                return p * ends
            p, low = p * (1 - ends), low + 1
    raise AssertionError(spelling)


def test_a_path_costs_exactly_its_token_probability():
    trie = tr.build_trie(VOCABULARY, 0)
    logits = np.random.default_rng(1).normal(0, 3, len(VOCABULARY))
    sums, masses = _sums(trie, logits)
    for spelling in set(VOCABULARY) - {b""}:
        token = VOCABULARY.index(spelling)
        assert math.isclose(_path_probability(trie, sums, spelling), masses[token], rel_tol=1e-4)


def test_tokens_of_equal_bytes_share_a_leaf_and_their_mass():
    trie = tr.build_trie(VOCABULARY, 0)
    assert trie.duplicates.tolist() == [[9, 1]]
    logits = np.zeros(len(VOCABULARY))
    _, masses = _sums(trie, logits)
    assert masses[1] == pytest.approx(2 * masses[2])


def test_tokens_without_bytes_get_no_mass():
    trie = tr.build_trie(VOCABULARY, 0)
    logits = np.zeros(len(VOCABULARY))
    logits[0] = 50
    _, masses = _sums(trie, logits)
    assert masses[0] < 1e-20


def test_every_byte_can_be_spelt():
    trie = tr.build_trie([b"hello"], 0)
    text = np.arange(256, dtype=np.uint8)
    for byte in range(256):
        leaf = tr.longest_match(trie, text, byte, 256)
        assert trie.offsets[leaf + 1] - trie.offsets[leaf] == 1


def test_longest_match_prefers_the_longest():
    trie = tr.build_trie(VOCABULARY, 0)
    text = np.frombuffer(b"themab", np.uint8).copy()
    assert VOCABULARY[trie.token[tr.longest_match(trie, text, 0, 6)]] == b"them"
    assert VOCABULARY[trie.token[tr.longest_match(trie, text, 0, 3)]] == b"the"
    assert VOCABULARY[trie.token[tr.longest_match(trie, text, 4, 6)]] == b"ab"


def test_log_odds_of_integers_are_accurate():
    rng = np.random.default_rng(3)
    for _ in range(2000):
        ones, zeros = (int(2 ** rng.uniform(0, 40)) for _ in range(2))
        assert _log_odds(ones, zeros) == pytest.approx(math.log(ones / zeros), abs=1e-3)


def test_absurd_vocabularies_are_refused():
    with pytest.raises(ModelError):
        tr.build_trie([], 0)
    with pytest.raises(ModelError):
        tr.build_trie([b"x" * 5000], 0)
