"""The decorator that every kernel of nczip wears."""

from collections.abc import Callable
from typing import Any

import numba

from nczip.coder.kernelcache import KernelCache


def kernel(*, inline: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """``njit(nogil=True)`` without fastmath, cached; ``inline`` has LLVM inline every call.

    Inlined helpers are compiled into their callers and are not cached on their own. Kernels
    allocate nothing, so reference counting is off: passing a tuple of 30 arrays is then free.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}

    def decorate(function: Callable[..., Any]) -> Any:
        if inline:
            return numba.njit(forceinline=True, **options)(function)
        dispatcher = numba.njit(**options)(function)
        # Where the compiler is switched off (NUMBA_DISABLE_JIT), njit returns the function.
        if dispatcher is not function:
            dispatcher._cache = KernelCache(function)
        return dispatcher

    return decorate
