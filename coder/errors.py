"""The exceptions of nczip.

They live in the lowest layer because every layer above raises them; users import them from
:mod:`nczip`.
"""


class NczipError(Exception):
    """Base of every error that nczip raises on purpose."""


class FormatError(NczipError):
    """The input is not an nczip stream, or is one that this version cannot read."""


class CorruptError(FormatError):
    """The input is an nczip stream, but damaged: a check or a bound does not hold."""


class TruncatedError(CorruptError, EOFError):
    """The input ends before the stream does."""


class LimitError(NczipError):
    """Decoding would need more memory than the caller allows."""


class ModelError(NczipError):
    """A model is missing, unreadable, or not the one that a file was made with."""


class PrimerError(NczipError):
    """The primer that a file was made with is not here, or cannot be rebuilt."""


class EngineError(ModelError):
    """An engine is missing or does not reproduce the logits that a file was made with."""


class AbortedError(NczipError):
    """Coding was stopped before its end, because the process is to end."""


class CacheWarning(UserWarning):
    """A cache folder cannot be used; all works without it, but slower."""
