"""Vector operations of the exact engine that plain Numba cannot express well.

Each is written twice, in NumPy and in LLVM's vectors (coder/vectors.py). Arrays of several
dimensions are taken as flat (C order), offsets count elements.

Products take four columns at a time: sixteen sums of four products each are one instruction where
the processor has AVX-512 VNNI (vpdpbusd), and two of another (pmaddwd) where it has not. Integer
sums have no order, so both give the same bits. Floating-point operations are vectors of 16 whose
order is written down here, whatever width the machine has.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from nczip.coder.vectors import (
    ARRAY,
    BYTES,
    FLOAT,
    FLOATS,
    I16,
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
    polynomial,
    polynomial_of,
    prefetch_line,
    splat,
    target,
)

ROWS = LANES  #: of a panel
BLOCK = 64  #: columns that share a scale
LEVELS = 127  #: the largest magnitude of an activation
_SHARE_LEVELS = 255
ZERO = 128  #: the level of a weight that is 0, for weights are stored without a sign
PANEL_GROUP = 4  #: the number of panels is a multiple of this

_UNROLLED = 4  # times four columns
_LEAST_TOP = np.float32(1e-20)  # what a block of zeros counts as its largest value
_LEAST_EXPONENT = -60.0  # e^x counts as 0 below it
_LOG2_E = 1.4426950408889634
_POWER = (0.009666368515338686, 0.05592197584225338, 0.24022349038021354, 0.6931210452034274, 1.0)


def _larger_of(a, b):
    """The larger of each pair, b where neither is."""
    return np.where(a > b, a, b)


def _share(builder, xs):
    """The code of :func:`_share_of`."""
    t = builder.fmul(xs, constant(_LOG2_E))
    power = builder.fptosi(builder.fsub(t, constant(0.5)), INTS)
    y = polynomial(builder, builder.fsub(t, builder.sitofp(power, FLOATS)), _POWER)
    shifted = builder.shl(power, integers(23))
    y = builder.bitcast(builder.add(builder.bitcast(y, INTS), shifted), FLOATS)
    enough = builder.fcmp_ordered(">", xs, constant(_LEAST_EXPONENT))
    return builder.select(enough, y, constant(0.0))


def _share_of(xs):
    """e^x of float32 x <= 0 to 4e-6, 0 from -60 down: what is rounded to 8 bits needs no more.

    2^r of the rest of a rounding to whole powers is a polynomial (interpolated at Chebyshev's
    nodes); the power is added to the exponent.
    """
    enough = xs > np.float32(_LEAST_EXPONENT)
    t = np.where(enough, xs, np.float32(0.0)) * np.float32(_LOG2_E)
    power = (t - np.float32(0.5)).astype(np.int32)
    y = polynomial_of(t - power.astype(np.float32), _POWER)
    y = (y.view(np.int32) + (power << 23)).view(np.float32)
    return np.where(enough, y, np.float32(0.0))


def _dot_of_bytes(builder):
    """A function of (sums, unsigned, signed): ``sums[i] += unsigned[4 i + j] * signed[4 i + j]``.

    Both are 64 bytes, as vectors of int32.
    """
    _, _, features = target()
    if "+avx512vnni" in features:
        kind = ir.FunctionType(INTS, [INTS, INTS, INTS])
        name = "llvm.x86.avx512.vpdpbusd.512"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return lambda sums, unsigned, signed: builder.call(function, [sums, unsigned, signed])

    shorts = ir.VectorType(I16, 2 * LANES)

    def constants(value):
        return ir.Constant(shorts, [value] * (2 * LANES))

    def dot(sums, unsigned, signed):
        unsigned, signed = builder.bitcast(unsigned, shorts), builder.bitcast(signed, shorts)
        even = (
            builder.and_(unsigned, constants(255)),
            builder.ashr(builder.shl(signed, constants(8)), constants(8)),
        )
        odd = builder.lshr(unsigned, constants(8)), builder.ashr(signed, constants(8))
        for a, b in (even, odd):
            more = pair_sums(builder, builder.zext(a, PAIRS), builder.sext(b, PAIRS))
            sums = builder.add(sums, more)
        return sums

    return dot


def _panel_product(panels: int, vectors: int) -> Any:
    """An operation that multiplies ``panels`` panels of a matrix by ``vectors`` vectors."""
    n = types.int64

    @operation(
        _product_code(panels, vectors),
        ARRAY, n, n, n, n, ARRAY, n, n, ARRAY, ARRAY, n, n, ARRAY, n, ARRAY, n, n,
    )  # fmt: skip
    def product(
        matrix, start, stride, ahead, blocks, x, x_start, x_stride,
        scales, offsets, scale_start, scale_stride, row_scales, row, out, out_start, out_stride,
    ):  # fmt: skip
        """Row i of panel p times vector t, in ``out[out_start + t * out_stride + 16 p + i]``:
        the sum over blocks b, in rising order from 0, of ``scales[t, b] * float(offsets[t, b] + the
        sum over its 64 columns of weight * value)``, times ``row_scales[row + 16 p + i]``.

        Panel p starts at ``start + p * stride`` of ``matrix``, vector t at ``x_start + t *
        x_stride`` of ``x``, its scales and offsets at ``scale_start + t * scale_stride``. What lies
        ``ahead`` bytes behind is fetched meanwhile. Either the weights are uint8 and the values
        int8, or the other way round.
        """
        del ahead
        for p in range(panels):
            panel = flat(matrix, start + p * stride, blocks * BLOCK * ROWS).astype(np.int32)
            panel = panel.reshape(int(blocks), BLOCK // 4, ROWS, 4)
            row_factors = flat(row_scales, row + p * ROWS, ROWS)
            for t in range(vectors):
                values = flat(x, x_start + t * x_stride, blocks * BLOCK).astype(np.int32)
                products = panel * values.reshape(-1, BLOCK // 4, 1, 4)
                sums = products.sum(axis=(1, 3), dtype=np.int32)
                place = scale_start + t * scale_stride
                sums += flat(offsets, place, blocks)[:, None]
                total = np.zeros(ROWS, np.float32)
                for scale, of_block in zip(flat(scales, place, blocks), sums, strict=True):
                    total += of_block.astype(np.float32) * scale
                flat(out, out_start + t * out_stride + p * ROWS, ROWS)[:] = total * row_factors

    return product


def _product_code(panels: int, vectors: int) -> Callable[..., None]:
    """The generator of :func:`_panel_product`."""

    def generate(
        builder, matrix, start, stride, ahead, blocks, x, x_start, x_stride,
        scales, offsets, scale_start, scale_stride, row_scales, row, out, out_start, out_stride,
    ):  # fmt: skip
        dot = _dot_of_bytes(builder)
        pairs = [(p, t) for p in range(panels) for t in range(vectors)]

        def number(value):
            return ir.Constant(blocks.type, value)

        def times(step, count):
            return builder.mul(step, number(count))

        def cells(zero):
            return {pair: cgutils.alloca_once_value(builder, zero) for pair in pairs}

        def add_four_columns(at):
            weights = []
            for p in range(panels):
                place = builder.add(times(stride, p), times(at, ROWS))
                weights.append(matrix.load(start, place, kind=INTS))
                prefetch_line(builder, matrix.at(start, place, ahead), 2)
            for t in range(vectors):
                values = splat(builder, x.load(x_start, times(x_stride, t), at, kind=I32))
                for p in range(panels):
                    signed_last = (
                        (values, weights[p]) if matrix.element.signed else (weights[p], values)
                    )
                    builder.store(dot(builder.load(sums[p, t]), *signed_last), sums[p, t])

        sums, totals = cells(integers(0)), cells(constant(0.0))
        with cgutils.for_range(builder, blocks) as outer:
            places = [builder.add(times(scale_stride, t), outer.index) for t in range(vectors)]
            for p, t in pairs:
                offset = offsets.load(scale_start, places[t], kind=I32)
                builder.store(splat(builder, offset), sums[p, t])
            with cgutils.for_range(builder, number(BLOCK // 4 // _UNROLLED)) as inner:
                first = builder.add(times(outer.index, BLOCK), times(inner.index, 4 * _UNROLLED))
                for step in range(_UNROLLED):
                    add_four_columns(builder.add(first, number(4 * step)))
            for p, t in pairs:
                scale = splat(builder, scales.load(scale_start, places[t], kind=FLOAT))
                part = builder.fmul(builder.sitofp(builder.load(sums[p, t]), FLOATS), scale)
                builder.store(builder.fadd(builder.load(totals[p, t]), part), totals[p, t])
        for p, t in pairs:
            rows = number(ROWS * p)
            result = builder.fmul(builder.load(totals[p, t]), row_scales.load(row, rows))
            out.store(result, out_start, times(out_stride, t), rows)

    return generate


# Eight sums and more hide the latency of an addition; sixteen reuse what is loaded most.
product_2x8 = _panel_product(2, 8)
product_4x4 = _panel_product(4, 4)
product_4x3 = _panel_product(4, 3)
product_4x2 = _panel_product(4, 2)
product_4x1 = _panel_product(4, 1)


def _vectors_of_block(at):
    """Where the vectors of a block from ``at`` on begin, as two offsets."""
    return [(at, ir.Constant(at.type, LANES * i)) for i in range(BLOCK // LANES)]


def _quantise_block_code(builder, x, x_at, levels, at, scales, offsets, place):
    values = [x.load(*where) for where in _vectors_of_block(x_at)]
    top = constant(0.0)
    for value in values:
        top = larger(builder, larger(builder, value, builder.fneg(value)), top)
    top = fold_lanes(builder, top, lambda a, b: larger(builder, a, b))
    top = larger(builder, top, FLOAT(float(_LEAST_TOP)))
    factors = splat(builder, builder.fdiv(FLOAT(LEVELS), top))
    total = integers(0)
    for value, where in zip(values, _vectors_of_block(at), strict=True):
        # The sum is positive, for truncation rounds towards zero.
        moved = builder.fadd(builder.fmul(value, factors), constant(LEVELS + 1.5))
        level = builder.sub(builder.fptosi(moved, INTS), integers(LEVELS + 1))
        total = builder.add(total, level)
        levels.store(builder.trunc(level, BYTES), *where)
    scales.store(builder.fdiv(top, FLOAT(LEVELS)), place)
    offsets.store(builder.mul(fold_lanes(builder, total, builder.add), I32(-ZERO)), place)


@operation(
    _quantise_block_code,
    ARRAY, types.int64, ARRAY, types.int64, ARRAY, ARRAY, types.int64,
)  # fmt: skip
def quantise_block(x, x_at, levels, at, scales, offsets, place):
    """Round 64 float32 from ``x[x_at]`` to int8 ``levels[at]``: floor(x * 127 / top + 1/2).

    ``top`` is the largest magnitude (at least 1e-20); ``scales[place] = top / 127`` (float32) and
    ``offsets[place]`` = -128 times the sum of the levels (int32).
    """
    values = flat(x, x_at, BLOCK)
    top = np.abs(values).max(initial=_LEAST_TOP)
    moved = values * (np.float32(LEVELS) / top) + np.float32(LEVELS + 1.5)
    rounded = moved.astype(np.int32) - (LEVELS + 1)
    flat(levels, at, BLOCK)[:] = rounded
    flat(scales, place, 1)[:] = top / np.float32(LEVELS)
    flat(offsets, place, 1)[:] = rounded.sum(dtype=np.int32) * -ZERO


def _quantise_shares_code(builder, x, x_at, factors, f_at, levels, at, scales, place):
    both = zip(_vectors_of_block(x_at), _vectors_of_block(f_at), strict=True)
    values = [builder.fmul(x.load(*where), factors.load(*there)) for where, there in both]
    top = constant(0.0)
    for value in values:
        top = larger(builder, value, top)
    top = fold_lanes(builder, top, lambda a, b: larger(builder, a, b))
    top = larger(builder, top, FLOAT(float(_LEAST_TOP)))
    factor = splat(builder, builder.fdiv(FLOAT(_SHARE_LEVELS), top))
    for value, where in zip(values, _vectors_of_block(at), strict=True):
        moved = builder.fadd(builder.fmul(value, factor), constant(0.5))
        levels.store(builder.trunc(builder.fptosi(moved, INTS), BYTES), *where)
    scales.store(builder.fdiv(top, FLOAT(_SHARE_LEVELS)), place)


@operation(
    _quantise_shares_code,
    ARRAY, types.int64, ARRAY, types.int64, ARRAY, types.int64, ARRAY, types.int64,
)  # fmt: skip
def quantise_shares(x, x_at, factors, f_at, levels, at, scales, place):
    """Round 64 float32 ``x[x_at + i] * factors[f_at + i]``, none negative, to uint8 ``levels[at]``.

    The largest (at least 1e-20) becomes 255; ``scales[place]`` is that divided by 255.
    """
    values = flat(x, x_at, BLOCK) * flat(factors, f_at, BLOCK)
    top = values.max(initial=_LEAST_TOP)
    moved = values * (np.float32(_SHARE_LEVELS) / top) + np.float32(0.5)
    flat(levels, at, BLOCK)[:] = moved.astype(np.int32)
    flat(scales, place, 1)[:] = top / np.float32(_SHARE_LEVELS)


def _largest_code(builder, x, at, n):
    top = cgutils.alloca_once_value(builder, x.load(at))
    with each_vector(builder, n) as i:
        builder.store(larger(builder, x.load(at, i), builder.load(top)), top)
    return fold_lanes(builder, builder.load(top), lambda a, b: larger(builder, a, b))


@operation(_largest_code, ARRAY, types.int64, types.int64, returns=types.float32)
def largest(x, at, n):
    """The largest ``x[at + i]`` for i < n, float32; n a positive multiple of 16; no NaN.

    Of zeros of both signs it is the one that the order of :func:`fold_lanes` leaves.
    """
    top, *rows = flat(x, at, n).reshape(-1, LANES)
    for row in rows:
        top = _larger_of(row, top)
    return fold_of(top, _larger_of)


def _exponentials_code(builder, x, at, top, n):
    total = cgutils.alloca_once_value(builder, constant(0.0))
    tops = splat(builder, top)
    with each_vector(builder, n) as i:
        values = _share(builder, builder.fsub(x.load(at, i), tops))
        x.store(values, at, i)
        builder.store(builder.fadd(builder.load(total), values), total)
    return fold_lanes(builder, builder.load(total), builder.fadd)


@operation(
    _exponentials_code, ARRAY, types.int64, types.float32, types.int64, returns=types.float32
)
def exponentials(x, at, top, n):
    """Replace x by e^(x - top) (:func:`_share_of`) for n float32 from ``at``, a multiple of 16.

    Returns their sum: partial sum j adds those of i = j (mod 16) in rising order, then halves are
    added.
    """
    values = flat(x, at, n)
    values[:] = _share_of(values - np.float32(top))
    total = np.zeros(LANES, np.float32)
    for row in values.reshape(-1, LANES):
        total += row
    return fold_of(total, np.add)


def _gate_block_code(builder, x, at):
    one = constant(1.0)
    for where in _vectors_of_block(at):
        gates, values = x.load(*where), x.load(*where, ir.Constant(at.type, BLOCK))
        positive = builder.fcmp_ordered(">", gates, constant(0.0))
        # sigmoid(g) is 1 / (1 + e^-|g|) on the positive side, e^-|g| / (1 + e^-|g|) beside it.
        below = builder.select(positive, builder.fneg(gates), gates)
        enough = builder.fcmp_ordered(">", below, constant(_LEAST_EXPONENT))
        e = builder.select(enough, exp(builder, below, 1.0), constant(0.0))
        share = builder.fdiv(builder.select(positive, one, e), builder.fadd(one, e))
        x.store(builder.fmul(builder.fmul(gates, share), values), *where)


@operation(_gate_block_code, ARRAY, types.int64)
def gate_block(x, at):
    """SwiGLU (Shazeer, 2020) of 64 gates from ``x[at]`` and the 64 values after them, float32:
    ``x[at + i] = x[at + i] * sigmoid(x[at + i]) * x[at + 64 + i]``; e^-60 and less count as 0."""
    gates, values = flat(x, at, BLOCK), flat(x, at + BLOCK, BLOCK)
    one, none = np.float32(1.0), np.float32(0.0)
    below = -np.abs(gates)
    enough = below > np.float32(_LEAST_EXPONENT)
    e = np.where(enough, exp_of(np.where(enough, below, none), 1.0), none)
    share = np.where(gates > none, one, e) / (one + e)
    gates[:] = gates * share * values


def _fetch_add_code(builder, array, index, value):
    return builder.atomic_rmw("add", array.at(index), value, "seq_cst")


_adding = threading.Lock()  # what an atomic addition is in NumPy


@operation(_fetch_add_code, ARRAY, types.int64, types.int64, returns=types.int64)
def fetch_add(array, index, value):
    """Add to ``array[index]`` (int64) atomically; returns what it was."""
    with _adding:
        was = flat(array, index, 1)[0]
        flat(array, index, 1)[:] += value
    return was


def _load_shared_code(builder, array, index):
    return builder.load_atomic(array.at(index), "acquire", align=8)


@operation(_load_shared_code, ARRAY, types.int64, returns=types.int64)
def load_shared(array, index):
    """Read ``array[index]`` (int64), and see what its writer wrote before it."""
    return flat(array, index, 1)[0]


def _give_way_code(builder):
    triple, _, _ = target()
    if "windows" not in triple:
        kind = ir.FunctionType(I32, [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])


@operation(_give_way_code)
def give_way():
    """Let another thread of this core run (sched_yield; nothing where there is none)."""
    time.sleep(0)
