"""The operations that plain Numba cannot express well: vectorised dot products whose order of
additions is written down, a vectorised update, and a prefetch."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16


def to_panels(levels):
    """Matrices int8[..., rows, columns] as panels int8[..., rows / 16, columns / 2, 16, 2]."""
    *outer, rows, columns = levels.shape
    panels = levels.reshape(*outer, rows // LANES, LANES, columns // 2, 2).swapaxes(-3, -2)
    return np.ascontiguousarray(panels)


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


def _panel_product(panels, vectors):
    """An intrinsic that multiplies ``panels`` panels of a matrix by ``vectors`` vectors.

    A panel is 16 rows of int8, interleaved so that each pair of columns is 32 bytes: row 0's two,
    row 1's two ... One instruction (pmaddwd, vpdpwssd) then multiplies a pair of columns of all
    rows by the same pair of a vector, and no sum has to be taken across a register.
    """

    @intrinsic
    def product(
        typing_context, matrix, start, stride, columns, x, x_start, x_stride,
        row_scales, row, scales, vector, out, out_start, out_stride,
    ):  # fmt: skip
        """``out[t, 16 p + i] = float(sum) * (row_scales[row + 16 p + i] * scales[vector + t])``,
        the sum over c < columns of ``matrix[p, c, i] * x[t, c]``, int32.

        Panel p starts at ``start + p * stride`` of ``matrix``, int8; vector t at
        ``x_start + t * x_stride`` of ``x``, int16; its results at ``out_start + t * out_stride``
        of ``out``, float32. ``columns`` is even.
        """
        del typing_context
        arrays = (matrix, x, row_scales, scales, out)
        if not all(isinstance(array, types.Array) for array in arrays):
            return None
        n = types.int64
        signature = types.void(
            matrix, n, n, n, x, n, n, row_scales, n, scales, n, out, n, n
        )  # fmt: skip
        return signature, _panel_code(panels, vectors)

    return product


def _panel_code(panels, vectors):
    """The code generator of :func:`_panel_product`."""
    i8, i16, i32 = (ir.IntType(bits) for bits in (8, 16, 32))
    pairs = ir.VectorType(i32, 2 * LANES)
    sums = ir.VectorType(i32, LANES)
    floats = ir.VectorType(ir.FloatType(), LANES)

    def codegen(context, builder, signature, arguments):
        matrix_type, x_type, rows_type, scales_type, out_type = (
            signature.args[i] for i in (0, 4, 7, 9, 11)
        )
        (matrix, start, stride, columns, x, x_start, x_stride,
         row_scales, row, scales, vector, out, out_start, out_stride) = arguments  # fmt: skip
        word = columns.type

        def moved(at, step, times):
            return builder.add(at, builder.mul(step, ir.Constant(word, times)))

        def pair_sums(a, b):
            products = builder.mul(a, b)
            undefined = ir.Constant(pairs, ir.Undefined)
            even, odd = (
                builder.shuffle_vector(
                    products, undefined, ir.Constant(sums, list(range(first, 2 * LANES, 2)))
                )
                for first in (0, 1)
            )
            return builder.add(even, odd)

        totals = [
            [
                cgutils.alloca_once_value(builder, ir.Constant(sums, [0] * LANES))
                for _ in range(vectors)
            ]
            for _ in range(panels)
        ]
        data = context.make_array(x_type)(context, builder, value=x).data
        with cgutils.for_range(builder, builder.lshr(columns, ir.Constant(word, 1))) as loop:
            at = builder.shl(loop.index, ir.Constant(word, 5))
            short = ir.VectorType(i8, 2 * LANES)
            weights = []
            for p in range(panels):
                where = builder.add(moved(start, stride, p), at)
                pointer = _vector_pointer(context, builder, matrix_type, matrix, where, short)
                weights.append(builder.sext(builder.load(pointer, align=1), pairs))
            column = builder.shl(loop.index, ir.Constant(word, 1))
            for t in range(vectors):
                where = builder.add(moved(x_start, x_stride, t), column)
                pointer = builder.bitcast(builder.gep(data, [where]), i32.as_pointer())
                both = _splat(builder, builder.load(pointer, align=2))
                values = builder.bitcast(both, ir.VectorType(i16, 2 * LANES))
                values = builder.sext(values, pairs)
                for p in range(panels):
                    total = totals[p][t]
                    builder.store(
                        builder.add(builder.load(total), pair_sums(weights[p], values)), total
                    )
        scale_data = context.make_array(scales_type)(context, builder, value=scales).data
        for p in range(panels):
            offset = ir.Constant(word, LANES * p)
            pointer = _vector_pointer(
                context, builder, rows_type, row_scales, builder.add(row, offset), floats
            )
            row_factors = builder.load(pointer, align=4)
            for t in range(vectors):
                where = builder.add(vector, ir.Constant(word, t))
                scale = builder.load(builder.gep(scale_data, [where]))
                factors = builder.fmul(row_factors, _splat(builder, scale))
                result = builder.fmul(builder.sitofp(builder.load(totals[p][t]), floats), factors)
                where = builder.add(moved(out_start, out_stride, t), offset)
                pointer = _vector_pointer(context, builder, out_type, out, where, floats)
                builder.store(result, pointer, align=4)
        return context.get_dummy_value()

    return codegen


# Some eight sums at a time hide the latency of an addition and fit the registers.
product_1x8 = _panel_product(1, 8)
product_2x4 = _panel_product(2, 4)
product_4x2 = _panel_product(4, 2)
product_4x1 = _panel_product(4, 1)
PANEL_GROUP = 4  # the number of panels is a multiple of this


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


def _logistic(builder, xs):
    """1 / (1 + e^-x) for x in [-16, 16], float32, to about 1e-5.

    e^-x is Taylor's polynomial of e^(-x / 64), squared six times.
    """

    def constant(value):
        return ir.Constant(xs.type, [float(np.float32(value))] * LANES)

    r = builder.fmul(xs, constant(-1.0 / 64.0))
    y = constant(1.0 / 720.0)
    for coefficient in (1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0):
        y = builder.fadd(builder.fmul(y, r), constant(coefficient))
    for _ in range(6):
        y = builder.fmul(y, y)
    return builder.fdiv(constant(1.0), builder.fadd(constant(1.0), y))


@intrinsic
def logistic(typing_context, x, out):
    """``out[i] = 1 / (1 + e^-x[i])`` for i < 16 and x in [-16, 16], float32, to about 1e-5."""
    del typing_context
    if not (isinstance(x, types.Array) and isinstance(out, types.Array)):
        return None

    def codegen(context, builder, signature, arguments):
        x_type, out_type = signature.args
        x_array, out_array = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)
        zero = ir.Constant(ir.IntType(64), 0)
        xs = builder.load(_vector_pointer(context, builder, x_type, x_array, zero, vector), align=4)
        out_pointer = _vector_pointer(context, builder, out_type, out_array, zero, vector)
        builder.store(_logistic(builder, xs), out_pointer, align=4)
        return context.get_dummy_value()

    return types.void(x, out), codegen


@intrinsic
def gated_update(typing_context, gates, inputs, input_start, states, state_start, copy, n):
    """A step of a gated recurrent unit of n units, a multiple of 16; float32.

    ``gates`` and ``inputs`` (from ``input_start``) hold n values each for reset, update and
    candidate: r = logistic(gates + inputs), z likewise, c = tanh(inputs + r * gates), and the
    state h (n values of ``states`` from ``state_start``) becomes c + z * (h - c), also in ``copy``.
    Sums before a logistic are clamped to +-16, before tanh to +-8.
    """
    del typing_context
    arrays = (gates, inputs, states, copy)
    if not all(isinstance(array, types.Array) for array in arrays):
        return None

    def codegen(context, builder, signature, arguments):
        gates_type, inputs_type, _, states_type, _, copy_type, _ = signature.args
        gates_array, inputs_array, input_at, states_array, state_at, copy_array, count = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)

        def constant(value):
            return ir.Constant(vector, [value] * LANES)

        def clamped_logistic(xs):
            for order, bound in ((">", constant(16.0)), ("<", constant(-16.0))):
                xs = builder.select(builder.fcmp_ordered(order, xs, bound), bound, xs)
            return _logistic(builder, xs)

        def pointer(array_type, array, at):
            return _vector_pointer(context, builder, array_type, array, at, vector)

        with cgutils.for_range(builder, builder.lshr(count, ir.Constant(count.type, 4))) as loop:
            i = builder.shl(loop.index, ir.Constant(loop.index.type, 4))
            gate, given = [], []
            for part in range(3):
                at = builder.add(i, builder.mul(count, ir.Constant(count.type, part)))
                gate.append(builder.load(pointer(gates_type, gates_array, at), align=4))
                at = builder.add(at, input_at)
                given.append(builder.load(pointer(inputs_type, inputs_array, at), align=4))
            reset = clamped_logistic(builder.fadd(gate[0], given[0]))
            update = clamped_logistic(builder.fadd(gate[1], given[1]))
            total = builder.fadd(given[2], builder.fmul(reset, gate[2]))
            half = clamped_logistic(builder.fadd(total, total))
            candidate = builder.fsub(builder.fadd(half, half), constant(1.0))
            where = pointer(states_type, states_array, builder.add(state_at, i))
            old = builder.load(where, align=4)
            step = builder.fmul(update, builder.fsub(old, candidate))
            state = builder.fadd(candidate, step)
            builder.store(state, where, align=4)
            builder.store(state, pointer(copy_type, copy_array, i), align=4)
        return context.get_dummy_value()

    signature = types.void(gates, inputs, types.int64, states, types.int64, copy, types.int64)
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
    """Ask for the cache line of ``array[index]`` (taken as flat) ahead of its use."""
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
