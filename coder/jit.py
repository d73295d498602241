"""The decorator that every kernel of nczip wears."""

from collections.abc import Callable
from typing import Any

import numba
from numba.core.registry import CPUDispatcher

from nczip.coder.kernelcache import KernelCache
from nczip.coder.plain import JIT_DISABLED, plain_kernel


class _KernelsOnly(CPUDispatcher):  # type: ignore[misc]
    """A kernel without a way in from Python, into which a call would fall as into a hole."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise TypeError(f"{self.py_func.__qualname__} can only be called by other kernels")


def _for_kernels_only(dispatcher: Any) -> Any:
    dispatcher.__class__ = _KernelsOnly
    return dispatcher


def kernel(
    *, inline: bool = False, spliced: bool = False, internal: bool = False, variant: str = ""
) -> Callable[[Callable[..., Any]], Any]:
    """``njit(nogil=True)`` without fastmath, cached.

    Kernels allocate nothing, so reference counting is off: a tuple of many arrays is then passed
    for free. What only other kernels call is compiled without a way in from Python, which for such
    tuples takes longer than the rest; it is one of

        inline      LLVM inlines every call; for what is short
        spliced     Numba puts its source in place of every call, before it infers types; for what
                    takes a large tuple and is called in one or two places
        internal    compiled on its own

    ``variant`` tells kernels apart that a function makes of the same source.

    Where ``NUMBA_DISABLE_JIT`` is set, kernels are plain Python (coder/plain.py).
    """
    options: dict[str, Any] = {
        "nogil": True, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True,
        "no_cpython_wrapper": inline or spliced or internal,
    }  # fmt: skip

    def decorate(function: Callable[..., Any]) -> Any:
        if JIT_DISABLED:
            return plain_kernel(function)
        if inline or spliced:
            how = {"forceinline": True} if inline else {"inline": "always"}
            return _for_kernels_only(numba.njit(**how, **options)(function))
        dispatcher = numba.njit(**options)(function)
        dispatcher._cache = KernelCache(function, variant)
        return _for_kernels_only(dispatcher) if internal else dispatcher

    return decorate
