"""What is left of a damaged file: every block that is whole, whatever lies between them.

A block's frame carries checks of its header, of its payload and of its raw bytes, so that it can be
told and decoded wherever it stands; where the file is damaged, the next such frame is looked for.
How blocks are coded is said twice, by the header before them and by the index behind them: either
serves. Where the index is whole it also tells where blocks are (what lies inside of one is then
not taken for another), but neither is needed for that. Without its index a member's header is set
right by its own check if one byte of it is wrong; else the header of the member before is tried.
"""

import io
import re
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nczip.archive import find_members
from nczip.coder.errors import CorruptError, EngineError, FormatError
from nczip.decoding import Decoders, check_output
from nczip.formats.container import (
    BLOCK_FRAME,
    END_MAGIC,
    INDEX_FRAME,
    MAGIC,
    MAX_BLOCK_SIZE,
    MAX_HEADER_FIELDS,
    SKIPPABLE_MAGIC,
    BlockHeader,
    Header,
    Index,
    check32,
    member_check,
    parse_header,
    parse_index,
    parse_skippable,
    read_block_header,
)
from nczip.formats.varint import decode_varint

_HEADER_BYTES = MAX_HEADER_FIELDS + 64
_BLOCK_HEADER_BYTES = 64
_INDEX_BYTES, _INDEX_ENTRY_BYTES = 128, 18
_INDEX_END = 8 + len(END_MAGIC)  # check and size of an index, and the end mark
_STARTS = re.compile(re.escape(BLOCK_FRAME) + b"|" + re.escape(MAGIC))
_ANY_HEADER = Header(MAX_BLOCK_SIZE, 10, 1)  # bounds nothing
_INDEX_ENDS = re.compile(re.escape(END_MAGIC))
# Bounds of what is tried, so that time grows with the file and not with its square.
_MOST_REPAIRS = 16
_MOST_PLACES = 100  # of blocks by the index, of which none is there
_MOST_HASHED = 64  # bytes for each of the file, in payloads that then are not whole
_MOST_BLOCKS = 1 << 16  # a block of a higher number is taken for chance unless its payload is whole


@dataclass(frozen=True)
class Hole:
    """What is lost."""

    start: int  #: in the file
    end: int
    raw_size: int | None  #: None where nothing tells
    reason: str


@dataclass(frozen=True)
class _Frame:
    """What stands at a place of the file, its own check verified."""

    size: int
    block: BlockHeader | None = None
    payload_start: int = 0  #: from the frame's start
    place_sum: int = 0  #: of a block
    header: Header | None = None  #: where it is a member's
    member: int = 0  #: the check of that header
    blocks: int | None = None  #: how many an index names


