"""Operations written twice: a function of NumPy says what is computed, and runs in its place where
``NUMBA_DISABLE_JIT`` is set; a generator beside it writes the same in LLVM's vectors of 16.

Both round every operation alike, so they agree to the last bit (tests/test_simd.py,
tests/test_kernels_simd.py). Here is what the two sides have in common: the decorator that joins
them, and the pieces that several are made of. Those for generators take the builder first; the
name of one for NumPy ends in ``_of``, but for :func:`flat`.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from nczip.coder.plain import JIT_DISABLED

LANES = 16

I8, I16, I32, FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
BYTES, INTS, FLOATS = (ir.VectorType(element, LANES) for element in (I8, I32, FLOAT))
PAIRS = ir.VectorType(I32, 2 * LANES)
ARRAY = object()  #: in the parameters of an operation: an array of whatever type


def target() -> tuple[str, str, list[str]]:
    """What kernels are compiled for: LLVM's triple, the processor, its features (``+avx2`` ...)."""
    triple, processor, features = cpu_target.target_context.codegen().magic_tuple()
    return triple, processor, features.split(",")


class Array:
    """An array in generated code: loads and stores at flat offsets, which are summed."""

    def __init__(self, builder: ir.IRBuilder, data: Any, element: Any) -> None:
        self.builder, self.data, self.element = builder, data, element
        self.align = element.bitwidth // 8

    def at(self, *offsets: Any) -> Any:
        """A pointer to one element."""
        place = offsets[0]
        for offset in offsets[1:]:
            place = self.builder.add(place, offset)
        return self.builder.gep(self.data, [place])

    def load(self, *offsets: Any, kind: Any = FLOATS) -> Any:
        """What lies there, as a ``kind`` that may hold many elements."""
        pointer = self.builder.bitcast(self.at(*offsets), kind.as_pointer())
        return self.builder.load(pointer, align=self.align)

    def store(self, value: Any, *offsets: Any) -> None:
        """Overwrite what lies there with a value of any width."""
        pointer = self.builder.bitcast(self.at(*offsets), value.type.as_pointer())
        self.builder.store(value, pointer, align=self.align)


def operation(
    generate: Callable[..., Any], *parameters: Any, returns: Any = types.void
) -> Callable[[Callable[..., Any]], Any]:
    """Make a function of NumPy an intrinsic that ``generate`` writes.

    Args:
        generate: takes the builder and the arguments, arrays as :class:`Array`; returns the
            result, None for nothing.
        parameters: Numba's type of each argument, or ``ARRAY``.

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
                if parameter is ARRAY
            ):
                return None
            chosen = [
                kind if parameter is ARRAY else parameter
                for kind, parameter in zip(given, parameters, strict=True)
            ]

            def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                values = []
                for kind, value in zip(signature.args, arguments, strict=True):
                    if isinstance(kind, types.Array):
                        data = context.make_array(kind)(context, builder, value=value).data
                        value = Array(builder, data, kind.dtype)  # noqa: PLW2901
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
def each_vector(builder: ir.IRBuilder, count: Any) -> Iterator[Any]:
    """A loop over 0, 16, 32 ... below ``count``."""
    blocks = builder.lshr(count, ir.Constant(count.type, 4))
    with cgutils.for_range(builder, blocks) as loop:
        yield builder.shl(loop.index, ir.Constant(loop.index.type, 4))


def constant(value: float) -> Any:
    """A vector of float32, all the nearest to ``value``."""
    return ir.Constant(FLOATS, [float(np.float32(value))] * LANES)


def integers(value: int) -> Any:
    """A vector of int32, all ``value``."""
    return ir.Constant(INTS, [value] * LANES)


def splat(builder: ir.IRBuilder, value: Any) -> Any:
    """A vector whose lanes all hold ``value``."""
    undefined = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, integers(0))


def shuffle(builder: ir.IRBuilder, value: Any, lanes: range) -> Any:
    """The chosen elements of a vector."""
    undefined = ir.Constant(value.type, ir.Undefined)
    chosen = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
    return builder.shuffle_vector(value, undefined, chosen)


def fold_lanes(builder: ir.IRBuilder, value: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Combine the halves of a vector pairwise until one element is left: 16 -> 8 -> 4 -> 2 -> 1."""
    width = value.type.count
    while width > 1:
        width //= 2
        low, high = range(width), range(width, 2 * width)
        value = combine(shuffle(builder, value, low), shuffle(builder, value, high))
    return builder.extract_element(value, ir.Constant(I32, 0))


def fold_of(values: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """:func:`fold_lanes` of an array of 16."""
    while len(values) > 1:
        values = combine(values[: len(values) // 2], values[len(values) // 2 :])
    return values[0]


def pair_sums(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """The products of two vectors of 32, added by twos: pmaddwd where they come from int16."""
    products = builder.mul(a, b)
    even, odd = (shuffle(builder, products, range(first, 2 * LANES, 2)) for first in (0, 1))
    return builder.add(even, odd)


def larger(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """The larger of each pair, b where neither is."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


_EXP_SERIES = (1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0)


def polynomial(builder: ir.IRBuilder, x: Any, coefficients: Sequence[float]) -> Any:
    """Horner's rule, from the highest coefficient down."""
    y = constant(coefficients[0])
    for coefficient in coefficients[1:]:
        y = builder.fadd(builder.fmul(y, x), constant(coefficient))
    return y


def polynomial_of(x: Any, coefficients: Sequence[float]) -> Any:
    """:func:`polynomial` of float32."""
    y = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        y = y * x + np.float32(coefficient)
    return y


def exp(builder: ir.IRBuilder, xs: Any, sign: float) -> Any:
    """The code of :func:`exp_of`."""
    y = polynomial(builder, builder.fmul(xs, constant(sign / 64.0)), _EXP_SERIES)
    for _ in range(6):
        y = builder.fmul(y, y)
    return y


def exp_of(xs: Any, sign: float) -> Any:
    """e^(sign * x), float32: exp32 of coder/exactmath.py."""
    y = polynomial_of(xs * np.float32(sign / 64.0), _EXP_SERIES)
    for _ in range(6):
        y = y * y
    return y


def prefetch_line(builder: ir.IRBuilder, pointer: Any, locality: int) -> None:
    """Ask for a cache line ahead of its use; a locality of 3 keeps it nearest."""
    pointer = builder.bitcast(pointer, I8.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [pointer, I32(0), I32(locality), I32(1)])


def flat(array: Any, offset: Any, n: Any) -> Any:
    """``n`` elements of an array from ``offset`` on: a view, free of any subclass."""
    whole = array.view(np.ndarray).reshape(-1)
    return whole[int(offset) : int(offset) + int(n)]
