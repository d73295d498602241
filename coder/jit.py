"""The decorator that every kernel of nczip wears.

Numba keys its on-disk cache by the file that a kernel stands in, not by the files of the kernels
that it calls. A stale kernel would code with other probabilities than its sources say, and that
loses data. So all kernels are cached in a folder named by a digest of all kernel sources.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba.core.registry import CPUDispatcher

from nczip.coder.plain import JIT_DISABLED, plain_kernel

_PACKAGE = Path(__file__).parent.parent


def _kernel_folders() -> list[Path]:
    """Every folder of the package with a module that imports this one, in a fixed order.

    Kernels read constants of their neighbours, so that whole folders count.
    """
    folders = set()
    for folder, _, files in os.walk(_PACKAGE, followlinks=True):
        for name in files:
            path = Path(folder, name)
            if path.suffix == ".py" and b"nczip.coder.jit" in path.read_bytes():
                folders.add(path.parent)
    return sorted(folders)


def _sources_digest() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for folder in _kernel_folders():
        for path in sorted(folder.glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


_CACHE_KEY = _sources_digest()


def kernel_cache_folder() -> Path:
    """Folder of the compiled kernels (``NCZIP_KERNEL_CACHE`` overrides its parent)."""
    parent = os.environ.get("NCZIP_KERNEL_CACHE")
    base = Path(parent) if parent else Path(platformdirs.user_cache_dir("nczip")) / "kernels"
    return base / _CACHE_KEY


class _KernelsOnly(CPUDispatcher):  # type: ignore[misc]
    """A kernel without a way in from Python, into which a call would fall as into a hole."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise TypeError(f"{self.py_func.__qualname__} can only be called by other kernels")


def _for_kernels_only(dispatcher: Any) -> Any:
    dispatcher.__class__ = _KernelsOnly
    return dispatcher


def kernel(
    *, inline: bool = False, spliced: bool = False, internal: bool = False
) -> Callable[[Callable[..., Any]], Any]:
    """``njit(nogil=True)`` without fastmath, cached.

    Kernels allocate nothing, so reference counting is off: a tuple of many arrays is then passed
    for free. What only other kernels call is compiled without a way in from Python, which for such
    tuples takes longer than the rest; it is one of

        inline      LLVM inlines every call; for what is short
        spliced     Numba puts its source in place of every call, before it infers types; for what
                    takes a large tuple and is called in one or two places
        internal    compiled on its own

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
        config: Any = numba.config
        saved = config.CACHE_DIR
        # Numba reads CACHE_DIR once, while decorating: other users of Numba keep theirs.
        config.CACHE_DIR = str(kernel_cache_folder())
        try:
            dispatcher = numba.njit(cache=True, **options)(function)
        finally:
            config.CACHE_DIR = saved
        return _for_kernels_only(dispatcher) if internal else dispatcher

    return decorate
