"""Vector operations of the exact engine that plain Numba cannot express well.

Products take four columns at a time: sixteen sums of four products each are one instruction where
the processor has AVX-512 VNNI (vpdpbusd), and two of another (pmaddwd) where it has not. Integer
sums have no order, so both give the same bits. Floating-point operations are vectors of 16 whose
order is written down here, whatever width the machine has.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS = 16  #: of a panel; also the float32 elements of a vector
BLOCK = 64  #: columns that share a scale
LEVELS = 127  #: the largest magnitude of an activation
_SHARE_LEVELS = 255
ZERO = 128  #: the level of a weight that is 0, for weights are stored without a sign

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()
_FLOATS = ir.VectorType(_F32, ROWS)
_SUMS = ir.VectorType(_I32, ROWS)
_UNROLLED = 4  # times four columns
_LEAST_EXPONENT = -60.0  # e^x counts as 0 below it
_POWER = (1.0, 0.6931210452034274, 0.24022349038021354, 0.05592197584225338, 0.009666368515338686)


def _data(context, builder, array_type, array):
    return context.make_array(array_type)(context, builder, value=array).data


def _pointer(builder, data, offset, element):
    return builder.bitcast(builder.gep(data, [offset]), element.as_pointer())


def _splat(builder, value):
    one = builder.insert_element(
        ir.Constant(ir.VectorType(value.type, ROWS), ir.Undefined), value, _I32(0)
    )
    zeros = ir.Constant(_SUMS, [0] * ROWS)
    return builder.shuffle_vector(one, ir.Constant(one.type, ir.Undefined), zeros)


def _constants(value):
    return ir.Constant(_FLOATS, [value] * ROWS)


def _fold(builder, value, operation):
    """Join the halves of a vector until one element is left: 16 -> 8 -> 4 -> 2 -> 1."""
    width = value.type.count
    while width > 1:
        width //= 2
        undefined = ir.Constant(value.type, ir.Undefined)
        low, high = (
            builder.shuffle_vector(
                value, undefined, ir.Constant(ir.VectorType(_I32, width), list(part))
            )
            for part in (range(width), range(width, 2 * width))
        )
        value = operation(low, high)
    return builder.extract_element(value, _I32(0))


def _larger(builder):
    return lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _exp(builder, xs):
    """exp32 of coder/exactmath.py on a vector, but 0 below -60."""
    r = builder.fmul(xs, _constants(1.0 / 64.0))
    y = _constants(_rounded(1.0 / 720.0))
    for coefficient in (1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0):
        y = builder.fadd(builder.fmul(y, r), _constants(_rounded(coefficient)))
    for _ in range(6):
        y = builder.fmul(y, y)
    enough = builder.fcmp_ordered(">", xs, _constants(_LEAST_EXPONENT))
    return builder.select(enough, y, _constants(0.0))


def _share(builder, xs):
    """e^x of a vector of x <= 0 to 4e-6, 0 below -60: what is rounded to 8 bits needs no more.

    2^r of the rest of a rounding to whole powers is a polynomial (interpolated at Chebyshev's
    nodes); the power is added to the exponent.
    """
    t = builder.fmul(xs, _constants(_rounded(1.4426950408889634)))
    power = builder.fptosi(builder.fsub(t, _constants(0.5)), _SUMS)
    r = builder.fsub(t, builder.sitofp(power, _FLOATS))
    y = _constants(_rounded(_POWER[-1]))
    for coefficient in _POWER[-2::-1]:
        y = builder.fadd(builder.fmul(y, r), _constants(_rounded(coefficient)))
    shifted = builder.shl(power, ir.Constant(_SUMS, [23] * ROWS))
    y = builder.bitcast(builder.add(builder.bitcast(y, _SUMS), shifted), _FLOATS)
    enough = builder.fcmp_ordered(">", xs, _constants(_LEAST_EXPONENT))
    return builder.select(enough, y, _constants(0.0))


def _rounded(value):
    """The nearest float32, as llvmlite wants its constants."""
    return float(np.float32(value))


def _has_dot_of_bytes(context):
    """Whether the kernels are compiled for a processor with AVX-512 VNNI."""
    _, _, features = context.codegen().magic_tuple()
    return "+avx512vnni" in features.split(",")


def _dot_of_bytes(context, builder):
    """A function of (sums, unsigned, signed): ``sums[i] += unsigned[4 i + j] * signed[4 i + j]``.

    Both are 64 bytes, as vectors of int32.
    """
    if _has_dot_of_bytes(context):
        kind = ir.FunctionType(_SUMS, [_SUMS, _SUMS, _SUMS])
        name = "llvm.x86.avx512.vpdpbusd.512"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return lambda sums, unsigned, signed: builder.call(function, [sums, unsigned, signed])

    shorts, pairs = ir.VectorType(_I16, 2 * ROWS), ir.VectorType(_I32, 2 * ROWS)

    def constants(value):
        return ir.Constant(shorts, [value] * (2 * ROWS))

    def pair_sums(a, b):
        products = builder.mul(a, b)
        undefined = ir.Constant(pairs, ir.Undefined)
        even, odd = (
            builder.shuffle_vector(
                products, undefined, ir.Constant(_SUMS, list(range(first, 2 * ROWS, 2)))
            )
            for first in (0, 1)
        )
        return builder.add(even, odd)

    def dot(sums, unsigned, signed):
        unsigned, signed = builder.bitcast(unsigned, shorts), builder.bitcast(signed, shorts)
        even = (
            builder.and_(unsigned, constants(255)),
            builder.ashr(builder.shl(signed, constants(8)), constants(8)),
        )
        odd = builder.lshr(unsigned, constants(8)), builder.ashr(signed, constants(8))
        for a, b in (even, odd):
            sums = builder.add(sums, pair_sums(builder.zext(a, pairs), builder.sext(b, pairs)))
        return sums

    return dot


def _prefetch(builder, pointer):
    """Ask for a cache line ahead of its use."""
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, _I32(0), _I32(2), _I32(1)])


def _panel_product(panels, vectors):
    """An intrinsic that multiplies ``panels`` panels of a matrix by ``vectors`` vectors."""

    @intrinsic
    def product(
        typing_context, matrix, start, stride, ahead, blocks, x, x_start, x_stride,
        scales, offsets, scale_start, scale_stride, row_scales, row, out, out_start, out_stride,
    ):  # fmt: skip
        """Row i of panel p times vector t, in ``out[out_start + t * out_stride + 16 p + i]``:
        the sum over blocks b, in rising order from 0, of ``scales[t, b] * float(offsets[t, b] + the
        sum over its 64 columns of weight * value)``, times ``row_scales[row + 16 p + i]``.

        All arrays are taken as flat. Panel p starts at ``start + p * stride`` of ``matrix``, vector
        t at ``x_start + t * x_stride`` of ``x``, its scales and offsets at ``scale_start + t *
        scale_stride``. What lies ``ahead`` bytes behind is fetched meanwhile. Either the weights
        are unsigned and the values signed, or the other way round.
        """
        del typing_context
        n = types.int64
        arrays = (matrix, x, scales, offsets, row_scales, out)
        if not all(isinstance(array, types.Array) for array in arrays):
            return None
        signature = types.void(
            matrix, n, n, n, n, x, n, n, scales, offsets, n, n, row_scales, n, out, n, n
        )
        return signature, _product_code(panels, vectors)

    return product


def _product_code(panels, vectors):
    """The code generator of :func:`_panel_product`."""

    def codegen(context, builder, signature, arguments):
        (matrix, start, stride, ahead, blocks, x, x_start, x_stride, scales, offsets, scale_start,
         scale_stride, row_scales, row, out, out_start, out_stride) = arguments  # fmt: skip
        matrix, x, scales, offsets, row_scales, out = (
            _data(context, builder, signature.args[i], arguments[i]) for i in (0, 5, 8, 9, 12, 14)
        )
        signed_matrix = signature.args[0].dtype.signed
        dot = _dot_of_bytes(context, builder)

        def moved(at, step, times):
            return builder.add(at, builder.mul(step, _I64(times)))

        def cells(kind):
            zero = ir.Constant(kind, [0] * ROWS)
            return [
                [cgutils.alloca_once_value(builder, zero) for _ in range(vectors)]
                for _ in range(panels)
            ]

        sums, totals = cells(_SUMS), cells(_FLOATS)
        for p in range(panels):  # allocas keep what an earlier round of the caller's loop left
            for t in range(vectors):
                builder.store(_constants(0.0), totals[p][t])
        with cgutils.for_range(builder, blocks) as outer:
            for t in range(vectors):
                at = builder.add(moved(scale_start, scale_stride, t), outer.index)
                offset = _splat(builder, builder.load(builder.gep(offsets, [at])))
                for p in range(panels):
                    builder.store(offset, sums[p][t])
            first = builder.mul(outer.index, _I64(BLOCK))
            with cgutils.for_range(builder, _I64(BLOCK // 4 // _UNROLLED)) as inner:
                column = builder.add(first, builder.mul(inner.index, _I64(4 * _UNROLLED)))
                for step in range(_UNROLLED):
                    at = builder.add(column, _I64(4 * step))
                    weights = []
                    for p in range(panels):
                        where = builder.add(moved(start, stride, p), builder.mul(at, _I64(ROWS)))
                        pointer = _pointer(builder, matrix, where, _SUMS)
                        weights.append(builder.load(pointer, align=1))
                        _prefetch(builder, builder.gep(matrix, [builder.add(where, ahead)]))
                    for t in range(vectors):
                        where = builder.add(moved(x_start, x_stride, t), at)
                        four = builder.load(_pointer(builder, x, where, _I32), align=1)
                        values = _splat(builder, four)
                        for p in range(panels):
                            cell = sums[p][t]
                            pair = (values, weights[p]) if signed_matrix else (weights[p], values)
                            builder.store(dot(builder.load(cell), *pair), cell)
            for t in range(vectors):
                at = builder.add(moved(scale_start, scale_stride, t), outer.index)
                scale = _splat(builder, builder.load(builder.gep(scales, [at])))
                for p in range(panels):
                    part = builder.fmul(builder.sitofp(builder.load(sums[p][t]), _FLOATS), scale)
                    builder.store(builder.fadd(builder.load(totals[p][t]), part), totals[p][t])
        for p in range(panels):
            at = builder.add(row, _I64(ROWS * p))
            factors = builder.load(_pointer(builder, row_scales, at, _FLOATS), align=4)
            for t in range(vectors):
                at = builder.add(moved(out_start, out_stride, t), _I64(ROWS * p))
                result = builder.fmul(builder.load(totals[p][t]), factors)
                builder.store(result, _pointer(builder, out, at, _FLOATS), align=4)
        return context.get_dummy_value()

    return codegen


# Eight sums and more hide the latency of an addition; sixteen reuse what is loaded most.
product_2x8 = _panel_product(2, 8)
product_4x4 = _panel_product(4, 4)
product_4x3 = _panel_product(4, 3)
product_4x2 = _panel_product(4, 2)
product_4x1 = _panel_product(4, 1)
PANEL_GROUP = 4  #: the number of panels is a multiple of this


def _quantise_code(context, builder, values, levels, at, scales, offsets, place):
    """Store 64 values (four vectors) as levels, with their scale and offset."""
    top = _constants(0.0)
    for value in values:
        top = _larger(builder)(_larger(builder)(value, builder.fneg(value)), top)
    top = _larger(builder)(_fold(builder, top, _larger(builder)), _F32(_rounded(1e-20)))
    factor = _splat(builder, builder.fdiv(_F32(LEVELS), top))
    total = ir.Constant(_SUMS, [0] * ROWS)
    shift = ir.Constant(_SUMS, [LEVELS + 1] * ROWS)
    for i, value in enumerate(values):
        # The sum is positive, for truncation rounds towards zero.
        moved = builder.fadd(builder.fmul(value, factor), _constants(LEVELS + 1.5))
        level = builder.sub(builder.fptosi(moved, _SUMS), shift)
        total = builder.add(total, level)
        bytes_ = ir.VectorType(_I8, ROWS)
        pointer = _pointer(builder, levels, builder.add(at, _I64(ROWS * i)), bytes_)
        builder.store(builder.trunc(level, bytes_), pointer, align=1)
    builder.store(builder.fdiv(top, _F32(LEVELS)), builder.gep(scales, [place]))
    offset = builder.mul(_fold(builder, total, builder.add), _I32(-ZERO))
    builder.store(offset, builder.gep(offsets, [place]))


@intrinsic
def quantise_block(typing_context, x, x_at, levels, at, scales, offsets, place):
    """Round 64 float32 from ``x[x_at]`` to int8 ``levels[at]``: floor(x * 127 / top + 1/2).

    ``top`` is the largest magnitude (at least 1e-20); ``scales[place] = top / 127`` (float32) and
    ``offsets[place]`` = -128 times the sum of the levels (int32). Arrays are taken as flat.
    """
    del typing_context
    if not all(isinstance(array, types.Array) for array in (x, levels, scales, offsets)):
        return None

    def codegen(context, builder, signature, arguments):
        x, levels, scales, offsets = (
            _data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 4, 5)
        )
        values = [
            builder.load(
                _pointer(builder, x, builder.add(arguments[1], _I64(ROWS * i)), _FLOATS), align=4
            )
            for i in range(BLOCK // ROWS)
        ]
        _quantise_code(
            context, builder, values, levels, arguments[3], scales, offsets, arguments[6]
        )
        return context.get_dummy_value()

    n = types.int64
    return types.void(x, n, levels, n, scales, offsets, n), codegen


@intrinsic
def quantise_shares(typing_context, x, x_at, factors, f_at, levels, at, scales, place):
    """Round 64 float32 ``x[x_at + i] * factors[f_at + i]``, none negative, to uint8 ``levels[at]``.

    The largest (at least 1e-20) becomes 255; ``scales[place]`` is that divided by 255.
    """
    del typing_context
    if not all(isinstance(array, types.Array) for array in (x, factors, levels, scales)):
        return None

    def codegen(context, builder, signature, arguments):
        x, factors, levels, scales = (
            _data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 4, 6)
        )
        values, top = [], _constants(0.0)
        for i in range(BLOCK // ROWS):
            both = [
                builder.load(
                    _pointer(builder, data, builder.add(start, _I64(ROWS * i)), _FLOATS), align=4
                )
                for data, start in ((x, arguments[1]), (factors, arguments[3]))
            ]
            values.append(builder.fmul(*both))
            top = _larger(builder)(values[-1], top)
        top = _larger(builder)(_fold(builder, top, _larger(builder)), _F32(_rounded(1e-20)))
        factor = _splat(builder, builder.fdiv(_F32(_SHARE_LEVELS), top))
        bytes_ = ir.VectorType(_I8, ROWS)
        for i, value in enumerate(values):
            moved = builder.fadd(builder.fmul(value, factor), _constants(0.5))
            level = builder.trunc(builder.fptosi(moved, _SUMS), bytes_)
            at = builder.add(arguments[5], _I64(ROWS * i))
            builder.store(level, _pointer(builder, levels, at, bytes_), align=1)
        builder.store(builder.fdiv(top, _F32(_SHARE_LEVELS)), builder.gep(scales, [arguments[7]]))
        return context.get_dummy_value()

    n = types.int64
    return types.void(x, n, factors, n, levels, n, scales, n), codegen


@intrinsic
def largest(typing_context, x, at, n):
    """The largest ``x[at + i]`` for i < n, float32; n a positive multiple of 16; no NaN."""
    del typing_context
    if not isinstance(x, types.Array):
        return None

    def codegen(context, builder, signature, arguments):
        array, start, count = arguments
        data = _data(context, builder, signature.args[0], array)
        top = cgutils.alloca_once(builder, _FLOATS)
        builder.store(builder.load(_pointer(builder, data, start, _FLOATS), align=4), top)
        with cgutils.for_range(builder, builder.lshr(count, _I64(4))) as loop:
            at = builder.add(start, builder.shl(loop.index, _I64(4)))
            values = builder.load(_pointer(builder, data, at, _FLOATS), align=4)
            builder.store(_larger(builder)(values, builder.load(top)), top)
        return _fold(builder, builder.load(top), _larger(builder))

    return types.float32(x, types.int64, types.int64), codegen


@intrinsic
def exponentials(typing_context, x, at, top, n):
    """Replace x by e^(x - top) (:func:`_share`) for n float32 from ``at``, a multiple of 16.

    Returns their sum: partial sum j adds those of i = j (mod 16) in rising order, then halves are
    added.
    """
    del typing_context
    if not isinstance(x, types.Array):
        return None

    def codegen(context, builder, signature, arguments):
        array, start, top, count = arguments
        data = _data(context, builder, signature.args[0], array)
        total = cgutils.alloca_once(builder, _FLOATS)
        builder.store(_constants(0.0), total)
        tops = _splat(builder, top)
        with cgutils.for_range(builder, builder.lshr(count, _I64(4))) as loop:
            at = builder.add(start, builder.shl(loop.index, _I64(4)))
            pointer = _pointer(builder, data, at, _FLOATS)
            values = _share(builder, builder.fsub(builder.load(pointer, align=4), tops))
            builder.store(values, pointer, align=4)
            builder.store(builder.fadd(builder.load(total), values), total)
        return _fold(builder, builder.load(total), builder.fadd)

    return types.float32(x, types.int64, types.float32, types.int64), codegen


@intrinsic
def gate_block(typing_context, x, at):
    """SwiGLU (Shazeer, 2020) of 64 gates from ``x[at]`` and the 64 values after them, float32:
    ``x[at + i] = x[at + i] * sigmoid(x[at + i]) * x[at + 64 + i]``."""
    del typing_context
    if not isinstance(x, types.Array):
        return None

    def codegen(context, builder, signature, arguments):
        array, start = arguments
        data = _data(context, builder, signature.args[0], array)
        one = _constants(1.0)
        for i in range(BLOCK // ROWS):
            pointers = [
                _pointer(builder, data, builder.add(start, _I64(ROWS * i + part)), _FLOATS)
                for part in (0, BLOCK)
            ]
            gates, values = (builder.load(pointer, align=4) for pointer in pointers)
            positive = builder.fcmp_ordered(">", gates, _constants(0.0))
            # sigmoid(g) is 1 / (1 + e^-|g|) on the positive side, e^-|g| / (1 + e^-|g|) beside it.
            e = _exp(builder, builder.select(positive, builder.fneg(gates), gates))
            share = builder.fdiv(builder.select(positive, one, e), builder.fadd(one, e))
            result = builder.fmul(builder.fmul(gates, share), values)
            builder.store(result, pointers[0], align=4)
        return context.get_dummy_value()

    return types.void(x, types.int64), codegen


@intrinsic
def fetch_add(typing_context, array, index, value):
    """Add to ``array[index]`` (int64, flat) atomically; returns what it was."""
    del typing_context
    if not isinstance(array, types.Array):
        return None

    def codegen(context, builder, signature, arguments):
        data = _data(context, builder, signature.args[0], arguments[0])
        return builder.atomic_rmw("add", builder.gep(data, [arguments[1]]), arguments[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def load_shared(typing_context, array, index):
    """Read ``array[index]`` (int64, flat), and see what its writer wrote before it."""
    del typing_context
    if not isinstance(array, types.Array):
        return None

    def codegen(context, builder, signature, arguments):
        data = _data(context, builder, signature.args[0], arguments[0])
        return builder.load_atomic(builder.gep(data, [arguments[1]]), "acquire", align=8)

    return types.int64(array, types.int64), codegen


@intrinsic
def give_way(typing_context):
    """Let another thread of this core run (sched_yield; nothing where there is none)."""
    del typing_context

    def codegen(context, builder, signature, arguments):
        del signature, arguments
        if "windows" not in context.codegen().magic_tuple()[0]:
            kind = ir.FunctionType(_I32, [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen
