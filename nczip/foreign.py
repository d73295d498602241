"""Formats of other tools, told by their first bytes: who mistakes one for ours hears which."""

from nczip.errors import FormatError, NczipError
from nczip.stream import is_stream_start

#: Bytes that tell all of them.
LONGEST = 8
_NOT_OURS = (
    (b"\x1f\x8b", "gzip", "gzip -d"),
    (b"\x1f\x9d", "compress", "gzip -d"),
    (b"\xfd7zXZ\0", "xz", "xz -d"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
    (b"BZh", "bzip2", "bzip2 -d"),
    (b"PK\3\4", "zip", "unzip"),
    (b"PK\5\6", "zip", "unzip"),
    (b"7z\xbc\xaf\x27\x1c", "7z", "7z x"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
    (b"LZIP", "lzip", "lzip -d"),
)


def refuse_foreign(head: bytes) -> None:
    """Raise FormatError where a file that starts with ``head`` is another tool's.

    Args:
        head: the first :data:`LONGEST` bytes, or all where there are fewer.
    """
    error = foreign_error(head)
    if error is not None:
        raise error


def foreign_error(head: bytes) -> NczipError | None:
    """What is to be said of a file of another tool; None where it is not known to be one."""
    if is_stream_start(head):
        return None
    for magic, name, opener in _NOT_OURS:
        if head.startswith(magic):
            return FormatError(f"is {name}, not nczip: '{opener}' opens it")
    return None
