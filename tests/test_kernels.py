"""Small kernels one by one: where a changed hash of a whole stream comes from."""

import math

import numba
import numpy as np
import pytest

from nczip.coder import exactmath
from nczip.predictors import apm, ngram
from nczip.predictors.counters import EVEN_ODDS, update_counter
from nczip.predictors.history import NEXT_STATE


@numba.njit
def _count(counter, bits, limit):
    for bit in bits:
        counter = update_counter(counter, np.int64(bit), limit)
    return counter


def _probability(counter):
    return (int(counter) >> 10) / (1 << 22)


def test_counters_start_fast_and_settle_at_the_frequency():
    first = _count(EVEN_ODDS, np.array([1]), 1023)
    assert 0.8 < _probability(first) < 0.85 and int(first) & 1023 == 1
    rng = np.random.default_rng(1)
    bits = (rng.random(5000) < 0.2).astype(np.int64)
    assert _probability(_count(EVEN_ODDS, bits, 1023)) == pytest.approx(bits.mean(), abs=0.01)


def test_counters_stay_inside_their_bits():
    for bit in (0, 1):
        counter = _count(EVEN_ODDS, np.full(3000, bit), 255)
        assert int(counter) & 1023 == 255
        assert abs(_probability(counter) - bit) < 0.005


@numba.njit
def _exp32(x):
    return exactmath.exp32(np.float32(x))


def test_exp32_is_accurate():
    for x in np.linspace(-60, 20, 4001, dtype=np.float32):
        assert math.isclose(_exp32(x), math.exp(x), rel_tol=2e-5 if x > -20 else 0.02)


@numba.njit
def _refine_and_learn(curves, logits, bits, refined):
    for i in range(len(logits)):
        position = apm.axis_position(logits[i])
        refined[i] = apm.refine(curves, np.int64(1), position)
        apm.learn_apm(curves, np.int64(1), position, bits[i])


def test_a_new_curve_changes_nothing():
    logits = np.linspace(-7.9, 7.9, 33).astype(np.float32)
    refined = np.zeros(len(logits))
    for i in range(len(logits)):
        one, bit = logits[i : i + 1], np.zeros(1, np.int64)
        _refine_and_learn(apm.new_apm(2), one, bit, refined[i : i + 1])
    # Straight lines between 33 points differ a little from the curve.
    assert np.allclose(refined, 1 / (1 + np.exp(-logits)), atol=0.006)


def test_a_curve_learns_what_the_mixer_gets_wrong():
    rng = np.random.default_rng(2)
    logits = rng.choice(np.float32([-1.5, 2.0]), 4000)
    truth = np.where(logits < 0, 0.4, 0.6)  # the mixer said 0.18 and 0.88
    bits = (rng.random(4000) < truth).astype(np.int64)
    refined, curves = np.zeros(4000), apm.new_apm(3)
    _refine_and_learn(curves, logits, bits, refined)
    for value in (np.float32(-1.5), np.float32(2.0)):
        late = refined[2000:][logits[2000:] == value].mean()
        assert late == pytest.approx(truth[logits == value][0], abs=0.05)
    assert curves[1].any() and not curves[[0, 2]].any()


@numba.njit
def _find_or_claim(table, h):
    slot = ngram.search(table, h)
    if slot >= 0:
        return slot, True
    slot = -1 - slot
    ngram.claim(table, slot, h)
    return slot, False


@numba.njit
def _learn_run(table, slot, byte, times):
    for _ in range(times):
        ngram.update_run(table, slot, np.int64(byte))
        ngram.update_node(table, slot + ngram.ROOT, np.int64(1))


@numba.njit
def _hash_pair(a, b):
    return ngram.hash_pair(a, b)


@numba.njit
def _home_line(table, h):
    return ngram.home_line(table, h)


def _hash(i):
    return np.uint64(_hash_pair(np.uint64(i), np.uint64(7)))


def test_a_slot_is_found_again_with_what_it_has_learnt():
    table = ngram.new_table(4)
    slot, known = _find_or_claim(table, _hash(1))
    assert not known and slot % ngram.LINE_BYTES in (0, 20, 40)
    _learn_run(table, slot, 65, 3)
    assert _find_or_claim(table, _hash(1)) == (slot, True)
    assert table.data[slot + ngram.RUN_BYTE] == 65 and table.data[slot + ngram.RUN_COUNT] == 3
    assert table.data[slot + ngram.ROOT] == NEXT_STATE[NEXT_STATE[NEXT_STATE[0, 1], 1], 1]
    _learn_run(table, slot, 66, 1)
    assert table.data[slot + ngram.RUN_BYTE] == 66 and table.data[slot + ngram.RUN_COUNT] == 1
    _learn_run(table, slot, 66, 400)
    assert table.data[slot + ngram.RUN_COUNT] == 255


def test_a_full_line_gives_up_the_slot_that_has_seen_least():
    table = ngram.new_table(0)  # one line: three slots
    slots = []
    for i, times in enumerate((4, 2, 3)):
        slots.append(_find_or_claim(table, _hash(i))[0])
        _learn_run(table, slots[i], 65, times)
    assert sorted(slots) == [0, 20, 40]
    newcomer, known = _find_or_claim(table, _hash(3))
    assert not known and newcomer == slots[1]
    assert not table.data[newcomer + 2 : newcomer + 20].any()
    assert _find_or_claim(table, _hash(0)) == (slots[0], True)
    assert _find_or_claim(table, _hash(2)) == (slots[2], True)


def test_hashes_of_small_numbers_spread_over_the_table():
    table = ngram.new_table(8)
    lines = [int(_home_line(table, _hash(i))) for i in range(8192)]
    assert all(line % 64 == 0 and 0 <= line < 64 << 8 for line in lines)
    counts = np.bincount(np.array(lines) // 64, minlength=256)
    assert counts.min() > 0 and counts.max() < 64  # 32 on average
