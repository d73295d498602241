"""The operations that plain Numba cannot express well: vectorised dot products whose order of
additions is written down, a vectorised update, and a prefetch."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16


def _vector_pointer(context, builder, array_type, array, offset, vector):
    data = context.make_array(array_type)(context, builder, value=array).data
    pointer = builder.gep(data, [offset])
    return builder.bitcast(pointer, vector.as_pointer())


def _splat(builder, value):
    """A vector whose lanes all hold ``value``."""
    vector = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    for lane in range(LANES):
        vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), lane))
    return vector


def _sum_lanes(builder, value, add):
    """Add the halves of a vector pairwise until one element is left: 16 -> 8 -> 4 -> 2 -> 1."""
    width = value.type.count
    while width > 1:
        width //= 2
        undefined = ir.Constant(value.type, ir.Undefined)
        halves = [
            builder.shuffle_vector(
                value, undefined, ir.Constant(ir.VectorType(ir.IntType(32), width), list(part))
            )
            for part in (range(width), range(width, 2 * width))
        ]
        value = add(halves[0], halves[1])
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


@intrinsic
def dot(typing_context, x, x_offset, w, w_offset, n):
    """Sum of ``x[x_offset + i] * w[w_offset + i]`` for i < n, float32; n a multiple of 16.

    Arrays of several dimensions are taken as flat (C order).

    Partial sum j adds the products of i = j (mod 16) in rising order; then halves are added
    pairwise (16 -> 8 -> 4 -> 2 -> 1). No product is fused with its addition, so the result has
    the same bits whatever vector width the machine has.
    """
    del typing_context
    if not (isinstance(x, types.Array) and isinstance(w, types.Array)):
        return None

    def codegen(context, builder, signature, arguments):
        x_type, _, w_type, _, _ = signature.args
        x_array, x_start, w_array, w_start, count = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)
        zero = ir.Constant(vector, [0.0] * LANES)
        total = cgutils.alloca_once_value(builder, zero)
        blocks = builder.lshr(count, ir.Constant(count.type, 4))
        with cgutils.for_range(builder, blocks) as loop:
            i = builder.shl(loop.index, ir.Constant(loop.index.type, 4))
            xs = builder.load(
                _vector_pointer(context, builder, x_type, x_array, builder.add(x_start, i), vector),
                align=4,
            )
            at = builder.add(w_start, i)
            ws = builder.load(
                _vector_pointer(context, builder, w_type, w_array, at, vector), align=4
            )
            builder.store(builder.fadd(builder.load(total), builder.fmul(xs, ws)), total)
        return _sum_lanes(builder, builder.load(total), builder.fadd)

    return types.float32(x, types.int64, w, types.int64, types.int64), codegen


@intrinsic
def dot_int16(typing_context, x, x_offset, w, w_offset, n):
    """Sum of ``x[x_offset + i] * w[w_offset + i]`` for i < n, x int16, w int16 or int8,
    with an int32 sum.

    n is a multiple of 16. Pairs of neighbouring products are added first, the shape that x86 has
    an instruction for (pmaddwd, vpdpwssd); in integers the order does not matter.
    """
    del typing_context
    if not (isinstance(x, types.Array) and isinstance(w, types.Array)):
        return None

    def codegen(context, builder, signature, arguments):
        x_type, _, w_type, _, _ = signature.args
        x_array, x_start, w_array, w_start, count = arguments
        i32 = ir.IntType(32)
        wide = ir.VectorType(i32, 2 * LANES)
        half = ir.VectorType(i32, LANES)
        total = cgutils.alloca_once_value(builder, ir.Constant(half, [0] * LANES))

        def load(array_type, array, start, target, i):
            vector = ir.VectorType(ir.IntType(array_type.dtype.bitwidth), target.count)
            pointer = _vector_pointer(
                context, builder, array_type, array, builder.add(start, i), vector
            )
            return builder.sext(builder.load(pointer, align=1), target)

        blocks = builder.lshr(count, ir.Constant(count.type, 5))
        with cgutils.for_range(builder, blocks) as loop:
            i = builder.shl(loop.index, ir.Constant(loop.index.type, 5))
            xs = load(x_type, x_array, x_start, wide, i)
            ws = load(w_type, w_array, w_start, wide, i)
            products = builder.mul(xs, ws)
            undefined = ir.Constant(wide, ir.Undefined)
            even, odd = (
                builder.shuffle_vector(
                    products, undefined, ir.Constant(half, list(range(first, 2 * LANES, 2)))
                )
                for first in (0, 1)
            )
            pairs = builder.add(even, odd)
            builder.store(builder.add(builder.load(total), pairs), total)
        rest = builder.and_(count, ir.Constant(count.type, 16))
        with builder.if_then(builder.icmp_signed("!=", rest, ir.Constant(count.type, 0))):
            i = builder.sub(count, ir.Constant(count.type, 16))
            xs = load(x_type, x_array, x_start, half, i)
            ws = load(w_type, w_array, w_start, half, i)
            builder.store(builder.add(builder.load(total), builder.mul(xs, ws)), total)
        return _sum_lanes(builder, builder.load(total), builder.add)

    return types.int32(x, types.int64, w, types.int64, types.int64), codegen


@intrinsic
def axpy(typing_context, scale, x, w, offset, n):
    """``w[offset + i] += scale * x[i]`` for i < n, float32; n a multiple of 16.

    Plain Numba guards every ``w[offset + i]`` against a negative index, which keeps LLVM from
    vectorising the loop.
    """
    del typing_context
    if not (isinstance(x, types.Array) and isinstance(w, types.Array)):
        return None

    def codegen(context, builder, signature, arguments):
        _, x_type, w_type, _, _ = signature.args
        factor, x_array, w_array, w_offset, count = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)
        factors = _splat(builder, factor)
        blocks = builder.lshr(count, ir.Constant(count.type, 4))
        with cgutils.for_range(builder, blocks) as loop:
            i = builder.shl(loop.index, ir.Constant(loop.index.type, 4))
            xs = builder.load(
                _vector_pointer(context, builder, x_type, x_array, i, vector), align=4
            )
            at = _vector_pointer(
                context, builder, w_type, w_array, builder.add(w_offset, i), vector
            )
            ws = builder.load(at, align=4)
            builder.store(builder.fadd(ws, builder.fmul(factors, xs)), at, align=4)
        return context.get_dummy_value()

    return types.void(types.float32, x, w, types.int64, types.int64), codegen


@intrinsic
def multiply(typing_context, x, factors, n):
    """``x[i] *= factors[i]`` for i < n, float32; n a multiple of 16."""
    del typing_context
    if not (isinstance(x, types.Array) and isinstance(factors, types.Array)):
        return None

    def codegen(context, builder, signature, arguments):
        x_type, factors_type, _ = signature.args
        x_array, factor_array, count = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)
        with cgutils.for_range(builder, builder.lshr(count, ir.Constant(count.type, 4))) as loop:
            i = builder.shl(loop.index, ir.Constant(loop.index.type, 4))
            at = _vector_pointer(context, builder, x_type, x_array, i, vector)
            fs = builder.load(
                _vector_pointer(context, builder, factors_type, factor_array, i, vector), align=4
            )
            builder.store(builder.fmul(builder.load(at, align=4), fs), at, align=4)
        return context.get_dummy_value()

    return types.void(x, factors, types.int64), codegen


@intrinsic
def logistic(typing_context, x, out):
    """``out[i] = 1 / (1 + e^-x[i])`` for i < 16 and x in [-16, 16], float32, to about 1e-5.

    e^-x is Taylor's polynomial of e^(-x / 64), squared six times.
    """
    del typing_context
    if not (isinstance(x, types.Array) and isinstance(out, types.Array)):
        return None

    def codegen(context, builder, signature, arguments):
        x_type, out_type = signature.args
        x_array, out_array = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)
        zero = ir.Constant(ir.IntType(64), 0)

        def constant(value):
            return ir.Constant(vector, [value] * LANES)

        xs = builder.load(_vector_pointer(context, builder, x_type, x_array, zero, vector), align=4)
        r = builder.fmul(xs, constant(-1.0 / 64.0))
        y = constant(float(np.float32(1.0 / 720.0)))
        for coefficient in (1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0):
            y = builder.fadd(builder.fmul(y, r), constant(float(np.float32(coefficient))))
        for _ in range(6):
            y = builder.fmul(y, y)
        y = builder.fdiv(constant(1.0), builder.fadd(constant(1.0), y))
        builder.store(
            y, _vector_pointer(context, builder, out_type, out_array, zero, vector), align=4
        )
        return context.get_dummy_value()

    return types.void(x, out), codegen


@intrinsic
def weighted_sum(typing_context, factors, count, rows, row_offset, stride, out, out_offset):
    """``out[out_offset + i] = sum of factors[j] * rows[row_offset + j * stride + i]``, i < 16.

    float32 sums over j < count in rising order, of int8 rows converted exactly.
    """
    del typing_context
    arrays = (factors, rows, out)
    if not all(isinstance(array, types.Array) for array in arrays):
        return None

    def codegen(context, builder, signature, arguments):
        factors_type, _, rows_type, _, _, out_type, _ = signature.args
        factor_array, n, row_array, start, step, out_array, out_start = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)
        short = ir.VectorType(ir.IntType(8), LANES)
        total = cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * LANES))
        data = context.make_array(factors_type)(context, builder, value=factor_array).data
        with cgutils.for_range(builder, n) as loop:
            factor = _splat(builder, builder.load(builder.gep(data, [loop.index])))
            at = builder.add(start, builder.mul(loop.index, step))
            row = builder.load(
                _vector_pointer(context, builder, rows_type, row_array, at, short), align=1
            )
            product = builder.fmul(factor, builder.sitofp(row, vector))
            builder.store(builder.fadd(builder.load(total), product), total)
        pointer = _vector_pointer(context, builder, out_type, out_array, out_start, vector)
        builder.store(builder.load(total), pointer, align=4)
        return context.get_dummy_value()

    signature = types.void(factors, types.int64, rows, types.int64, types.int64, out, types.int64)
    return signature, codegen


@intrinsic
def largest_magnitude(typing_context, x, offset, n):
    """The largest ``abs(x[offset + i])`` for i < n, float32; n a multiple of 16; no NaN."""
    del typing_context
    if not isinstance(x, types.Array):
        return None

    def codegen(context, builder, signature, arguments):
        x_type, _, _ = signature.args
        x_array, start, count = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)
        top = cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * LANES))

        def larger(a, b):
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        with cgutils.for_range(builder, builder.lshr(count, ir.Constant(count.type, 4))) as loop:
            at = builder.add(start, builder.shl(loop.index, ir.Constant(loop.index.type, 4)))
            values = builder.load(
                _vector_pointer(context, builder, x_type, x_array, at, vector), align=4
            )
            values = larger(values, builder.fneg(values))
            builder.store(larger(values, builder.load(top)), top)
        return _sum_lanes(builder, builder.load(top), larger)

    return types.float32(x, types.int64, types.int64), codegen


@intrinsic
def round_levels(typing_context, x, x_offset, factor, limit, target, t_offset, n):
    """``target[t_offset + i] = floor(x[x_offset + i] * factor + 1/2)`` as int16 or int8 for i < n.

    n is a multiple of 16; the products lie in [-limit, limit] (int32). Adding limit + 1.5 first
    makes the sum positive, for truncation rounds towards zero.
    """
    del typing_context
    if not (isinstance(x, types.Array) and isinstance(target, types.Array)):
        return None

    def codegen(context, builder, signature, arguments):
        x_type, _, _, _, target_type, _, _ = signature.args
        x_array, start, scale, bound, target_array, target_start, count = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)
        wide = ir.VectorType(ir.IntType(32), LANES)
        short = ir.VectorType(ir.IntType(target_type.dtype.bitwidth), LANES)
        scales = _splat(builder, scale)
        shift = builder.add(bound, ir.Constant(bound.type, 1))
        offset = builder.fadd(
            builder.sitofp(shift, ir.FloatType()), ir.Constant(ir.FloatType(), 0.5)
        )
        offsets, shifts = _splat(builder, offset), _splat(builder, shift)
        with cgutils.for_range(builder, builder.lshr(count, ir.Constant(count.type, 4))) as loop:
            i = builder.shl(loop.index, ir.Constant(loop.index.type, 4))
            values = builder.load(
                _vector_pointer(context, builder, x_type, x_array, builder.add(start, i), vector),
                align=4,
            )
            moved = builder.fadd(builder.fmul(values, scales), offsets)
            levels = builder.sub(builder.fptosi(moved, wide), shifts)
            pointer = _vector_pointer(
                context, builder, target_type, target_array, builder.add(target_start, i), short
            )
            builder.store(builder.trunc(levels, short), pointer, align=1)
        return context.get_dummy_value()

    signature = types.void(
        x, types.int64, types.float32, types.int32, target, types.int64, types.int64
    )
    return signature, codegen


@intrinsic
def prefetch(typing_context, array, index):
    """Ask for the cache line of ``array[index]`` (1-d) ahead of its use."""
    del typing_context
    if not isinstance(array, types.Array):
        return None

    def codegen(context, builder, signature, arguments):
        array_type, _ = signature.args
        ary = context.make_array(array_type)(context, builder, value=arguments[0])
        element = builder.gep(ary.data, [arguments[1]])
        pointer = builder.bitcast(element, ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen
