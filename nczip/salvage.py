"""What is left of a damaged file: every block that is whole, whatever lies between them.

A block's frame carries checks of its header, of its payload and of its raw bytes, so that it can be
told and decoded wherever it stands; where the file is damaged, the next such frame is looked for.
The index serves where it is whole (what lies inside of a block is then not taken for one), but is
not needed. A member's header is, for it says how its blocks are coded: one wrong byte of it is set
right by its own check; where more is lost, the header of the member before is tried.
"""

import io
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nczip.archive import decode_frame, find_members
from nczip.coder.errors import CorruptError, FormatError
from nczip.formats.container import (
    BLOCK_FRAME,
    INDEX_FRAME,
    MAGIC,
    MAX_BLOCK_SIZE,
    MAX_HEADER_FIELDS,
    SKIPPABLE_MAGIC,
    BlockHeader,
    Header,
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
_INDEX_BYTES, _INDEX_ENTRY_BYTES = 64, 18
_STARTS = re.compile(re.escape(BLOCK_FRAME) + b"|" + re.escape(MAGIC))
_ANY_HEADER = Header(MAX_BLOCK_SIZE, 10, 1)  # bounds nothing
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
    header: bytes = b""  #: the whole frame, where it is a member's header


class Salvager:
    """The blocks and holes of a damaged file, in their order.

    Args:
        data: the whole file; bytes or a map of it.
        options: as for :class:`Decompressor`.
    """

    def __init__(self, data: Any, **options: Any) -> None:
        self._data = data
        self._options = options
        self._header = b""
        self._sizes = _known_blocks(data)
        self._places = sorted(self._sizes)

    def __iter__(self) -> Iterator[bytes | Hole]:
        """Raises ModelError, PrimerError, LimitError where blocks cannot be decoded here at all."""
        at, may_be_header = 0, True
        while at < len(self._data):
            frame = self._parse(at)
            if frame is None:
                end = self._next_start(at)
                if not (may_be_header and self._repair_header(at, end)):
                    yield Hole(at, end, self._raw_size(at, end, None), "no block can be made out")
                may_be_header = False
            elif frame.block is None:
                end = at + frame.size
                self._header = frame.header or self._header
                may_be_header = not frame.header  # behind an index
            else:
                end = self._end_of_block(at, frame)
                yield self._decode(at, end, frame)
                may_be_header = False
            at = end

    def _parse(self, at: int) -> _Frame | None:
        """What stands at a place, if that is whole, but for a block's payload."""
        start = self._data[at : at + _HEADER_BYTES]
        try:
            if start[:4] == MAGIC:
                _, size = parse_header(start)
                return _Frame(size, header=start[:size])
            if start[:1] == BLOCK_FRAME:
                return self._parse_block(at, start[:_BLOCK_HEADER_BYTES])
            if start[:1] == INDEX_FRAME:
                return _Frame(self._index_size(at))
            if start[:4] == SKIPPABLE_MAGIC:
                size = parse_skippable(start)
                if at + size == len(self._data) or self._parse(at + size) is not None:
                    return _Frame(size)
        except FormatError:
            pass
        return None

    def _parse_block(self, at: int, start: bytes) -> _Frame | None:
        """A block whose header tells a likely place in the member, or whose payload is whole."""
        block, size, place_sum = read_block_header(start, _ANY_HEADER)
        frame = _Frame(size + block.payload_size, block, size)
        member = member_check(self._header) if self._header else 0
        number = (place_sum - member) % (1 << 32)
        likely = bool(self._header) and number < _MOST_BLOCKS
        return frame if likely or self._is_whole(at, frame) else None

    def _index_size(self, at: int) -> int:
        count, _ = decode_varint(self._data[at : at + _INDEX_BYTES], 1)
        most = min(_INDEX_BYTES + _INDEX_ENTRY_BYTES * count, len(self._data) - at)
        if 2 * count > most:
            raise CorruptError("the index is damaged")
        return parse_index(self._data[at : at + most])[1]

    def _next_start(self, at: int) -> int:
        """Where the next header or block stands behind a damaged place."""
        for place in self._places[bisect_right(self._places, at) :]:
            if self._parse(place) is not None:
                return place
        for match in _STARTS.finditer(self._data, at + 1):
            if self._parse(match.start()) is not None:
                return match.start()
        return len(self._data)

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
        payload = self._data[at + frame.payload_start : at + frame.size]
        is_complete = len(payload) == frame.block.payload_size
        return is_complete and check32(payload) == frame.block.payload_check

    def _decode(self, at: int, end: int, frame: _Frame) -> bytes | Hole:
        assert frame.block is not None
        size = self._raw_size(at, end, frame.block.raw_size)
        if not self._is_whole(at, frame):
            return Hole(at, end, size, "a block is damaged")
        if not self._header:
            return Hole(at, end, size, "a block is whole, but its header is lost")
        try:
            raw = decode_frame(self._header, self._data[at : at + frame.size], **self._options)
        except FormatError as error:
            return Hole(at, end, size, str(error))
        return raw

    def _raw_size(self, start: int, end: int, otherwise: int | None) -> int | None:
        """Raw bytes of the blocks in a part of the file, as the index has them."""
        sizes = [self._sizes[place] for place in self._places if start <= place < end]
        return sum(sizes) if sizes else otherwise

    def _repair_header(self, at: int, end: int) -> bool:
        """Take the bytes before a block for a header with one wrong byte, if they are that."""
        if end - at > _HEADER_BYTES:
            return False
        damaged = bytearray(self._data[at:end])
        # Without its magic bytes a header is refused unread: then the wrong byte is one of them.
        has_magic = damaged[: len(MAGIC)] == MAGIC
        start, stop = (len(MAGIC), len(damaged)) if has_magic else (0, len(MAGIC))
        for place in range(start, min(stop, len(damaged))):
            wrong = damaged[place]
            for byte in range(256):
                damaged[place] = byte
                if self._is_header(bytes(damaged)):
                    self._header = bytes(damaged)
                    return True
            damaged[place] = wrong
        return False

    def _is_header(self, candidate: bytes) -> bool:
        try:
            return parse_header(candidate)[1] == len(candidate)
        except FormatError:
            return False


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
    """Places and raw sizes of the blocks by the file's indexes; none where those are damaged."""
    sizes = {}
    try:
        members = find_members(_Readable(data))
    except FormatError:
        return {}
    for member in members:
        at = member.start + member.header_size
        for raw_size, frame_size in member.index.blocks:
            sizes[at] = raw_size
            at += frame_size
    return sizes
