"""The operations that plain Numba cannot express well: vectorised dot products whose order of
additions is written down, a vectorised update, and a prefetch.

Each is written twice. The function says in NumPy what the operation computes, and runs in its place
where ``NUMBA_DISABLE_JIT`` is set; the generator beside it writes the same in LLVM's vectors of 16.
Both round every operation alike, so they agree to the last bit (tests/test_simd.py).

Arrays of several dimensions are taken as flat (C order), offsets count elements.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nczip.coder.plain import JIT_DISABLED

LANES = 16

_I16, _I32, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()
_FLOATS = ir.VectorType(_FLOAT, LANES)
_INTS = ir.VectorType(_I32, LANES)
_PAIRS = ir.VectorType(_I32, 2 * LANES)
_ARRAY = object()  # in the parameters of an operation: an array of whatever type


def to_panels(levels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Matrices int8[..., rows, columns] as panels int8[..., rows / 16, columns / 2, 16, 2]."""
    *outer, rows, columns = levels.shape
    panels = levels.reshape(*outer, rows // LANES, LANES, columns // 2, 2).swapaxes(-3, -2)
    return np.ascontiguousarray(panels)


class _Array:
    """An array in generated code: loads and stores at flat offsets, which are summed."""

    def __init__(self, builder: ir.IRBuilder, data: Any, element_bytes: int) -> None:
        self.builder, self.data, self.align = builder, data, element_bytes

    def at(self, *offsets: Any) -> Any:
        """A pointer to one element."""
        place = offsets[0]
        for offset in offsets[1:]:
            place = self.builder.add(place, offset)
        return self.builder.gep(self.data, [place])

    def load(self, *offsets: Any, kind: Any = _FLOATS) -> Any:
        """What lies there, as a ``kind`` that may hold many elements."""
        pointer = self.builder.bitcast(self.at(*offsets), kind.as_pointer())
        return self.builder.load(pointer, align=self.align)

    def store(self, value: Any, *offsets: Any) -> None:
        """Overwrite what lies there with a value of any width."""
        pointer = self.builder.bitcast(self.at(*offsets), value.type.as_pointer())
        self.builder.store(value, pointer, align=self.align)


def _operation(
    generate: Callable[..., Any], *parameters: Any, returns: Any = types.void
) -> Callable[[Callable[..., Any]], Any]:
    """Make a function of NumPy an intrinsic that ``generate`` writes.

    Args:
        generate: takes the builder and the arguments, arrays as :class:`_Array`; returns the
            result, None for nothing.
        parameters: Numba's type of each argument, or ``_ARRAY``.

    The function itself is the intrinsic's ``py_func``, as that of a compiled kernel is.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        if JIT_DISABLED:
            return function

        def typing(typing_context: Any, *given: Any) -> Any:
            del typing_context
            if not all(
                isinstance(kind, types.Array)
                for kind, parameter in zip(given, parameters, strict=True)
                if parameter is _ARRAY
            ):
                return None
            chosen = [
                kind if parameter is _ARRAY else parameter
                for kind, parameter in zip(given, parameters, strict=True)
            ]

            def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                values = []
                for kind, value in zip(signature.args, arguments, strict=True):
                    if isinstance(kind, types.Array):
                        data = context.make_array(kind)(context, builder, value=value).data
                        value = _Array(builder, data, kind.dtype.bitwidth // 8)  # noqa: PLW2901
                    values.append(value)
                result = generate(builder, *values)
                return context.get_dummy_value() if result is None else result

            return returns(*chosen), codegen

        context = inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        own = inspect.signature(function).parameters.values()
        typing.__signature__ = inspect.Signature([context, *own])  # type: ignore[attr-defined]
        typing.__name__, typing.__doc__ = function.__name__, function.__doc__
        made: Any = intrinsic(typing)
        made.py_func = function
        return made

    return decorate


@contextmanager
def _each_vector(builder: ir.IRBuilder, count: Any) -> Iterator[Any]:
    """A loop over 0, 16, 32 ... below ``count``."""
    blocks = builder.lshr(count, ir.Constant(count.type, 4))
    with cgutils.for_range(builder, blocks) as loop:
        yield builder.shl(loop.index, ir.Constant(loop.index.type, 4))


def _constant(value: float) -> Any:
    return ir.Constant(_FLOATS, [float(np.float32(value))] * LANES)


def _splat(builder: ir.IRBuilder, value: Any) -> Any:
    """A vector whose lanes all hold ``value``."""
    vector = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    for lane in range(LANES):
        vector = builder.insert_element(vector, value, ir.Constant(_I32, lane))
    return vector


def _shuffle(builder: ir.IRBuilder, value: Any, lanes: range) -> Any:
    undefined = ir.Constant(value.type, ir.Undefined)
    chosen = ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes))
    return builder.shuffle_vector(value, undefined, chosen)


def _fold_lanes(builder: ir.IRBuilder, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Combine the halves of a vector pairwise until one element is left: 16 -> 8 -> 4 -> 2 -> 1."""
    width = value.type.count
    while width > 1:
        width //= 2
        low, high = range(width), range(width, 2 * width)
        value = combine(_shuffle(builder, value, low), _shuffle(builder, value, high))
    return builder.extract_element(value, ir.Constant(_I32, 0))


def _larger(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _flat(array: Any, offset: Any, n: Any) -> Any:
    """``n`` elements of an array from ``offset`` on: a view, free of any subclass."""
    whole = array.view(np.ndarray).reshape(-1)
    return whole[int(offset) : int(offset) + int(n)]


def _dot_code(builder, x, x_offset, w, w_offset, n):
    total = cgutils.alloca_once_value(builder, _constant(0.0))
    with _each_vector(builder, n) as i:
        product = builder.fmul(x.load(x_offset, i), w.load(w_offset, i))
        builder.store(builder.fadd(builder.load(total), product), total)
    return _fold_lanes(builder, builder.load(total), builder.fadd)


@_operation(_dot_code, _ARRAY, types.int64, _ARRAY, types.int64, types.int64, returns=types.float32)
def dot(x, x_offset, w, w_offset, n):
    """Sum of ``x[x_offset + i] * w[w_offset + i]`` for i < n, float32; n a multiple of 16.

    Partial sum j adds the products of i = j (mod 16) in rising order; then halves are added
    pairwise (16 -> 8 -> 4 -> 2 -> 1). No product is fused with its addition, so the result has
    the same bits whatever vector width the machine has.
    """
    sums = np.zeros(LANES, np.float32)
    for row in (_flat(x, x_offset, n) * _flat(w, w_offset, n)).reshape(-1, LANES):
        sums += row
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    return sums[0]


def _axpy_code(builder, scale, x, w, offset, n):
    scales = _splat(builder, scale)
    with _each_vector(builder, n) as i:
        w.store(builder.fadd(w.load(offset, i), builder.fmul(scales, x.load(i))), offset, i)


@_operation(_axpy_code, types.float32, _ARRAY, _ARRAY, types.int64, types.int64)
def axpy(scale, x, w, offset, n):
    """``w[offset + i] += scale * x[i]`` for i < n, float32; n a multiple of 16.

    Plain Numba guards every ``w[offset + i]`` against a negative index, which keeps LLVM from
    vectorising the loop.
    """
    _flat(w, offset, n)[:] += np.float32(scale) * _flat(x, 0, n)


def _multiply_code(builder, x, factors, n):
    with _each_vector(builder, n) as i:
        x.store(builder.fmul(x.load(i), factors.load(i)), i)


@_operation(_multiply_code, _ARRAY, _ARRAY, types.int64)
def multiply(x, factors, n):
    """``x[i] *= factors[i]`` for i < n, float32; n a multiple of 16."""
    _flat(x, 0, n)[:] *= _flat(factors, 0, n)


def _logistic_vector(builder, xs):
    """The code of :func:`_logistic_of`."""
    r = builder.fmul(xs, _constant(-1.0 / 64.0))
    y = _constant(_EXP_SERIES[0])
    for coefficient in _EXP_SERIES[1:]:
        y = builder.fadd(builder.fmul(y, r), _constant(coefficient))
    for _ in range(6):
        y = builder.fmul(y, y)
    return builder.fdiv(_constant(1.0), builder.fadd(_constant(1.0), y))


_EXP_SERIES = (1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0)


def _logistic_of(xs):
    """1 / (1 + e^-x) for x in [-16, 16], float32, to about 1e-5.

    e^-x is Taylor's polynomial of e^(-x / 64), squared six times.
    """
    r = xs * np.float32(-1.0 / 64.0)
    y = np.full_like(r, _EXP_SERIES[0])
    for coefficient in _EXP_SERIES[1:]:
        y = y * r + np.float32(coefficient)
    for _ in range(6):
        y = y * y
    return np.float32(1.0) / (np.float32(1.0) + y)


def _logistic_code(builder, x, out):
    start = ir.Constant(ir.IntType(64), 0)
    out.store(_logistic_vector(builder, x.load(start)), start)


@_operation(_logistic_code, _ARRAY, _ARRAY)
def logistic(x, out):
    """``out[i] = 1 / (1 + e^-x[i])`` for i < 16 and x in [-16, 16], float32, to about 1e-5."""
    _flat(out, 0, LANES)[:] = _logistic_of(_flat(x, 0, LANES))


def _gated_update_code(builder, gates, inputs, input_start, states, state_start, copy, n):
    def clamped_logistic(xs):
        for order, bound in ((">", _constant(16.0)), ("<", _constant(-16.0))):
            xs = builder.select(builder.fcmp_ordered(order, xs, bound), bound, xs)
        return _logistic_vector(builder, xs)

    with _each_vector(builder, n) as i:
        gate, given = [], []
        for part in range(3):
            at = builder.add(i, builder.mul(n, ir.Constant(n.type, part)))
            gate.append(gates.load(at))
            given.append(inputs.load(at, input_start))
        reset = clamped_logistic(builder.fadd(gate[0], given[0]))
        update = clamped_logistic(builder.fadd(gate[1], given[1]))
        total = builder.fadd(given[2], builder.fmul(reset, gate[2]))
        half = clamped_logistic(builder.fadd(total, total))
        candidate = builder.fsub(builder.fadd(half, half), _constant(1.0))
        step = builder.fmul(update, builder.fsub(states.load(state_start, i), candidate))
        state = builder.fadd(candidate, step)
        states.store(state, state_start, i)
        copy.store(state, i)


@_operation(
    _gated_update_code,
    _ARRAY, _ARRAY, types.int64, _ARRAY, types.int64, _ARRAY, types.int64,
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

    gate = _flat(gates, 0, 3 * n).reshape(3, -1)
    given = _flat(inputs, input_start, 3 * n).reshape(3, -1)
    reset, update = clamped_logistic(gate[0] + given[0]), clamped_logistic(gate[1] + given[1])
    total = given[2] + reset * gate[2]
    half = clamped_logistic(total + total)
    candidate = half + half - np.float32(1.0)
    states = _flat(states, state_start, n)
    states[:] = candidate + update * (states - candidate)
    _flat(copy, 0, n)[:] = states


def _largest_magnitude_code(builder, x, offset, n):
    top = cgutils.alloca_once_value(builder, _constant(0.0))
    with _each_vector(builder, n) as i:
        values = x.load(offset, i)
        values = _larger(builder, values, builder.fneg(values))
        builder.store(_larger(builder, values, builder.load(top)), top)
    return _fold_lanes(builder, builder.load(top), lambda a, b: _larger(builder, a, b))


@_operation(
    _largest_magnitude_code, _ARRAY, types.int64, types.int64, returns=types.float32
)  # fmt: skip
def largest_magnitude(x, offset, n):
    """The largest ``abs(x[offset + i])`` for i < n, float32; n a multiple of 16; no NaN."""
    return np.abs(_flat(x, offset, n)).max(initial=np.float32(0.0))


def _round_levels_code(builder, x, x_offset, factor, limit, target, t_offset, n):
    short = ir.VectorType(target.data.type.pointee, LANES)
    factors = _splat(builder, factor)
    shift = builder.add(limit, ir.Constant(limit.type, 1))
    offset = builder.fadd(builder.sitofp(shift, _FLOAT), ir.Constant(_FLOAT, 0.5))
    offsets, shifts = _splat(builder, offset), _splat(builder, shift)
    with _each_vector(builder, n) as i:
        moved = builder.fadd(builder.fmul(x.load(x_offset, i), factors), offsets)
        levels = builder.sub(builder.fptosi(moved, _INTS), shifts)
        target.store(builder.trunc(levels, short), t_offset, i)


@_operation(
    _round_levels_code,
    _ARRAY, types.int64, types.float32, types.int32, _ARRAY, types.int64, types.int64,
)  # fmt: skip
def round_levels(x, x_offset, factor, limit, target, t_offset, n):
    """``target[t_offset + i] = floor(x[x_offset + i] * factor + 1/2)`` as int16 or int8 for i < n.

    n is a multiple of 16; the products lie in [-limit, limit] (int32). Adding limit + 1.5 first
    makes the sum positive, for truncation rounds towards zero.
    """
    shift = np.int32(limit) + np.int32(1)
    moved = _flat(x, x_offset, n) * np.float32(factor) + (np.float32(shift) + np.float32(0.5))
    _flat(target, t_offset, n)[:] = moved.astype(np.int32) - shift


def _panel_product(panels: int, vectors: int) -> Any:
    """An operation that multiplies ``panels`` panels of a matrix by ``vectors`` vectors.

    A panel is 16 rows of int8, interleaved so that each pair of columns is 32 bytes: row 0's two,
    row 1's two ... One instruction (pmaddwd, vpdpwssd) then multiplies a pair of columns of all
    rows by the same pair of a vector, and no sum has to be taken across a register.
    """
    n = types.int64

    @_operation(
        _panel_code(panels, vectors),
        _ARRAY, n, n, n, _ARRAY, n, n, _ARRAY, n, _ARRAY, n, _ARRAY, n, n,
    )  # fmt: skip
    def product(
        matrix, start, stride, columns, x, x_start, x_stride,
        row_scales, row, scales, vector, out, out_start, out_stride,
    ):  # fmt: skip
        """``out[t, 16 p + i] = float(sum) * (row_scales[row + 16 p + i] * scales[vector + t])``,
        the sum over c < columns of ``matrix[p, c, i] * x[t, c]``, int32.

        Panel p starts at ``start + p * stride`` of ``matrix``, int8; vector t at
        ``x_start + t * x_stride`` of ``x``, int16; its results at ``out_start + t * out_stride``
        of ``out``, float32. ``columns`` is even.
        """
        for p in range(panels):
            panel = _flat(matrix, start + p * stride, columns * LANES).astype(np.int32)
            row_factors = _flat(row_scales, row + p * LANES, LANES)
            for t in range(vectors):
                values = _flat(x, x_start + t * x_stride, columns).astype(np.int32)
                products = panel.reshape(-1, LANES, 2) * values.reshape(-1, 1, 2)
                sums = products.sum(axis=(0, 2), dtype=np.int32).astype(np.float32)
                factors = row_factors * _flat(scales, vector + t, 1)
                _flat(out, out_start + t * out_stride + p * LANES, LANES)[:] = sums * factors

    return product


def _panel_code(panels: int, vectors: int) -> Callable[..., None]:
    """The generator of :func:`_panel_product`."""
    octets = ir.VectorType(ir.IntType(8), 2 * LANES)

    def pair_sums(builder, a, b):
        products = builder.mul(a, b)
        even, odd = (_shuffle(builder, products, range(first, 2 * LANES, 2)) for first in (0, 1))
        return builder.add(even, odd)

    def generate(
        builder, matrix, start, stride, columns, x, x_start, x_stride,
        row_scales, row, scales, vector, out, out_start, out_stride,
    ):  # fmt: skip
        def number(value):
            return ir.Constant(columns.type, value)

        def times(step, count):
            return builder.mul(step, number(count))

        zero = ir.Constant(_INTS, [0] * LANES)
        totals = {
            (p, t): cgutils.alloca_once_value(builder, zero)
            for p in range(panels)
            for t in range(vectors)
        }
        with cgutils.for_range(builder, builder.lshr(columns, number(1))) as loop:
            cell = builder.shl(loop.index, number(5))
            column = builder.shl(loop.index, number(1))
            weights = [
                builder.sext(matrix.load(start, times(stride, p), cell, kind=octets), _PAIRS)
                for p in range(panels)
            ]
            for t in range(vectors):
                pair = _splat(builder, x.load(x_start, times(x_stride, t), column, kind=_I32))
                pair = builder.bitcast(pair, ir.VectorType(_I16, 2 * LANES))
                values = builder.sext(pair, _PAIRS)
                for p in range(panels):
                    total = totals[p, t]
                    more = pair_sums(builder, weights[p], values)
                    builder.store(builder.add(builder.load(total), more), total)
        for p in range(panels):
            rows = number(LANES * p)
            row_factors = row_scales.load(row, rows)
            for t in range(vectors):
                scale = _splat(builder, scales.load(vector, number(t), kind=_FLOAT))
                factors = builder.fmul(row_factors, scale)
                sums = builder.sitofp(builder.load(totals[p, t]), _FLOATS)
                out.store(builder.fmul(sums, factors), out_start, times(out_stride, t), rows)

    return generate


# Some eight sums at a time hide the latency of an addition and fit the registers.
product_1x8 = _panel_product(1, 8)
product_2x4 = _panel_product(2, 4)
product_4x2 = _panel_product(4, 2)
product_4x1 = _panel_product(4, 1)
PANEL_GROUP = 4  # the number of panels is a multiple of this


def _prefetch_code(builder, array, index):
    pointer = builder.bitcast(array.at(index), ir.IntType(8).as_pointer())
    function_type = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
    builder.call(function, [pointer, _I32(0), _I32(3), _I32(1)])


@_operation(_prefetch_code, _ARRAY, types.int64)
def prefetch(array, index):
    """Ask for the cache line of ``array[index]`` ahead of its use; nothing else."""
