"""Each vector operation against the function of NumPy that says what it computes, bit by bit."""

import numpy as np
import pytest
from twins import assert_twins_agree, floats_of_many_sizes

from nczip.coder import simd

N = 96  # elements: several vectors of 16


def test_dot():
    def arguments(seed):
        rng = np.random.default_rng(seed)
        return floats_of_many_sizes(rng, N), 16, floats_of_many_sizes(rng, 3, N), N + 5, N - 16

    assert_twins_agree(simd.dot, arguments)
    x, _, w, at, n = arguments(1)
    exact = float(x[16:].astype(float) @ w.reshape(-1)[at : at + n].astype(float))
    assert simd.dot.py_func(x, 16, w, at, n) == pytest.approx(exact, rel=1e-4)


def test_axpy_and_multiply():
    def arguments(seed):
        rng = np.random.default_rng(seed)
        return (
            np.float32(rng.normal()),
            floats_of_many_sizes(rng, N),
            floats_of_many_sizes(rng, 2, N),
            48,
            N - 32,
        )

    assert_twins_agree(simd.axpy, arguments)
    assert_twins_agree(simd.multiply, lambda seed: (arguments(seed)[1], arguments(seed)[2], N))
    scale, x, w, at, n = arguments(2)
    before = w.copy()
    simd.axpy.py_func(scale, x, w, at, n)
    assert np.allclose(w.reshape(-1)[48:112], before.reshape(-1)[48:112] + scale * x[:64])
    assert np.array_equal(w.reshape(-1)[:48], before.reshape(-1)[:48])
    assert np.array_equal(w.reshape(-1)[112:], before.reshape(-1)[112:])


def test_logistic():
    def arguments(seed):
        x = np.random.default_rng(seed).uniform(-16, 16, 16).astype(np.float32)
        return x, np.zeros(16, np.float32)

    assert_twins_agree(simd.logistic, arguments)
    x, out = arguments(3)
    simd.logistic.py_func(x, out)
    assert np.allclose(out, 1 / (1 + np.exp(-x.astype(float))), atol=1e-5)


def test_gated_update():
    units = 32

    def arguments(seed):
        rng = np.random.default_rng(seed)
        spread = np.float32(20)  # some sums are clamped
        gates, inputs = rng.normal(size=(2, 9, 3 * units)).astype(np.float32) * spread
        return (
            gates[0],
            inputs,
            3 * units,
            floats_of_many_sizes(rng, 4, units),
            units,
            np.zeros(units, np.float32),
            units,
        )

    assert_twins_agree(simd.gated_update, arguments)


@pytest.mark.parametrize("sign", [1, -1])
def test_largest_magnitude(sign):
    def arguments(seed):
        values = sign * np.abs(floats_of_many_sizes(np.random.default_rng(seed), N))
        values[0] = 1e9  # before the offset
        return values, 16, N - 16

    assert_twins_agree(simd.largest_magnitude, arguments)
    values, at, n = arguments(4)
    assert simd.largest_magnitude.py_func(values, at, n) == np.abs(values[16:]).max()


@pytest.mark.parametrize(("dtype", "limit"), [(np.int8, 127), (np.int16, 1023)])
def test_round_levels(dtype, limit):
    def arguments(seed):
        x = np.random.default_rng(seed).uniform(-1, 1, N).astype(np.float32)
        x[20:24] = -1, 1, 0, 0.5 / limit
        return x, 16, np.float32(limit), np.int32(limit), np.zeros(2 * N, dtype), 32, N - 16

    assert_twins_agree(simd.round_levels, arguments)
    x, at, factor, _, target, to, n = arguments(5)
    simd.round_levels.py_func(x, at, factor, np.int32(limit), target, to, n)
    assert np.array_equal(target[to : to + n], np.floor(x[at:] * factor + np.float32(0.5)))
    assert not target[:to].any() and not target[to + n :].any()


def test_product_of_four_panels():
    columns, rows = 48, 64

    def arguments(seed):
        rng = np.random.default_rng(seed)
        matrix = rng.integers(-127, 128, (2 * rows, columns), np.int8)
        x = rng.integers(-16383, 16384, columns, np.int16)
        return (
            simd.to_panels(matrix), 4 * 16 * columns, 16 * columns, columns, x,
            floats_of_many_sizes(rng, 2 * rows), rows, np.float32(rng.normal()),
            np.zeros(3 * rows, np.float32), 32,
        )  # fmt: skip

    assert_twins_agree(simd.product_4x1, arguments)
    given = arguments(6)
    simd.product_4x1.py_func(*given)
    matrix = np.random.default_rng(6).integers(-127, 128, (2 * rows, columns), np.int8)
    sums = matrix[rows:].astype(np.int64) @ given[4].astype(np.int64)
    out = given[8]
    assert np.allclose(out[32 : 32 + rows], sums * given[5][rows:] * given[7], rtol=1e-5)
    assert not out[:32].any() and not out[32 + rows :].any()


def test_prefetch_changes_nothing():
    assert_twins_agree(simd.prefetch, lambda seed: (np.arange(seed, seed + 99), 3))
