"""The two operations that plain Numba cannot express well: a vectorised dot product whose order
of additions is written down, and a prefetch."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16


def _vector_pointer(context, builder, array_type, array, offset, vector):
    data = context.make_array(array_type)(context, builder, value=array).data
    pointer = builder.gep(data, [offset])
    return builder.bitcast(pointer, vector.as_pointer())


@intrinsic
def dot(typing_context, x, w, offset, n):
    """Sum of ``x[i] * w[offset + i]`` for i < n, float32; n a multiple of 16.

    Partial sum j adds the products of i = j (mod 16) in rising order; then halves are added
    pairwise (16 -> 8 -> 4 -> 2 -> 1). No product is fused with its addition, so the result has
    the same bits whatever vector width the machine has.
    """
    del typing_context
    if not (isinstance(x, types.Array) and isinstance(w, types.Array)):
        return None

    def codegen(context, builder, signature, arguments):
        x_type, w_type, _, _ = signature.args
        x_array, w_array, w_offset, count = arguments
        vector = ir.VectorType(ir.FloatType(), LANES)
        zero = ir.Constant(vector, [0.0] * LANES)
        total = cgutils.alloca_once_value(builder, zero)
        blocks = builder.lshr(count, ir.Constant(count.type, 4))
        with cgutils.for_range(builder, blocks) as loop:
            i = builder.shl(loop.index, ir.Constant(loop.index.type, 4))
            xs = builder.load(
                _vector_pointer(context, builder, x_type, x_array, i, vector), align=4
            )
            at = builder.add(w_offset, i)
            ws = builder.load(
                _vector_pointer(context, builder, w_type, w_array, at, vector), align=4
            )
            builder.store(builder.fadd(builder.load(total), builder.fmul(xs, ws)), total)
        value = builder.load(total)
        width = LANES
        while width > 1:
            width //= 2
            undefined = ir.Constant(value.type, ir.Undefined)
            halves = [
                builder.shuffle_vector(
                    value,
                    undefined,
                    ir.Constant(ir.VectorType(ir.IntType(32), width), list(part)),
                )
                for part in (range(width), range(width, 2 * width))
            ]
            value = builder.fadd(halves[0], halves[1])
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return types.float32(x, w, types.int64, types.int64), codegen


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
        factors = ir.Constant(vector, ir.Undefined)
        for lane in range(LANES):
            factors = builder.insert_element(factors, factor, ir.Constant(ir.IntType(32), lane))
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
def prefetch(typing_context, array, index):
    """Ask for the cache line of ``array[index, 0]`` (2-d, C order) ahead of its use."""
    del typing_context
    if not isinstance(array, types.Array):
        return None

    def codegen(context, builder, signature, arguments):
        array_type, _ = signature.args
        ary = context.make_array(array_type)(context, builder, value=arguments[0])
        row = builder.mul(arguments[1], builder.extract_value(ary.shape, 1))
        pointer = builder.bitcast(builder.gep(ary.data, [row]), ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen
