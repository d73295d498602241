"""smart_open: files that end in ``.ncz``, once this is imported.

``smart_open.open(address, "wb", compression_kwargs={"preset": "default"})`` takes another preset.
"""

from typing import Any, BinaryIO

from smart_open import register_compressor

from nczip.file import NczipFile


def open_for_smart_open(file: BinaryIO, mode: str, **options: Any) -> NczipFile:
    """A compressed file over one of smart_open's."""
    if not mode.startswith("r"):
        options.setdefault("preset", "fast")
    return NczipFile(file, mode, **options)


register_compressor(".ncz", open_for_smart_open)
