"""The operations that plain Numba cannot express well: vectorised dot products whose order of
additions is written down, a vectorised update, and a prefetch.

Each is written twice, in NumPy and in LLVM's vectors (vectors.py).

Arrays of several dimensions are taken as flat (C order), offsets count elements.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils

from nczip.coder.vectors import (
    ARRAY,
    FLOAT,
    FLOATS,
    I32,
    INTS,
    LANES,
    PAIRS,
    constant,
    each_vector,
    exp,
    exp_of,
    flat,
    fold_lanes,
    fold_of,
    integers,
    larger,
    operation,
    pair_sums,
    prefetch_line,
    splat,
)

PANEL_GROUP = 4  #: panels that are multiplied at once


def to_panels(levels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Matrices int8[..., rows, columns] as panels int8[..., rows / 16, columns / 2, 16, 2]."""
    *outer, rows, columns = levels.shape
    panels = levels.reshape(*outer, rows // LANES, LANES, columns // 2, 2).swapaxes(-3, -2)
    return np.ascontiguousarray(panels)


def _dot_code(builder, x, x_offset, w, w_offset, n):
    total = cgutils.alloca_once_value(builder, constant(0.0))
    with each_vector(builder, n) as i:
        product = builder.fmul(x.load(x_offset, i), w.load(w_offset, i))
        builder.store(builder.fadd(builder.load(total), product), total)
    return fold_lanes(builder, builder.load(total), builder.fadd)


@operation(_dot_code, ARRAY, types.int64, ARRAY, types.int64, types.int64, returns=types.float32)
def dot(x, x_offset, w, w_offset, n):
    """Sum of ``x[x_offset + i] * w[w_offset + i]`` for i < n, float32; n a multiple of 16.

    Partial sum j adds the products of i = j (mod 16) in rising order; then halves are added
    pairwise (16 -> 8 -> 4 -> 2 -> 1). No product is fused with its addition, so the result has
    the same bits whatever vector width the machine has.
    """
    sums = np.zeros(LANES, np.float32)
    for row in (flat(x, x_offset, n) * flat(w, w_offset, n)).reshape(-1, LANES):
        sums += row
    return fold_of(sums, np.add)


def _axpy_code(builder, scale, x, w, offset, n):
    scales = splat(builder, scale)
    with each_vector(builder, n) as i:
        w.store(builder.fadd(w.load(offset, i), builder.fmul(scales, x.load(i))), offset, i)


@operation(_axpy_code, types.float32, ARRAY, ARRAY, types.int64, types.int64)
def axpy(scale, x, w, offset, n):
    """``w[offset + i] += scale * x[i]`` for i < n, float32; n a multiple of 16.

    Plain Numba guards every ``w[offset + i]`` against a negative index, which keeps LLVM from
    vectorising the loop.
    """
    flat(w, offset, n)[:] += np.float32(scale) * flat(x, 0, n)


def _multiply_code(builder, x, factors, n):
    with each_vector(builder, n) as i:
        x.store(builder.fmul(x.load(i), factors.load(i)), i)


@operation(_multiply_code, ARRAY, ARRAY, types.int64)
def multiply(x, factors, n):
    """``x[i] *= factors[i]`` for i < n, float32; n a multiple of 16."""
    flat(x, 0, n)[:] *= flat(factors, 0, n)


def _logistic_vector(builder, xs):
    """The code of :func:`_logistic_of`."""
    y = exp(builder, xs, -1.0)
    return builder.fdiv(constant(1.0), builder.fadd(constant(1.0), y))


def _logistic_of(xs):
    """1 / (1 + e^-x) for x in [-16, 16], float32, to about 1e-5."""
    return np.float32(1.0) / (np.float32(1.0) + exp_of(xs, -1.0))


def _logistic_code(builder, x, out):
    start = ir.Constant(ir.IntType(64), 0)
    out.store(_logistic_vector(builder, x.load(start)), start)


@operation(_logistic_code, ARRAY, ARRAY)
def logistic(x, out):
    """``out[i] = 1 / (1 + e^-x[i])`` for i < 16 and x in [-16, 16], float32, to about 1e-5."""
    flat(out, 0, LANES)[:] = _logistic_of(flat(x, 0, LANES))


def _gated_update_code(builder, gates, inputs, input_start, states, state_start, copy, n):
    def clamped_logistic(xs):
        for order, bound in ((">", constant(16.0)), ("<", constant(-16.0))):
            xs = builder.select(builder.fcmp_ordered(order, xs, bound), bound, xs)
        return _logistic_vector(builder, xs)

    with each_vector(builder, n) as i:
        gate, given = [], []
        for part in range(3):
            at = builder.add(i, builder.mul(n, ir.Constant(n.type, part)))
            gate.append(gates.load(at))
            given.append(inputs.load(at, input_start))
        reset = clamped_logistic(builder.fadd(gate[0], given[0]))
        update = clamped_logistic(builder.fadd(gate[1], given[1]))
        total = builder.fadd(given[2], builder.fmul(reset, gate[2]))
        half = clamped_logistic(builder.fadd(total, total))
        candidate = builder.fsub(builder.fadd(half, half), constant(1.0))
        step = builder.fmul(update, builder.fsub(states.load(state_start, i), candidate))
        state = builder.fadd(candidate, step)
        states.store(state, state_start, i)
        copy.store(state, i)


@operation(
    _gated_update_code,
    ARRAY, ARRAY, types.int64, ARRAY, types.int64, ARRAY, types.int64,
)  # fmt: skip
def gated_update(gates, inputs, input_start, states, state_start, copy, n):
    """A step of a gated recurrent unit of n units, a multiple of 16; float32.

    ``gates`` and ``inputs`` (from ``input_start``) hold n values each for reset, update and
    candidate: r = logistic(gates + inputs), z likewise, c = tanh(inputs + r * gates), and the
    state h (n values of ``states`` from ``state_start``) becomes c + z * (h - c), also in ``copy``.
    Sums before a logistic are clamped to +-16, before tanh to +-8.
    """

    def clamped_logistic(xs):
        return _logistic_of(np.clip(xs, np.float32(-16.0), np.float32(16.0)))

    gate = flat(gates, 0, 3 * n).reshape(3, -1)
    given = flat(inputs, input_start, 3 * n).reshape(3, -1)
    reset, update = clamped_logistic(gate[0] + given[0]), clamped_logistic(gate[1] + given[1])
    total = given[2] + reset * gate[2]
    half = clamped_logistic(total + total)
    candidate = half + half - np.float32(1.0)
    states = flat(states, state_start, n)
    states[:] = candidate + update * (states - candidate)
    flat(copy, 0, n)[:] = states


def _largest_magnitude_code(builder, x, offset, n):
    top = cgutils.alloca_once_value(builder, constant(0.0))
    with each_vector(builder, n) as i:
        values = x.load(offset, i)
        values = larger(builder, values, builder.fneg(values))
        builder.store(larger(builder, values, builder.load(top)), top)
    return fold_lanes(builder, builder.load(top), lambda a, b: larger(builder, a, b))


@operation(
    _largest_magnitude_code, ARRAY, types.int64, types.int64, returns=types.float32
)  # fmt: skip
def largest_magnitude(x, offset, n):
    """The largest ``abs(x[offset + i])`` for i < n, float32; n a multiple of 16; no NaN."""
    return np.abs(flat(x, offset, n)).max(initial=np.float32(0.0))


def _round_levels_code(builder, x, x_offset, factor, limit, target, t_offset, n):
    short = ir.VectorType(target.data.type.pointee, LANES)
    factors = splat(builder, factor)
    shift = builder.add(limit, ir.Constant(limit.type, 1))
    offset = builder.fadd(builder.sitofp(shift, FLOAT), ir.Constant(FLOAT, 0.5))
    offsets, shifts = splat(builder, offset), splat(builder, shift)
    with each_vector(builder, n) as i:
        moved = builder.fadd(builder.fmul(x.load(x_offset, i), factors), offsets)
        levels = builder.sub(builder.fptosi(moved, INTS), shifts)
        target.store(builder.trunc(levels, short), t_offset, i)


@operation(
    _round_levels_code,
    ARRAY, types.int64, types.float32, types.int32, ARRAY, types.int64, types.int64,
)  # fmt: skip
def round_levels(x, x_offset, factor, limit, target, t_offset, n):
    """``target[t_offset + i] = floor(x[x_offset + i] * factor + 1/2)`` as int16 or int8 for i < n.

    n is a multiple of 16; the products lie in [-limit, limit] (int32). Adding limit + 1.5 first
    makes the sum positive, for truncation rounds towards zero.
    """
    shift = np.int32(limit) + np.int32(1)
    moved = flat(x, x_offset, n) * np.float32(factor) + (np.float32(shift) + np.float32(0.5))
    flat(target, t_offset, n)[:] = moved.astype(np.int32) - shift


def _product_4x1_code(builder, matrix, start, stride, columns, x, row_scales, row, scale, out, to):
    def number(value):
        return ir.Constant(columns.type, value)

    octets, shorts = (ir.VectorType(ir.IntType(bits), 2 * LANES) for bits in (8, 16))
    panels = range(PANEL_GROUP)
    totals = [cgutils.alloca_once_value(builder, integers(0)) for _ in panels]
    with cgutils.for_range(builder, builder.lshr(columns, number(1))) as loop:
        cell = builder.shl(loop.index, number(5))
        weights = [
            builder.sext(
                matrix.load(start, builder.mul(stride, number(p)), cell, kind=octets), PAIRS
            )
            for p in panels
        ]
        pair = splat(builder, x.load(builder.shl(loop.index, number(1)), kind=I32))
        values = builder.sext(builder.bitcast(pair, shorts), PAIRS)
        for p, total in enumerate(totals):
            more = pair_sums(builder, weights[p], values)
            builder.store(builder.add(builder.load(total), more), total)
    scales = splat(builder, scale)
    for p, total in enumerate(totals):
        rows = number(LANES * p)
        factors = builder.fmul(row_scales.load(row, rows), scales)
        sums = builder.sitofp(builder.load(total), FLOATS)
        out.store(builder.fmul(sums, factors), to, rows)


@operation(
    _product_4x1_code,
    ARRAY, types.int64, types.int64, types.int64, ARRAY,
    ARRAY, types.int64, types.float32, ARRAY, types.int64,
)  # fmt: skip
def product_4x1(matrix, start, stride, columns, x, row_scales, row, scale, out, to):
    """``out[to + 16 p + i] = float(sum) * (row_scales[row + 16 p + i] * scale)`` for p < 4, the sum
    over c < columns (an even number) of ``matrix[p, c, i] * x[c]``, int32.

    Panel p starts at ``start + p * stride`` of ``matrix``; x is int16, scales and results float32.
    A panel is 16 rows of int8, interleaved so that each pair of columns is 32 bytes: row 0's two,
    row 1's two ... One instruction (pmaddwd, vpdpwssd) then multiplies a pair of columns of all
    rows by the same pair of a vector, and no sum has to be taken across a register.
    """
    values = flat(x, 0, columns).astype(np.int32).reshape(-1, 1, 2)
    for p in range(PANEL_GROUP):
        panel = flat(matrix, start + p * stride, columns * LANES).astype(np.int32)
        sums = (panel.reshape(-1, LANES, 2) * values).sum(axis=(0, 2), dtype=np.int32)
        factors = flat(row_scales, row + p * LANES, LANES) * np.float32(scale)
        flat(out, to + p * LANES, LANES)[:] = sums.astype(np.float32) * factors


def _prefetch_code(builder, array, index):
    prefetch_line(builder, array.at(index), 3)


@operation(_prefetch_code, ARRAY, types.int64)
def prefetch(array, index):
    """Ask for the cache line of ``array[index]`` ahead of its use; nothing else."""