class Salvager:
    """The blocks and holes of a damaged file, in their order.

    Args:
        data: the whole file; bytes or a map of it.
        options: as for :class:`Decompressor`.
    """

    def __init__(self, data: Any, **options: Any) -> None:
        self._data = data
        self._decoders = Decoders(**options)
        self._header: Header | None = None
        self._member = 0  # its check
        self._next: int | None = None  # number of the block that must follow; None if unknown
        self._is_open = False  # a member has begun and its index has not come
        self._is_after_hole = False
        self._raw_bytes = 0  # that have been salvaged
        self._repairs = 0
        self._to_hash = _MOST_HASHED * len(data)
        self._sizes = _known_blocks(data)
        self._places = sorted(self._sizes)
        self._known_from = self._places[0] if self._places else len(data)

    def __iter__(self) -> Iterator[bytes | Hole]:
        """Raises ModelError, PrimerError, LimitError where blocks cannot be decoded here at all."""
        at, may_be_header = 0, True
        while at < len(self._data):
            frame = self._parse(at)
            if frame is not None and (reason := self._gap_before(at, frame)):
                yield Hole(at, at, None, reason)
            if frame is None:
                end = self._next_start(at)
                if not (may_be_header and self._repair_header(at, end)):
                    size = self._raw_size(at, end, None)
                    reason = "no block can be made out" if size != 0 else "damaged between blocks"
                    yield Hole(at, end, size, reason)
                    self._is_after_hole = True
                may_be_header = False
            elif frame.block is None:
                end = at + frame.size
                may_be_header = frame.header is None  # behind an index
                if frame.header is not None:
                    self._header, self._member = frame.header, frame.member
            else:
                end = self._end_of_block(at, frame)
                yield self._decode(at, end, frame)
                may_be_header = False
            at = end
        if self._is_open and not self._is_after_hole:
            yield Hole(at, at, None, "the file ends before an index, as if it had been cut")

    def _gap_before(self, at: int, frame: _Frame) -> str:
        """What must have stood before a frame, if there is not a hole that explains it."""
        reason = ""
        if frame.header is not None:
            reason = "a member ends before its index" if self._is_open else ""
            self._is_open, self._next = True, 0
        elif frame.block is not None:
            number = self._number(frame.place_sum)
            if self._next is not None and self._next != number:
                if self._would_follow(at + frame.size, self._next):
                    number = self._next  # only the number is damaged
                elif number is not None:
                    reason = "blocks are missing, or not in their order"
            self._next = None if number is None else number + 1
        elif frame.blocks is not None:
            if self._next not in (None, frame.blocks):
                reason = "blocks are missing"
            self._is_open, self._next = False, None
        explained, self._is_after_hole = self._is_after_hole, False
        return "" if explained else reason

    def _would_follow(self, at: int, number: int) -> bool:
        """Whether what stands at a place would follow block ``number``."""
        frame = self._parse(at)
        if frame is None:
            return False
        if frame.block is None:
            return frame.blocks == number + 1
        return self._number(frame.place_sum) == number + 1

    def _parse(self, at: int) -> _Frame | None:
        """What stands at a place, if that is whole, but for a block's payload."""
        start = self._data[at : at + _HEADER_BYTES]
        try:
            if start[:4] == MAGIC:
                header, size = parse_header(start)
                return _Frame(size, header=header, member=member_check(start[:size]))
            if start[:1] == BLOCK_FRAME:
                return self._parse_block(at, start[:_BLOCK_HEADER_BYTES])
            if start[:1] == INDEX_FRAME:
                return self._parse_index(at)
            if start[:4] == SKIPPABLE_MAGIC:
                size = parse_skippable(start)
                behind = self._data[at + size : at + size + len(MAGIC)]
                is_end = at + size == len(self._data)
                return _Frame(size) if is_end or behind in (MAGIC, SKIPPABLE_MAGIC) else None
        except FormatError:
            pass
        return None

    def _parse_block(self, at: int, start: bytes) -> _Frame | None:
        """A block whose header tells a likely place in the member, or whose payload is whole."""
        block, size, place_sum = read_block_header(start, _ANY_HEADER)
        frame = _Frame(size + block.payload_size, block, size, place_sum)
        is_likely = self._number(place_sum) is not None
        return frame if is_likely or self._is_whole(at, frame) else None

    def _number(self, place_sum: int) -> int | None:
        """A block's number in the member whose header was read, if it is likely to be of that."""
        number = (place_sum - self._member) % (1 << 32)
        return number if self._header is not None and number < _MOST_BLOCKS else None

    def _parse_index(self, at: int) -> _Frame:
        count, _ = decode_varint(self._data[at : at + _INDEX_BYTES], 1)
        most = min(_INDEX_BYTES + _INDEX_ENTRY_BYTES * count, len(self._data) - at)
        if 2 * count > most:
            raise CorruptError("the index is damaged")
        index, size = parse_index(self._data[at : at + most])
        return _Frame(size, blocks=len(index.blocks))

    def _next_start(self, at: int) -> int:
        """Where the next header or block stands behind a damaged place."""
        if at < self._known_from:  # what stands before that, no index tells
            place = self._search(at + 1, self._known_from)
            if place < self._known_from:
                return place
        first = bisect_right(self._places, at)
        for place in self._places[first : first + _MOST_PLACES]:
            if self._parse(place) is not None:
                return place
        return self._search(max(at + 1, self._known_from), len(self._data))

    def _search(self, start: int, stop: int) -> int:
        """Where the first header or block stands in a part of the file; ``stop`` if none does."""
        for match in _STARTS.finditer(self._data, start, stop):
            if self._parse(match.start()) is not None:
                return match.start()
        return stop

    def _end_of_block(self, at: int, frame: _Frame) -> int:
        """Where a block ends: bytes of it may be missing, or some be there that are not its own."""
        end = at + frame.size
        if self._is_whole(at, frame) or end == len(self._data):
            return end
        if end < len(self._data) and self._parse(end) is not None:
            return end
        return self._next_start(at + frame.payload_start - 1)

    def _is_whole(self, at: int, frame: _Frame) -> bool:
        assert frame.block is not None
        if at + frame.size > len(self._data) or self._to_hash < frame.size:
            return False
        payload = self._data[at + frame.payload_start : at + frame.size]
        if check32(payload) == frame.block.payload_check:
            return True
        self._to_hash -= frame.size
        return False

    def _decode(self, at: int, end: int, frame: _Frame) -> bytes | Hole:
        assert frame.block is not None
        size = self._raw_size(at, end, frame.block.raw_size)
        if not self._is_whole(at, frame):
            return Hole(at, end, size, "a block is damaged")
        reason = "a block is whole, but its header is lost"
        for header in self._headers(at, frame):
            decoder = self._decoders.of(header)
            try:
                raw = decoder.decode(self._data[at : at + frame.size])
            except (FormatError, EngineError) as error:
                reason = str(error)
                continue
            self._raw_bytes += len(raw)
            check_output(self._raw_bytes, self._decoders.options.max_output)
            return raw
        return Hole(at, end, size, reason)

    def _headers(self, at: int, frame: _Frame) -> Iterator[Header]:
        """What may say how a block is coded, likely ones first."""
        assert frame.block is not None
        if self._header is not None and self._number(frame.place_sum) is not None:
            yield self._header
            return
        sizes = frame.block.raw_size, frame.size
        named = self._codings.get(sizes, [])
        number = bisect_right(named, at, key=lambda entry: entry[0])
        yield from (header for _, header in named[number : number + 1])
        if self._header is not None:
            yield self._header

    @cached_property
    def _codings(self) -> dict[tuple[int, int], list[tuple[int, Header]]]:
        """For sizes of blocks, the ends and headers of indexes that name such a block."""
        codings: dict[tuple[int, int], list[tuple[int, Header]]] = {}
        for end, index in _Indexes(self._data):
            header = index.header
            for sizes in set(index.blocks):
                codings.setdefault(sizes, []).append((end, header))
        return codings

    def _raw_size(self, start: int, end: int, otherwise: int | None) -> int | None:
        """Raw bytes of the blocks in a part of the file, as the index has them."""
        first, behind = bisect_left(self._places, start), bisect_left(self._places, end)
        if first == behind and end not in self._sizes:
            return otherwise
        return sum(self._sizes[place] for place in self._places[first:behind])

    def _repair_header(self, at: int, end: int) -> bool:
        """Take the bytes before a block for a header with one wrong byte, if they are that."""
        self._repairs += 1
        if end - at > _HEADER_BYTES or self._repairs > _MOST_REPAIRS:
            return False
        damaged = bytearray(self._data[at:end])
        # Without its magic bytes a header is refused unread: then the wrong byte is one of them.
        has_magic = damaged[: len(MAGIC)] == MAGIC
        start, stop = (len(MAGIC), len(damaged)) if has_magic else (0, len(MAGIC))
        for place in range(start, min(stop, len(damaged))):
            wrong = damaged[place]
            for byte in range(256):
                damaged[place] = byte
                if (header := _as_header(bytes(damaged))) is not None:
                    self._header, self._member = header, member_check(damaged)
                    self._is_open, self._next = True, 0
                    return True
            damaged[place] = wrong
        return False


