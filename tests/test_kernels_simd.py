"""The exact engine's vector operations against their twins of NumPy, bit by bit, and against what
they are meant to compute."""

import threading

import numba
import numpy as np
import pytest
from twins import assert_twins_agree, floats_of_many_sizes

from nczip.predictors.transformer import kernels_simd as ks

BLOCKS = 3  # of a row


def _panels(matrix):
    """Rows in groups of 16, of which four columns lie together."""
    rows, columns = matrix.shape
    return np.ascontiguousarray(matrix.reshape(rows // 16, 16, columns // 4, 4).swapaxes(1, 2))


def _factors(seed, rows, vectors, unsigned_matrix):
    """A matrix and vectors of bytes, with their extremes, one side of them without a sign."""
    rng = np.random.default_rng(seed)
    columns = BLOCKS * ks.BLOCK
    unsigned = rng.integers(0, 256, (rows if unsigned_matrix else vectors, columns), np.uint8)
    signed = rng.integers(-128, 128, (vectors if unsigned_matrix else rows, columns), np.int8)
    unsigned[:, : columns // 2], signed[:1, : columns // 2] = 255, -128
    return (unsigned, signed) if unsigned_matrix else (signed, unsigned)


@pytest.mark.parametrize("unsigned_matrix", [True, False])
@pytest.mark.parametrize(("name", "panels", "vectors"), [
    ("2x8", 2, 8), ("4x4", 4, 4), ("4x3", 4, 3), ("4x2", 4, 2), ("4x1", 4, 1),
])  # fmt: skip
def test_panel_products(name, panels, vectors, unsigned_matrix):
    operation = getattr(ks, f"product_{name}")
    rows, columns = 16 * panels, BLOCKS * ks.BLOCK

    def arguments(seed):
        rng = np.random.default_rng(seed)
        matrix, x = _factors(seed, 16 + rows, vectors + 1, unsigned_matrix)
        return (
            _panels(matrix), 16 * columns, 16 * columns, 64, BLOCKS, x, columns, columns,
            floats_of_many_sizes(rng, vectors + 1, BLOCKS),
            rng.integers(-(1 << 20), 1 << 20, (vectors + 1, BLOCKS), np.int32), BLOCKS, BLOCKS,
            floats_of_many_sizes(rng, 16 + rows), 16,
            np.zeros((vectors, rows + 32), np.float32), 16, rows + 32,
        )  # fmt: skip

    assert_twins_agree(operation, arguments)
    given = arguments(7)
    operation.py_func(*given)
    matrix, x = (
        part.astype(np.int64).reshape(-1, BLOCKS, ks.BLOCK)
        for part in _factors(7, 16 + rows, vectors + 1, unsigned_matrix)
    )
    sums = np.einsum("tbc,rbc->trb", x[1:], matrix[16:]) + given[9][1:, None].astype(np.int64)
    parts = sums * given[8][1:, None].astype(float) * given[12][16:, None]
    out = given[14]
    assert np.all(np.abs(out[:, 16:-16] - parts.sum(axis=2)) <= 1e-6 * np.abs(parts).sum(axis=2))
    assert not out[:, :16].any() and not out[:, -16:].any()


def test_quantise_block():
    def arguments(seed):
        rng = np.random.default_rng(seed)
        x = floats_of_many_sizes(rng, 96) * np.float32(0.0 if seed == 3 else 1.0)
        return (
            x, 16, np.zeros((2, 64), np.int8), 32,
            np.zeros(3, np.float32), np.zeros(3, np.int32), 1,
        )  # fmt: skip

    assert_twins_agree(ks.quantise_block, arguments)
    given = arguments(4)
    ks.quantise_block.py_func(*given)
    x, levels, scales, offsets = given[0][16:80], given[2].reshape(-1), given[4], given[5]
    assert np.abs(levels).max() == 127 and not levels[:32].any() and not levels[96:].any()
    assert np.allclose(levels[32:96] * scales[1], x, atol=scales[1] * 0.501)
    assert offsets.tolist() == [0, -128 * int(levels.sum(dtype=np.int64)), 0]


def test_quantise_shares():
    def arguments(seed):
        rng = np.random.default_rng(seed)
        x, factors = np.abs(floats_of_many_sizes(rng, 2, 96))
        x *= np.float32(0.0 if seed == 3 else 1.0)
        return x, 16, factors, 32, np.zeros((2, 64), np.uint8), 32, np.zeros(3, np.float32), 2

    assert_twins_agree(ks.quantise_shares, arguments)
    given = arguments(4)
    ks.quantise_shares.py_func(*given)
    products, levels, scale = given[0][16:80] * given[2][32:], given[4].reshape(-1), given[6][2]
    assert levels.max() == 255 and not levels[:32].any() and not levels[96:].any()
    assert np.allclose(levels[32:96] * scale, products, atol=scale * 0.501)


def test_largest():
    def arguments(seed):
        x = floats_of_many_sizes(np.random.default_rng(seed), 96)
        x[:16], x[80:] = 1e9, 1e9  # outside
        if seed == 3:
            x[16:80] = np.float32([0.0, -0.0, -0.0, 0.0]).repeat(16)
        return x, 16, 64

    assert_twins_agree(ks.largest, arguments)
    x, at, n = arguments(5)
    assert ks.largest.py_func(x, at, n) == x[16:80].max()


def test_exponentials():
    def arguments(seed):
        x = np.random.default_rng(seed).uniform(-70, 0, (2, 64)).astype(np.float32)
        x[1, 3:6] = 0.0, -60.0, -1e30
        return x + np.float32(2.5), 48, np.float32(2.5), 80

    assert_twins_agree(ks.exponentials, arguments)
    x, at, top, n = arguments(5)
    exact = np.exp(x.reshape(-1)[at:].astype(float) - 2.5)
    exact[x.reshape(-1)[at:] - top <= -60] = 0
    before = x.copy()
    total = ks.exponentials.py_func(x, at, top, n)
    assert np.allclose(x.reshape(-1)[at:], exact, rtol=5e-6, atol=0)
    assert total == pytest.approx(exact.sum(), rel=1e-5)
    assert np.array_equal(x.reshape(-1)[:at], before.reshape(-1)[:at])


def test_gate_block():
    def arguments(seed):
        x = floats_of_many_sizes(np.random.default_rng(seed), 2, 96)
        x[0, 16:24] = 0.0, -0.0, 59.9, -59.9, 60.0, -60.0, 1e4, -1e4
        return x, 16

    assert_twins_agree(ks.gate_block, arguments)
    x, at = arguments(5)
    gates, values = (x.reshape(-1)[i : i + 64].astype(float) for i in (16, 80))
    values = values.copy()
    ks.gate_block.py_func(x, at)
    exact = gates / (1 + np.exp(-np.clip(gates, -700, 700))) * values
    assert np.allclose(x.reshape(-1)[16:80], exact, rtol=3e-5, atol=1e-20)


def test_counters():
    def arguments(seed):
        return np.arange(seed, seed + 9), 3, 2 + seed

    assert_twins_agree(ks.fetch_add, arguments)
    assert_twins_agree(ks.load_shared, lambda seed: arguments(seed)[:2])
    assert_twins_agree(ks.give_way, lambda seed: ())
    array, at, value = arguments(5)
    assert (ks.fetch_add.py_func(array, at, value), ks.load_shared.py_func(array, at)) == (8, 15)


@numba.njit(nogil=True)
def _count_compiled(array, times):
    for _ in range(times):
        ks.fetch_add(array, 1, 1)


def _count_plainly(array, times):
    for _ in range(times):
        ks.fetch_add.py_func(array, 1, 1)


@pytest.mark.parametrize(("count", "times"), [(_count_compiled, 1_000_000), (_count_plainly, 5000)])
def test_no_addition_of_a_thread_is_lost(count, times):
    array = np.zeros(2, np.int64)
    threads = [threading.Thread(target=count, args=(array, times)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert array.tolist() == [0, 4 * times]
