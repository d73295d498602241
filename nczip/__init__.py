"""nczip: a lossless compressor driven by language models.

The interface follows :mod:`lzma`: :func:`compress`, :func:`decompress`, :func:`open`,
:class:`NczipFile`, :class:`Compressor`, :class:`Decompressor`; from :mod:`compression.zstd` come
flush modes, pledged sizes and :func:`get_frame_info`. :func:`evaluate` tells what bytes and tokens
cost. Every error raised on purpose derives from :class:`NczipError`.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Loaded on first use: NumPy and Numba take longer to import than `nczip --help` may last.
_HOMES = {
    "compress": "nczip.file",
    "decompress": "nczip.file",
    "open": "nczip.file",
    "NczipFile": "nczip.file",
    "Compressor": "nczip.stream",
    "Decompressor": "nczip.stream",
    "Evaluation": "nczip.evaluation",
    "evaluate": "nczip.evaluation",
    "FrameInfo": "nczip.frameinfo",
    "get_frame_info": "nczip.frameinfo",
    "NczipError": "nczip.errors",
    "FormatError": "nczip.errors",
    "CorruptError": "nczip.errors",
    "TruncatedError": "nczip.errors",
    "LimitError": "nczip.errors",
    "ModelError": "nczip.errors",
    "EngineError": "nczip.errors",
    "PrimerError": "nczip.errors",
}

__all__ = [
    "Compressor",
    "CorruptError",
    "Decompressor",
    "EngineError",
    "Evaluation",
    "FormatError",
    "FrameInfo",
    "LimitError",
    "ModelError",
    "NczipError",
    "NczipFile",
    "PrimerError",
    "TruncatedError",
    "__version__",
    "compress",
    "decompress",
    "evaluate",
    "get_frame_info",
    "open",
]

if TYPE_CHECKING:
    from nczip.errors import (
        CorruptError,
        EngineError,
        FormatError,
        LimitError,
        ModelError,
        NczipError,
        PrimerError,
        TruncatedError,
    )
    from nczip.evaluation import Evaluation, evaluate
    from nczip.file import NczipFile, compress, decompress, open
    from nczip.frameinfo import FrameInfo, get_frame_info
    from nczip.stream import Compressor, Decompressor


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nczip' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
