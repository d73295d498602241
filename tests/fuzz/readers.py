"""Every way of reading a stream, held to what may come out of it."""

import io
from dataclasses import dataclass
from random import Random
from typing import Any

from nczip import Decompressor, NczipFile
from nczip.errors import FormatError, NczipError, TruncatedError
from nczip.file import decompress_chunks
from nczip.salvage import Hole, Salvager
from nczip.stream import is_stream_start

from .seeds import model_file

#: Bytes that decoding may need, so that a block has less than a megabyte and takes seconds at most.
MEMORY_LIMIT = 4 << 20
_PIECES = [0, 1, 1, 2, 3, 7, 30, 1000]
_LENGTHS = [-1, 0, 1, 2, 5, 17, 1000]


class WrongBytesError(Exception):
    """A reader returned what was never compressed."""


class HangError(Exception):
    """A reader neither goes on nor ends."""


@dataclass(frozen=True)
class Reading:
    """What a reader returned, and the error that it ended with."""

    content: bytes
    error: NczipError | None = None


def options() -> dict[str, Any]:
    """For every reader."""
    return {"memory_limit": MEMORY_LIMIT, "model": str(model_file())}


def read_whole(data: bytes) -> Reading:
    """All at once, as :func:`nczip.decompress` does."""
    out = b""
    try:
        for chunk in decompress_chunks(io.BytesIO(data), **options()):
            out += chunk
    except NczipError as error:
        return Reading(out, error)
    return Reading(out)


def read_pieces(data: bytes, rng: Random) -> Reading:
    """In odd pieces, with room for few bytes, after each member a new Decompressor."""
    out, at = b"", 0
    decoder = Decompressor(**options())
    try:
        for _ in range(40 * (len(data) + 1000)):
            if decoder.eof:
                data, at = decoder.unused_data + data[at:], 0
                if not data:
                    return Reading(out)
                if not is_stream_start(data):
                    raise FormatError("the member is followed by something that is not nczip")
                decoder = Decompressor(**options())
            piece = b""
            if decoder.needs_input or rng.random() < 0.2:
                if decoder.needs_input and at == len(data):
                    decoder.finish()
                    return Reading(out)
                piece = data[at : at + rng.choice(_PIECES)]
                at += len(piece)
            most = rng.choice(_LENGTHS)
            got = decoder.decompress(piece, most)
            if 0 <= most < len(got):
                raise WrongBytesError(f"{len(got)} bytes where at most {most} were asked for")
            out += got
    except NczipError as error:
        return Reading(out, error)
    raise HangError("a stream read in pieces does not end")


def read_seeking(data: bytes, rng: Random, content: bytes, exact: bool) -> None:
    """Through NczipFile, from here and there.

    Args:
        content: what the stream holds.
        exact: whether it is whole, so that what is read must be from where it was sought.
    """
    with NczipFile(io.BytesIO(data), **options()) as file:
        for _ in range(rng.randint(1, 6)):
            at = file.seek(rng.randint(0, len(content) + 3))
            if rng.random() < 0.2:
                at = file.seek(-rng.randint(0, len(content)), io.SEEK_END)
            size = rng.choice([-1, 0, 1, 5, 60])
            got = file.readline(size) if rng.random() < 0.3 else file.read(size)
            if got not in content:
                raise WrongBytesError(f"{got!r:.80} at {at} is nowhere in the content")
            wanted = content[at:] if size < 0 else content[at : at + size]
            if exact and not (wanted.startswith(got) and bool(got) == bool(wanted)):
                raise WrongBytesError(f"{got!r:.80} at {at} instead of {wanted!r:.80}")


def read_salvaging(data: bytes, blocks: set[bytes]) -> None:
    """What can be saved; every piece of it must be a whole block."""
    for piece in Salvager(data, **options()):
        if not isinstance(piece, Hole) and piece not in blocks:
            raise WrongBytesError(f"{piece!r:.80} was saved, but is no block")


def is_made_of(content: bytes, parts: set[bytes], *, whole: bool) -> bool:
    """Whether ``content`` is some of ``parts``, one after the other.

    Args:
        whole: the last one, too, must be complete.
    """
    places, reached = [0], {0}
    while places:
        at = places.pop()
        rest = content[at:]
        if not rest or (not whole and any(part.startswith(rest) for part in parts)):
            return True
        for part in parts:
            end = at + len(part)
            if part and end not in reached and rest.startswith(part):
                reached.add(end)
                places.append(end)
    return False


def same_error(one: NczipError | None, other: NczipError | None) -> bool:
    """Whether two readers agree; where input is missing, one may say more of it than the other."""
    if isinstance(one, TruncatedError) or isinstance(other, TruncatedError):
        return one is not None and other is not None
    return type(one) is type(other)