def _as_header(data: bytes) -> Header | None:
    """The header that ``data`` is, and nothing else."""
    try:
        header, size = parse_header(data)
    except FormatError:
        return None
    return header if size == len(data) else None


class _Readable:
    """A buffer as a file; maps of files say nothing when they are sought."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        start, self._at = self._at, len(self._data) if size < 0 else self._at + size
        return bytes(self._data[start : self._at])

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = len(self._data) + offset if whence == io.SEEK_END else offset
        return self._at


def _known_blocks(data: Any) -> dict[int, int]:
    """Places and raw sizes of the blocks by the file's indexes, where those can be trusted."""
    sizes = {}
    try:
        members = [(m.start + m.header_size, m.index) for m in find_members(_Readable(data))]
    except FormatError:
        members = list(_Indexes(data).last_members())
    for start, index in members:
        at = start
        for raw_size, frame_size in index.blocks:
            if at >= 0:
                sizes[at] = raw_size
            at += frame_size
    return sizes


class _Indexes:
    """Finds the indexes of a damaged file that are whole."""

    def __init__(self, data: Any) -> None:
        self._data = data
        # Bytes that may be looked at: honest files have no indexes inside of indexes.
        self._left = 4 * len(data)

    def __iter__(self) -> Iterator[tuple[int, Index]]:
        """Where each ends, and what it says."""
        for match in _INDEX_ENDS.finditer(self._data):
            if (found := self._ending_at(match.end())) is not None:
                yield match.end(), found[1]

    def last_members(self) -> Iterator[tuple[int, Index]]:
        """Where blocks of members start, and their indexes, from the last member on.

        It ends at an index that is damaged, and takes no heed of headers.
        """
        end, gap = len(self._data), 0
        while end >= 0 and (found := self._last_within(end - gap, end)) is not None:
            start, index = found
            end, gap = start - index.frames_size, _HEADER_BYTES
            yield end, index  # before the file's start, if some of it is missing

    def _last_within(self, first: int, last: int) -> tuple[int, Index] | None:
        """Where the last index starts whose end is from ``first`` to ``last``, and that index."""
        stop = last
        while (at := self._data.rfind(END_MAGIC, max(first - len(END_MAGIC), 0), stop)) >= 0:
            end = at + len(END_MAGIC)
            if (found := self._ending_at(end)) is not None:
                return found
            stop = end - 1
        return None

    def _ending_at(self, end: int) -> tuple[int, Index] | None:
        """Where the index starts that ends at ``end``, and that index."""
        if end < _INDEX_END:
            return None
        tail = self._data[end - _INDEX_END : end - len(END_MAGIC)]
        check, size = struct.unpack("<II", tail)
        start = end - 4 - len(END_MAGIC) - size
        if start < 0 or self._data[start : start + 1] != INDEX_FRAME or size > self._left:
            return None
        self._left -= size
        if check32(self._data[start : end - _INDEX_END]) != check:
            return None
        try:
            index, whole = parse_index(self._data[start:end])
        except FormatError:
            return None
        return (start, index) if whole == end - start else None
