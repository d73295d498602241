"""The range coder: exact both ways, and close to the ideal code length."""

import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

from nczip.coder import rangecoder as rc
from nczip.coder.errors import AbortedError, CorruptError


@numba.njit(nogil=True)
def _code_bits(coder, buffer, p1, bits):
    for i in range(bits.shape[0]):
        if coder[rc.ABORT] != 0:
            return
        bits[i] = rc.code_bit(coder, buffer, p1[i], np.int64(bits[i]))


def _encode_bits(p1, bits):
    coder = rc.new_encoder()
    buffer = rc.attach(coder, 4 * len(bits) + 64)
    _code_bits(coder, buffer, p1, bits.copy())
    return rc.finish(coder, buffer)


def _decode_bits(coded, p1):
    buffer = np.frombuffer(coded or b"\0", np.uint8).copy()
    coder = rc.new_decoder(buffer)
    bits = np.zeros(len(p1), np.uint8)
    _code_bits(coder, buffer, p1, bits)
    return bits, coder


def _decisions(count, seed):
    """Bits drawn from probabilities whose odds are uniform from 2^-20 to 1 - 2^-20."""
    rng = np.random.default_rng(seed)
    logits = rng.uniform(-1, 1, count) * np.log(2.0**20)
    p = np.clip(1 / (1 + np.exp(-logits)), 2.0**-20, 1 - 2.0**-20)
    p1 = np.clip((p * rc.PROBABILITY_ONE).astype(np.int64), 1, rc.PROBABILITY_ONE - 1)
    bits = (rng.random(count) < p1 / rc.PROBABILITY_ONE).astype(np.uint8)
    return p1, bits


def test_binary_decisions_cost_their_ideal_length():
    p1, bits = _decisions(10_000_000, 1)
    coded = _encode_bits(p1, bits)
    decoded, coder = _decode_bits(coded, p1)
    rc.check_finished(coder)
    assert np.array_equal(decoded, bits)
    p = p1 / rc.PROBABILITY_ONE
    ideal = -np.log2(np.where(bits, p, 1 - p)).sum()
    assert 8 * len(coded) < ideal * 1.0001


@pytest.mark.parametrize("p", [1, rc.PROBABILITY_ONE - 1])
@pytest.mark.parametrize("bit", [0, 1])
def test_the_most_extreme_probabilities_round_trip(p, bit):
    p1 = np.full(3000, p, np.int64)
    bits = np.full(3000, bit, np.uint8)
    decoded, _ = _decode_bits(_encode_bits(p1, bits), p1)
    assert np.array_equal(decoded, bits)


def test_a_carry_runs_through_many_waiting_bytes():
    # Ones with P(1) = 2^-24 keep LOW in place; zeros push it up to the edge of a carry.
    rng = np.random.default_rng(5)
    for _ in range(300):
        p1 = np.full(200, rc.PROBABILITY_ONE - 1, np.int64)
        p1[rng.integers(0, 200, 5)] = 1
        bits = (rng.random(200) < 0.5).astype(np.uint8)
        decoded, _ = _decode_bits(_encode_bits(p1, bits), p1)
        assert np.array_equal(decoded, bits)


def test_a_full_buffer_is_reported_not_overrun():
    p1, bits = _decisions(10_000, 3)
    coder = rc.new_encoder()
    buffer = rc.attach(coder, 100)
    _code_bits(coder, buffer, p1, bits)
    assert rc.finish(coder, buffer) is None


def test_coded_data_of_the_wrong_length_is_noticed():
    p1, bits = _decisions(10_000, 4)
    coded = _encode_bits(p1, bits)
    _, coder = _decode_bits(coded + b"more bytes", p1)
    with pytest.raises(CorruptError):
        rc.check_finished(coder)


@pytest.fixture
def _coding_allowed_afterwards():
    yield
    rc.allow_coding()


def test_a_coder_stops_when_another_thread_says_so(_coding_allowed_afterwards):
    p1, bits = _decisions(2_000_000, 2)
    coder = rc.new_encoder()
    buffer = rc.attach(coder, 4 * len(bits) + 64)
    _code_bits(coder, buffer, p1[:1], bits[:1].copy())  # compiled
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            lambda: [_code_bits(coder, buffer, p1, bits.copy()) for _ in range(10_000)]
        )
        start = time.monotonic()
        rc.abort_all()
        running.result()
    assert time.monotonic() - start < 60  # 10,000 times the decisions are some 300 s
    with pytest.raises(AbortedError):
        rc.finish(coder, buffer)


def test_a_coder_made_while_all_stop_does_not_start(_coding_allowed_afterwards):
    rc.abort_all(for_good=True)
    buffer = np.zeros(8, np.uint8)
    coder = rc.new_decoder(buffer)
    bits = np.zeros(9, np.uint8)
    _code_bits(coder, buffer, np.full(9, 1), bits)
    assert coder[rc.POS] == 4
    with pytest.raises(AbortedError):
        rc.check_finished(coder)


def test_coders_at_work_can_be_counted():
    p1, bits = _decisions(10_000, 3)
    coded = _encode_bits(p1, bits)
    before, raw_before = rc.coded_in_progress(), rc.raw_in_progress()  # of other tests' garbage
    _, decoder = _decode_bits(coded, p1)
    assert rc.coded_in_progress() - before == len(coded)
    encoder = rc.new_encoder()
    encoder[rc.CODED] = 5
    assert rc.raw_in_progress() - raw_before == 5
    del decoder, encoder
    assert rc.coded_in_progress() == before and rc.raw_in_progress() == raw_before
