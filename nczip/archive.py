"""Random access: blocks of a seekable file, found by its indexes and decoded alone."""

import io
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from nczip.coder.errors import CorruptError, FormatError
from nczip.formats.container import (
    END_MAGIC,
    MAGIC,
    MAX_HEADER_FIELDS,
    Header,
    Member,
    parse_header,
    parse_index,
    read_block_header,
    scan_members,
)
from nczip.options import DecompressOptions
from nczip.stream import Decompressor
from nczip.workers import OrderedPool

_INDEX_END = 4 + len(END_MAGIC)  # the index' size, which does not count itself, and the end mark
_LONGEST_BLOCK_HEADER = 64
_LONGEST_HEADER = MAX_HEADER_FIELDS + 64


class SeekableFile(Protocol):
    """What is needed of a file."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


@dataclass(frozen=True)
class Place:
    """Where a block lies."""

    raw_start: int  #: in the content of all members
    raw_size: int
    offset: int  #: of its frame in the file
    frame_size: int
    member: int
    number: int  #: in the member


def find_members(file: SeekableFile) -> list[Member]:
    """The members of a file, by the indexes at their ends; nothing else of it is read.

    Where skippable frames or damage are in the way, the frames are stepped over from the start.

    Raises:
        FormatError, CorruptError, TruncatedError: as the bytes deserve.
    """
    try:
        return _members_from_end(file)
    except FormatError:
        return scan_members(file)  # type: ignore[arg-type]


def _members_from_end(file: SeekableFile) -> list[Member]:
    members: list[Member] = []
    end = file.seek(0, io.SEEK_END)
    while end > 0 or not members:
        member = _last_member(file, end)
        members.append(member)
        end = member.start
    return members[::-1]


def _last_member(file: SeekableFile, end: int) -> Member:
    """The member that ends at ``end``."""
    tail = _read_at(file, end - _INDEX_END, _INDEX_END)
    if tail[4:] != END_MAGIC:
        raise CorruptError("there is no index at the end")
    index_size = struct.unpack("<I", tail[:4])[0] + _INDEX_END
    index, size = parse_index(_read_at(file, end - index_size, index_size))
    if size != index_size:
        raise CorruptError("the index is damaged")
    first_frame = end - index_size - index.frames_size
    before = min(first_frame, _LONGEST_HEADER)
    head = _read_at(file, first_frame - before, before)
    at = len(head)
    while (at := head.rfind(MAGIC, 0, at)) >= 0:
        try:
            header, header_size = parse_header(head[at:])
        except FormatError:
            continue
        if header_size == len(head) - at:
            return Member(
                header,
                header_size,
                index,
                first_frame - header_size,
                end - (first_frame - header_size),
            )
    raise CorruptError("there is no header before the blocks")


def _read_at(file: SeekableFile, offset: int, size: int) -> bytes:
    if offset < 0:
        raise CorruptError("the index names more than there is before it")
    file.seek(offset)
    pieces = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def decode_frame(header: bytes, frame: bytes, number: int | None = None, **options: Any) -> bytes:
    """The verified raw bytes of one block.

    Args:
        header: the bytes of its member's header.
        frame: its whole frame.
        number: which of the member's blocks it must be; None for whichever it is.
        options: as for :class:`Decompressor`.

    Raises:
        NczipError: as :meth:`Decompressor.decompress`.
    """
    decoder = Decompressor(**options | {"threads": 1, "detail": None})
    decoder.decompress(header)
    return decoder.decode_alone(frame, number)


class Archive:
    """The blocks of a seekable file, each decoded when it is asked for.

    Args:
        file: a seekable binary file.
        options: as for :class:`Decompressor`.

    Raises:
        FormatError, CorruptError, TruncatedError: the file has no usable indexes.
    """

    def __init__(self, file: SeekableFile, **options: Any) -> None:
        self._file = file
        self._options = options
        self._headers: list[bytes] = []
        self.places: list[Place] = []
        self.raw_size = 0
        for number, member in enumerate(find_members(file)):
            self._headers.append(_read_at(file, member.start, member.header_size))
            offset = member.start + member.header_size
            for block, (raw_size, frame_size) in enumerate(member.index.blocks):
                self._compare(offset, member.header, raw_size, frame_size)
                self.places.append(
                    Place(self.raw_size, raw_size, offset, frame_size, number, block)
                )
                self.raw_size += raw_size
                offset += frame_size
        self._starts = [place.raw_start for place in self.places]

    def _compare(self, offset: int, header: Header, raw_size: int, frame_size: int) -> None:
        """Raise CorruptError where the index says otherwise than the head of a block's frame.

        All later places hang on what it says; the frame's own check is seen to when it is decoded.
        """
        head = _read_at(self._file, offset, min(_LONGEST_BLOCK_HEADER, frame_size))
        block, size, _ = read_block_header(head, header)
        if (block.raw_size, size + block.payload_size) != (raw_size, frame_size):
            raise CorruptError("the index does not agree with the blocks")

    def place_of(self, offset: int) -> int:
        """The number of the block that holds the raw byte at ``offset``, which must exist."""
        return bisect_right(self._starts, offset) - 1

    def blocks_from(self, number: int, last: int | None = None) -> Iterator[bytes]:
        """The raw bytes of blocks ``number`` to ``last``, decoded ahead by threads.

        Raises:
            NczipError: a block is damaged, or cannot be decoded here.
        """
        pool: OrderedPool[bytes] = OrderedPool(DecompressOptions(**self._options).workers)
        try:
            for place in self.places[number : None if last is None else last + 1]:
                if pool.is_full:
                    yield pool.take()
                frame = _read_at(self._file, place.offset, place.frame_size)
                pool.submit(self._decode, place, frame)
            while not pool.is_empty:
                yield pool.take()
        finally:
            pool.close()

    def read_range(self, start: int, stop: int) -> Iterator[bytes]:
        """The raw bytes in [start, stop), of which only the blocks that hold them are decoded."""
        stop = min(stop, self.raw_size)
        if start >= stop:
            return
        first, last = self.place_of(start), self.place_of(stop - 1)
        for place, raw in zip(
            self.places[first : last + 1], self.blocks_from(first, last), strict=True
        ):
            yield raw[max(start - place.raw_start, 0) : stop - place.raw_start]

    def _decode(self, place: Place, frame: bytes) -> bytes:
        raw = decode_frame(self._headers[place.member], frame, place.number, **self._options)
        if len(raw) != place.raw_size:
            raise CorruptError("the index does not agree with the blocks")
        return raw
