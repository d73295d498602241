"""Compiled kernels on disk: verified, healing, and in a folder that is the user's alone.

Numba's own cache trusts what it finds: an index that lost its bytes in a power loss stops every
later run, a flipped bit is loaded as machine code, and where its folder cannot be made it falls
back to ``__pycache__``, where a kernel goes stale when one that it calls is edited. Here every
compiled signature is a file of its own, a digest in front; what does not hold is compiled again.
"""

import functools
import hashlib
import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba.core import compiler, serialize
from numba.core.caching import _Cache

from nczip.coder.errors import CacheWarning
from nczip.coder.folders import is_own_file, private_folder

_DIGEST_BYTES = 32
_SUFFIX = ".kernel"
_PACKAGE = Path(__file__).parent.parent


def _kernel_folders() -> list[Path]:
    """Every folder of the package with a module of kernels, in a fixed order.

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
    """Folder of the compiled kernels (``NCZIP_KERNEL_CACHE`` overrides its parent).

    It is named by a digest of all kernel sources: a stale kernel would code with other
    probabilities than its sources say, and that loses data.
    """
    parent = os.environ.get("NCZIP_KERNEL_CACHE")
    base = Path(parent) if parent else Path(platformdirs.user_cache_dir("nczip")) / "kernels"
    return base / _CACHE_KEY


def has_kernels() -> bool:
    """Whether some kernels have been compiled before."""
    return any(kernel_cache_folder().glob(f"*{_SUFFIX}"))


class KernelCache(_Cache):  # type: ignore[misc]
    """What a Numba dispatcher asks for its compiled signatures.

    Every entry is a file: SHA-256 of the rest | pickle of (key, reduced compile result). The key
    holds signature, CPU and byte code, and is compared, for the file's name has but a digest of it.
    """

    def __init__(self, function: Callable[..., Any], variant: str = "") -> None:
        code = function.__code__
        module = Path(code.co_filename).stem
        self._name = (
            f"{module}.{function.__name__}-{code.co_firstlineno}.{sys.implementation.cache_tag}"
        )
        self._code = hashlib.sha256(code.co_code + variant.encode()).hexdigest()
        self._enabled = True

    @property
    def cache_path(self) -> str:
        return str(kernel_cache_folder())

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        """Forget all signatures."""
        folder = _folder()
        for path in [] if folder is None else folder.glob(f"{self._name}.*{_SUFFIX}"):
            path.unlink(missing_ok=True)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled signature; None where it must be compiled.

        Numba's own refreshes the context first, for types of extensions. Kernels have none, and
        that takes longer than the rest of a start; the compiler does it where it must compile.
        """
        folder = _folder()
        if folder is None or not self._enabled:
            return None
        key = self._key(sig, target_context.codegen())
        try:
            kept, reduced = pickle.loads(_read(self._path(folder, key)))
            if kept != key:
                return None
            return compiler.CompileResult._rebuild(target_context, *reduced)  # type: ignore[no-untyped-call]
        except Exception:
            # Missing, damaged, a stranger's, or from another build of Numba or LLVM: whatever it
            # is, the kernel is compiled again and its entry replaced.
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled signature; where that fails, say so once."""
        folder = _folder()
        if folder is None or not self._enabled:
            return
        if data.lifted or data.library.has_dynamic_globals:
            return
        key = self._key(sig, data.codegen)
        packed = serialize.dumps((key, data._reduce()))  # type: ignore[no-untyped-call]
        try:
            _write(self._path(folder, key), hashlib.sha256(packed).digest() + packed)
        except OSError as error:
            _warn(f"{folder}: {error.strerror or error}")

    def _key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return sig, codegen.magic_tuple(), self._code

    def _path(self, folder: Path, key: tuple[Any, ...]) -> Path:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return folder / f"{self._name}.{digest}{_SUFFIX}"


def _read(path: Path) -> bytes:
    """The bytes of an entry, which are what they were when they were written.

    Raises:
        OSError: there is none, or it is not the user's own.
        ValueError: it is damaged.
    """
    with path.open("rb") as file:
        if not is_own_file(os.fstat(file.fileno())):
            raise PermissionError(f"{path} is not the user's own")
        entry = file.read()
    digest, packed = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
    if hashlib.sha256(packed).digest() != digest:
        raise ValueError(f"{path} is damaged")
    return packed


def _write(path: Path, entry: bytes) -> None:
    """Put an entry in its place in one step."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(entry)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _folder() -> Path | None:
    """The folder of entries, made where it is missing; None, said once, where it cannot be used."""
    return _checked_folder(kernel_cache_folder())


@functools.cache
def _checked_folder(path: Path) -> Path | None:
    try:
        return private_folder(path)
    except OSError as error:
        _warn(str(error) if error.filename is None else f"{error.filename}: {error.strerror}")
        return None


@functools.cache
def _warn(reason: str) -> None:
    warnings.warn(
        f"compiled kernels cannot be kept ({reason}), so that every run compiles them anew, some "
        "20 seconds: name a folder of yours in NCZIP_KERNEL_CACHE",
        CacheWarning,
        stacklevel=2,
    )
