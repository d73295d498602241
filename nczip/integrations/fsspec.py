"""fsspec: ``compression="infer"`` knows ``.ncz`` once this is imported.

So do pandas, dask and xarray where they open files through fsspec.
"""

from typing import Any, BinaryIO

from fsspec.compression import register_compression

from nczip.file import NczipFile


def open_for_fsspec(file: BinaryIO, mode: str = "rb", **options: Any) -> NczipFile:
    """A compressed file over one of fsspec's, as its registry wants it."""
    if not mode.startswith("r"):
        options.setdefault("preset", "fast")
    return NczipFile(file, mode, **options)


register_compression("ncz", open_for_fsspec, ["ncz"], force=True)
