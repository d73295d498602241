"""Our exp, log and squash agree with the mathematical functions."""

import itertools
import math

import numba
import numpy as np

from nczip.coder import exactmath
from nczip.predictors.history import FIRST_GUESS, NEXT_STATE


@numba.njit
def _exp(x):
    return exactmath.exp(x)


@numba.njit
def _squash(x):
    return exactmath.squash(x)


@numba.njit
def _quantise(p):
    return exactmath.quantise(p)


def test_exp_is_accurate():
    for x in np.linspace(-43, 42, 10_001):
        assert math.isclose(_exp(x), math.exp(x), rel_tol=1e-8)


def test_log_is_accurate():
    x = np.concatenate([np.geomspace(1e-9, 1e9, 10_001), [1.0, 0.5, 0.75, 2.0]])
    assert np.allclose(exactmath.log(x), np.log(x), rtol=1e-13, atol=1e-15)


def test_squash_inverts_stretch_and_never_decreases():
    p = (np.arange(4096) + 0.5) / 4096
    assert np.allclose([_squash(x) for x in exactmath.STRETCH], p, rtol=1e-6)
    values = [_squash(x) for x in np.linspace(-40, 40, 5001)]
    assert all(a <= b for a, b in itertools.pairwise(values))


def test_quantised_probabilities_stay_codable():
    assert _quantise(0.0) == 1
    assert _quantise(1.0) == (1 << 24) - 1
    assert _quantise(0.5) == 1 << 23


def test_bit_histories_remember_four_bits_in_full():
    states = set()
    for pattern in range(16):
        state = 0
        for i in range(4):
            state = NEXT_STATE[state, pattern >> i & 1]
        states.add(int(state))
    assert len(states) == 16


def test_bit_histories_of_runs_become_ever_surer():
    state, guesses = 0, []
    for _ in range(60):
        state = NEXT_STATE[state, 1]
        guesses.append(int(FIRST_GUESS[state]))
    assert guesses == sorted(guesses)
    assert guesses[-1] > 0.98 * 65536
    surprised = FIRST_GUESS[NEXT_STATE[state, 0]]
    assert surprised < guesses[-1]
