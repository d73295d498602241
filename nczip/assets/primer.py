"""The primer that ships with nczip, and the cache of the table that it makes.

Beside this file lie the primer's text and the learnt states that go with it; the manifest says
which XXH3-64 the primed table must have. Reading the text takes half a minute of CPU, so the table
is kept in the user's cache folder (``NCZIP_PRIMER_CACHE`` overrides it) and mapped into memory
from there: processes share it. The first start of a day verifies it, and so does one that finds it
written anew: hashing half a gigabyte takes as long as compressing 100 kB. Nobody else may write to
that folder: what is verified once must stay as it is.
"""

import bz2
import contextlib
import functools
import mmap
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import numpy as np
import numpy.typing as npt
import platformdirs
import xxhash

from nczip.assets import manifest
from nczip.assets.learnt import ADVICE, learnt_for
from nczip.coder.errors import CacheWarning, PrimerError
from nczip.coder.folders import is_own_file, private_folder
from nczip.formats.container import check32
from nczip.options import Announce
from nczip.predictors import primer
from nczip.predictors.primer import Primer
from nczip.predictors.table import LINE_BYTES, Table, view_table

# What headers identify the primer by, in each layout: these, and the check of the primed table.
_IDENTITY = {
    "full": ("learnt", "learnt-tokens"),
    "light": ("learnt-light",),
    "medium": ("learnt-medium",),
}
_VERIFIED, _DAY = ".verified", 86400.0
_loading = threading.Lock()
_tables: dict[str, Table] = {}


def _nothing() -> None:
    pass


def cache_folder() -> Path:
    """Where the primed table is kept."""
    named = os.environ.get("NCZIP_PRIMER_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("nczip")) / "primer"


def table_path() -> Path:
    """The cached table; it need not exist."""
    return cache_folder() / f"{_table_check()}.table"


@functools.cache
def identify(layout: str = "full") -> int:
    """The 32 bits by which headers name this primer, for a layout of the predictors.

    Raises:
        PrimerError: its files are missing.
    """
    states = (manifest.read(name, PrimerError, ADVICE) for name in _IDENTITY[layout])
    return check32(_table_check().encode() + b"".join(states))


def load_primer(
    wanted: int,
    fingerprint: bytes | None,
    layout: str = "full",
    meanwhile: Callable[[], object] = _nothing,
    announce: Announce | None = None,
) -> Primer:
    """The primer; where its table is not in the cache it is made, which takes half a minute.

    Args:
        wanted: the primer's 32 bits.
        fingerprint: of the model that text is coded under, see :func:`learnt_for`.
        layout: of the predictors.
        meanwhile: called while the table is made: kernels of the primer run without the GIL, so
            that this is the time to compile others.
        announce: told before the table is made.

    Raises:
        PrimerError: ``wanted`` is another one, its files are missing, or this machine makes
            another table of them.
    """
    brought = identify(layout)
    if wanted != brought:
        raise PrimerError(
            f"the file needs the primer {wanted:08x}, but this nczip brings {brought:08x}: "
            "decompress with the version of nczip that made the file"
        )
    with _loading:
        if _table_check() not in _tables:
            _tables[_table_check()] = view_table(_table(meanwhile, announce))
    return Primer(
        _tables[_table_check()], learnt_for(None, layout), learnt_for(fingerprint, layout)
    )


def _table_check() -> str:
    """XXH3-64 of the primed table, 16 hexadecimal digits."""
    return manifest.manifest(manifest.FOLDER)["primed-table"].xxh3


def _table(meanwhile: Callable[[], object], announce: Announce | None) -> npt.NDArray[np.uint8]:
    """The primed table, from the cache where possible."""
    made = cached = None
    try:
        path = private_folder(cache_folder()) / table_path().name
        cached = _map(path)
        if cached is not None:
            return cached
        # Whoever comes second waits and finds the table.
        with filelock.FileLock(path.with_suffix(".lock")):
            cached = _map(path)
            if cached is None:
                made = _make_table(meanwhile, announce)
                _save(made, path)
                cached = _map(path)
    except OSError as error:
        warnings.warn(
            f"the primed table cannot be kept ({error}), so that every run reads the primer anew, "
            "some 20 seconds: name a folder of yours in NCZIP_PRIMER_CACHE",
            CacheWarning,
            stacklevel=2,
        )
    if cached is not None:
        return cached
    return _make_table(meanwhile, announce) if made is None else made


def _make_table(
    meanwhile: Callable[[], object], announce: Announce | None
) -> npt.NDArray[np.uint8]:
    """Let the contexts read the primer's text.

    Raises:
        PrimerError: the result is not what it should be.
    """
    if announce is not None:
        announce("first run: reading the primer, some 20 seconds, once")
    text = bz2.decompress(manifest.read("primer-text", PrimerError, ADVICE))
    primer.compile_kernels()
    with ThreadPoolExecutor(1) as executor:
        # One core compiles.
        threads = max(1, (os.cpu_count() or 1) - 1)
        making = executor.submit(primer.prime_table, text, threads)
        meanwhile()
        table = making.result()
    if xxhash.xxh3_64_hexdigest(table.data) != _table_check():
        raise PrimerError(
            "reading the primer gave other tables than it should: please report this, and "
            "compress with --no-primer meanwhile"
        )
    return table


def _save(table: npt.NDArray[np.uint8], path: Path) -> None:
    """Write a table beside its place, then move it there in one step."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(table.data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _map(path: Path) -> npt.NDArray[np.uint8] | None:
    """A cached table; None where there is none, or a damaged one."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not is_own_file(status):
                return None
            if status.st_size != LINE_BYTES << primer.TABLE_BITS:
                return None
            # Private pages: nobody writes to them, but kernels take writable arrays only.
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError:
        return None
    if not _was_verified(path, status):
        if xxhash.xxh3_64_hexdigest(memory) != _table_check():
            return None
        _note_verified(path, status)
    return np.frombuffer(memory, np.uint8)


def _stamp(status: os.stat_result) -> str:
    """What changes when a file is written anew."""
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _was_verified(path: Path, status: os.stat_result) -> bool:
    """Whether the table has been found whole within the last day, and not written since."""
    try:
        with path.with_suffix(_VERIFIED).open() as file:
            noted = os.fstat(file.fileno())
            age = time.time() - noted.st_mtime
            return is_own_file(noted) and 0 <= age < _DAY and file.read() == _stamp(status)
    except (OSError, ValueError):
        return False


def _note_verified(path: Path, status: os.stat_result) -> None:
    """Spare the starts of the next day the hash; where that cannot be noted they pay for it."""
    with contextlib.suppress(OSError):
        path.with_suffix(_VERIFIED).write_text(_stamp(status))
