"""The exceptions of nczip, as users import them."""

from nczip.coder.errors import (
    CorruptError,
    EngineError,
    FormatError,
    LimitError,
    ModelError,
    NczipError,
    PrimerError,
    TruncatedError,
)

__all__ = [
    "CorruptError",
    "EngineError",
    "FormatError",
    "LimitError",
    "ModelError",
    "NczipError",
    "PrimerError",
    "TruncatedError",
]
