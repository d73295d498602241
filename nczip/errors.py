"""The exceptions of nczip, as users import them."""

from nczip.coder.errors import (
    AbortedError,
    CacheWarning,
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
    "AbortedError",
    "CacheWarning",
    "CorruptError",
    "DownloadError",
    "EngineError",
    "FileSkippedError",
    "FormatError",
    "LimitError",
    "ModelError",
    "NczipError",
    "PrimerError",
    "TruncatedError",
]


class FileSkippedError(NczipError):
    """The command line leaves a file as it is: a warning, with exit code 2, as gzip has it."""


class DownloadError(NczipError):
    """A download fails, or brings something else than what was expected."""
