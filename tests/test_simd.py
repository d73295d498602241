"""Each vector operation against the function of NumPy that says what it computes, bit by bit."""

import inspect

import numba
import numpy as np
import pytest

from nczip.coder import simd

N = 96  # elements: several vectors of 16


def _compiled(operation):
    """A kernel that does nothing but call the operation."""
    names = ", ".join(inspect.signature(operation.py_func).parameters)
    made = {}
    exec(f"def call({names}): return operation({names})", {"operation": operation}, made)
    return numba.njit(made["call"])


def _floats(rng, *shape):
    """Of very different magnitudes, so that another order of additions shows."""
    return (rng.normal(size=shape) * np.exp(rng.uniform(-9, 3, shape))).astype(np.float32)


def _same(operation, make_arguments):
    """Whether compiled and plain leave the same bits in result and arguments, ten times."""
    call = _compiled(operation)
    for seed in range(10):
        mine, others = make_arguments(seed), make_arguments(seed)
        results = call(*mine), operation.py_func(*others)
        if results[0] is not None:
            assert np.float32(results[0]).tobytes() == np.float32(results[1]).tobytes()
        for a, b in zip(mine, others, strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_dot():
    def arguments(seed):
        rng = np.random.default_rng(seed)
        return _floats(rng, N), 16, _floats(rng, 3, N), N + 5, N - 16

    _same(simd.dot, arguments)
    x, _, w, at, n = arguments(1)
    exact = float(x[16:].astype(float) @ w.reshape(-1)[at : at + n].astype(float))
    assert simd.dot.py_func(x, 16, w, at, n) == pytest.approx(exact, rel=1e-4)


def test_axpy_and_multiply():
    def arguments(seed):
        rng = np.random.default_rng(seed)
        return np.float32(rng.normal()), _floats(rng, N), _floats(rng, 2, N), 48, N - 32

    _same(simd.axpy, arguments)
    _same(simd.multiply, lambda seed: (arguments(seed)[1], arguments(seed)[2], N))
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

    _same(simd.logistic, arguments)
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
            _floats(rng, 4, units),
            units,
            np.zeros(units, np.float32),
            units,
        )

    _same(simd.gated_update, arguments)


@pytest.mark.parametrize("sign", [1, -1])
def test_largest_magnitude(sign):
    def arguments(seed):
        values = sign * np.abs(_floats(np.random.default_rng(seed), N))
        values[0] = 1e9  # before the offset
        return values, 16, N - 16

    _same(simd.largest_magnitude, arguments)
    values, at, n = arguments(4)
    assert simd.largest_magnitude.py_func(values, at, n) == np.abs(values[16:]).max()


@pytest.mark.parametrize(("dtype", "limit"), [(np.int8, 127), (np.int16, 1023)])
def test_round_levels(dtype, limit):
    def arguments(seed):
        x = np.random.default_rng(seed).uniform(-1, 1, N).astype(np.float32)
        x[20:24] = -1, 1, 0, 0.5 / limit
        return x, 16, np.float32(limit), np.int32(limit), np.zeros(2 * N, dtype), 32, N - 16

    _same(simd.round_levels, arguments)
    x, at, factor, _, target, to, n = arguments(5)
    simd.round_levels.py_func(x, at, factor, np.int32(limit), target, to, n)
    assert np.array_equal(target[to : to + n], np.floor(x[at:] * factor + np.float32(0.5)))
    assert not target[:to].any() and not target[to + n :].any()


@pytest.mark.parametrize(("name", "panels", "vectors"), [
    ("1x8", 1, 8), ("2x4", 2, 4), ("4x2", 4, 2), ("4x1", 4, 1),
])  # fmt: skip
def test_panel_products(name, panels, vectors):
    columns, rows = 48, 16 * panels
    operation = getattr(simd, f"product_{name}")

    def arguments(seed):
        rng = np.random.default_rng(seed)
        matrix = rng.integers(-127, 128, (rows, columns), np.int8)
        x = rng.integers(-1023, 1024, (vectors, columns), np.int16)
        return (
            simd.to_panels(matrix), 0, 16 * columns, columns, x, 0, columns,
            _floats(rng, rows), 0, _floats(rng, vectors + 1), 1,
            np.zeros((vectors, rows), np.float32), 0, rows,
        )  # fmt: skip

    _same(operation, arguments)
    rng = np.random.default_rng(6)
    matrix = rng.integers(-127, 128, (rows, columns), np.int8)
    given = list(arguments(6))
    operation.py_func(*given)
    sums = given[4].astype(np.int64) @ matrix.T.astype(np.int64)
    assert np.allclose(given[11], sums * given[7] * given[9][1:, None], rtol=1e-5)


def test_prefetch_changes_nothing():
    _same(simd.prefetch, lambda seed: (np.arange(seed, seed + 99), 3))
