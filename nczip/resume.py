"""Going on with an archive that a dead process left unfinished.

The part file is cut behind its last whole block that agrees with the input; an index makes a member
of what is there, and what is left of the input follows in another member. So nothing of the first
run's options need be known.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import xxhash

from nczip.coder.errors import CorruptError, FormatError
from nczip.formats.container import (
    INDEX_FRAME,
    MAX_HEADER_FIELDS,
    Header,
    Index,
    Place,
    build_index,
    check32,
    member_check,
    pack_coding,
    parse_block_header,
    parse_header,
    parse_index,
)
from nczip.sinks import PartFile

_HEADER_BYTES = MAX_HEADER_FIELDS + 64
_BLOCK_HEADER_BYTES = 64
_INDEX_BYTES, _INDEX_ENTRY_BYTES = 128, 18


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""
        ...


@dataclass
class _Member:
    """What is whole in a member."""

    end: int  #: in the part file, behind its last whole frame
    check: int  #: of its header, by which its blocks know it
    is_complete: bool = False  #: its index is there, too
    index: Index = field(default_factory=Index)
    whole: Any = field(default_factory=xxhash.xxh3_64)


class Resumer:
    """A part file cut to what is whole in it, and the input read as far as that reaches.

    Args:
        part: is left with whole members, its position behind them.
        source: the input, at its start.
        digest: updated by the raw bytes that the part file covers.

    Attributes:
        size: bytes of the part file that stay.
        raw_size: raw bytes that they hold.
        leftover: bytes read from the input beyond those.
    """

    def __init__(self, part: PartFile, source: _Readable, digest: Any) -> None:
        self._part = part
        self._source = source
        self._digest = digest
        self.size = self.raw_size = 0
        self.leftover = b""
        while (header := self._header()) is not None:
            member = self._keep_blocks(*header)
            if not member.is_complete:
                self._close(member)
                break
            self.size = member.end
        part.cut(self.size)

    def _header(self) -> tuple[Header, _Member] | None:
        """The header behind what is kept, and its member, of which nothing is known yet."""
        try:
            head = self._part.read_at(self.size, _HEADER_BYTES)
            header, size = parse_header(head)
        except FormatError:
            return None
        member = _Member(self.size + size, member_check(head[:size]))
        member.index.coding = pack_coding(header)
        return header, member

    def _keep_blocks(self, header: Header, member: _Member) -> _Member:
        """Step over the whole blocks of a member that agree with the input."""
        while True:
            head = self._part.read_at(member.end, _BLOCK_HEADER_BYTES)
            try:
                if head[:1] == INDEX_FRAME:
                    member.end += self._check_index(member)
                    member.is_complete = True
                    return member
                raw_size, raw_check, frame_size = self._check_frame(member, head, header)
            except FormatError:
                return member
            raw = self._read_source(raw_size)
            if xxhash.xxh3_64_intdigest(raw) != raw_check:
                self.leftover = raw
                return member
            self._digest.update(raw)
            member.whole.update(raw)
            member.index.blocks.append((raw_size, frame_size))
            member.end += frame_size
            self.raw_size += raw_size

    def _check_frame(self, member: _Member, head: bytes, header: Header) -> tuple[int, int, int]:
        """Raw size, check of the raw bytes and frame size of a block that is all there."""
        place = Place(member.check, len(member.index.blocks))
        block, size = parse_block_header(head, header, place)
        payload = self._part.read_at(member.end + size, block.payload_size)
        if len(payload) != block.payload_size or check32(payload) != block.payload_check:
            raise CorruptError("a block is not whole")
        return block.raw_size, block.raw_check, size + block.payload_size

    def _check_index(self, member: _Member) -> int:
        """The size of a member's index."""
        most = _INDEX_BYTES + _INDEX_ENTRY_BYTES * len(member.index.blocks)
        index, size = parse_index(self._part.read_at(member.end, most))
        member.index.whole_check = member.whole.intdigest()
        if index != member.index:
            raise CorruptError("the index does not agree with the blocks")
        return size

    def _read_source(self, size: int) -> bytes:
        pieces = []
        while size and (piece := self._source.read(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _close(self, member: _Member) -> None:
        """End the last member with the index that it lacks; without blocks it is not kept."""
        if not member.index.blocks:
            return
        member.index.whole_check = member.whole.intdigest()
        self._part.cut(member.end)
        self.size = member.end + self._part.write(build_index(member.index))
