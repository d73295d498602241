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


def kernel(*, inline: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """``njit(nogil=True)`` without fastmath, cached; ``inline`` has LLVM inline every call.

    Inlined helpers are compiled into their callers and are not cached on their own. Kernels
    allocate nothing, so reference counting is off: a tuple of many arrays is then passed for free.
    Where ``NUMBA_DISABLE_JIT`` is set, kernels are plain Python (coder/plain.py).
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}

    def decorate(function: Callable[..., Any]) -> Any:
        if JIT_DISABLED:
            return plain_kernel(function)
        if inline:
            return numba.njit(forceinline=True, **options)(function)
        config: Any = numba.config
        saved = config.CACHE_DIR
        # Numba reads CACHE_DIR once, while decorating: other users of Numba keep theirs.
        config.CACHE_DIR = str(kernel_cache_folder())
        try:
            return numba.njit(cache=True, **options)(function)
        finally:
            config.CACHE_DIR = saved

    return decorate
