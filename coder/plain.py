"""Kernels as plain Python, where ``NUMBA_DISABLE_JIT`` is set: for a debugger, and to print.

They compute what the compiled ones do, for a compiled kernel widens integers of less than 64 bits
before it computes with them, and NumPy does not: the sum of two uint8 would wrap. So arrays of such
integers give Python's own, which never do, and store what fits. What a kernel returns has 64 bits,
as compiled. Beside this it is on kernels to name the type of a literal that meets a float32.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

_config: Any = numba.config
JIT_DISABLED = bool(_config.DISABLE_JIT)

_state = threading.local()  # .inside: whether this thread is in a kernel


class NarrowArray(np.ndarray[Any, np.dtype[Any]]):  # NDArray is no class from NumPy 2.5 on
    """An array of integers of less than 64 bits whose elements are Python's."""

    def __getitem__(self, index: Any) -> Any:
        value = super().__getitem__(index)
        return int(value) if isinstance(value, np.integer) else value

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, np.int64(value) if isinstance(value, int) else value)


def _with_wide_elements(value: Any) -> Any:
    """The same memory, in arrays and tuples of them, read as compiled kernels read it."""
    if isinstance(value, np.ndarray):
        narrow = value.dtype.kind in "iu" and value.dtype.itemsize < np.int64().itemsize
        return value.view(NarrowArray) if narrow else value
    if isinstance(value, tuple):
        return _rebuilt(value, _with_wide_elements)
    return _wide(value)


def _rebuilt(values: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """A tuple, named or not, of the changed items."""
    items = map(change, values)
    return type(values)(*items) if hasattr(values, "_fields") else tuple(items)


def _wide(value: Any) -> Any:
    """A number as a compiled kernel would return it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return np.int64(value)
    if isinstance(value, float):
        return np.float64(value)
    if isinstance(value, tuple):
        return _rebuilt(value, _wide)
    return value


def plain_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with the integers of a compiled kernel; like one it has a ``py_func``."""
    prepared = False

    def prepare() -> None:
        """Tables of the module are read as arguments are; they may stand below the kernel."""
        for name in function.__code__.co_names:
            table = function.__globals__.get(name)
            if isinstance(table, np.ndarray):
                function.__globals__[name] = _with_wide_elements(table)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        nonlocal prepared
        if not prepared:
            prepare()
            prepared = True
        if getattr(_state, "inside", False):
            return _wide(function(*arguments))
        _state.inside = True
        try:
            with np.errstate(over="ignore"):  # hashes wrap
                return _wide(function(*map(_with_wide_elements, arguments)))
        finally:
            _state.inside = False

    call.py_func = function  # type: ignore[attr-defined]
    return call
