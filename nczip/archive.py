"""Random access: blocks of a seekable file, found by its indexes and decoded alone."""

import io
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from nczip.coder.errors import CorruptError, FormatError
from nczip.decoding import BlockDecoder, Decoders, check_output
from nczip.formats.container import (
    END_MAGIC,
    MAGIC,
    MAX_HEADER_FIELDS,
    Header,
    Member,
    member_check,
    pack_coding,
    parse_header,
    parse_index,
    read_block_header,
    scan_members,
)
from nczip.formats.container import Place as BlockPlace
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
    header: Header  #: of its member
    belongs: BlockPlace


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
    if first_frame < 0:
        raise CorruptError("the index names more than there is before it")
    before = min(first_frame, _LONGEST_HEADER)
    head = _read_at(file, first_frame - before, before)
    at = len(head)
    while (at := head.rfind(MAGIC, 0, at)) >= 0:
        try:
            header, header_size = parse_header(head[at:])
        except FormatError:
            continue
        if header_size == len(head) - at:
            if pack_coding(header) != index.coding:
                raise CorruptError("the index does not agree with the header")
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
        raise CorruptError("the file is too short for its index")
    file.seek(offset)
    pieces = []
    while size and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


class Archive:
    """The blocks of a seekable file, each decoded when it is asked for.

    Args:
        file: a seekable binary file.
        options: as for :class:`Decompressor`.

    Raises:
        FormatError, CorruptError, TruncatedError: the file has no usable indexes.
        LimitError: it holds more bytes than may come out.
    """

    def __init__(self, file: SeekableFile, **options: Any) -> None:
        self._file = file
        self._decoders = Decoders(**options)
        self.places: list[Place] = []
        self.raw_size = 0
        for member in find_members(file):
            check = member_check(_read_at(file, member.start, member.header_size))
            offset = member.start + member.header_size
            for block, (raw_size, frame_size) in enumerate(member.index.blocks):
                self._compare(offset, member.header, raw_size, frame_size)
                belongs = BlockPlace(check, block)
                self.places.append(
                    Place(self.raw_size, raw_size, offset, frame_size, member.header, belongs)
                )
                self.raw_size += raw_size
                offset += frame_size
        check_output(self.raw_size, self._decoders.options.max_output)
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
        wanted = self.places[number : None if last is None else last + 1]
        for header, places in groupby(wanted, lambda place: place.header):
            yield from self._decode_all(places, self._decoders.of(header))

    def _decode_all(self, places: Iterable[Place], decoder: BlockDecoder) -> Iterator[bytes]:
        """Blocks of members with one header."""
        pool: OrderedPool[bytes] = OrderedPool(decoder.workers)
        try:
            for place in places:
                if pool.is_full:
                    yield pool.take()
                frame = _read_at(self._file, place.offset, place.frame_size)
                pool.submit(self._decode, decoder, place, frame)
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

    def _decode(self, decoder: BlockDecoder, place: Place, frame: bytes) -> bytes:
        raw = decoder.decode(frame, place.belongs)
        if len(raw) != place.raw_size:
            raise CorruptError("the index does not agree with the blocks")
        return raw
