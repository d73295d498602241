"""A stream as parts that can be changed one by one; joined again, all checks hold."""

import io
import struct
from dataclasses import dataclass, field

import xxhash

from nczip.formats import container as ct
from nczip.formats.runs import RunKind, parse_runs, size_of
from nczip.formats.varint import decode_varint, encode_varint

_CRLF, _UNBROKEN = 0x80, 0x40
_MODELLED = range(2, 5)

#: A payload in pieces: bytes as they are, integers as varints.
Pieces = list[bytes | int]


@dataclass
class Block:
    """A block frame; what it says of itself need not be true."""

    raw: bytes  #: what the block held before it was changed
    pieces: Pieces
    raw_size: int
    raw_check: int
    moved: int = 0  #: how far from its place its number claims to be
    cut: int = 0  #: bytes of the payload that are missing behind its frame

    @property
    def payload(self) -> bytes:
        """The pieces together."""
        return b"".join(
            encode_varint(piece) if isinstance(piece, int) else piece for piece in self.pieces
        )


@dataclass
class Member:
    """A member; edits are bytes to be changed (place from the start, value) before sealing."""

    header: ct.Header
    blocks: list[Block]
    index: ct.Index | None = None  #: None for the one that belongs to the blocks
    header_edits: list[tuple[int, int]] = field(default_factory=list)
    index_edits: list[tuple[int, int]] = field(default_factory=list)

    @property
    def raw(self) -> bytes:
        """What the blocks held."""
        return b"".join(block.raw for block in self.blocks)


@dataclass
class Skippable:
    """A skippable frame."""

    data: bytes
    size: int | None = None  #: the size that it claims; None for the true one

    raw = b""


Stream = list[Member | Skippable]


def split(packed: bytes, raw: bytes) -> Stream:
    """One member taken apart.

    Args:
        packed: the member.
        raw: what it decodes to.
    """
    (member,) = ct.scan_members(io.BytesIO(packed))
    at, raw_at, blocks = member.header_size, 0, []
    for raw_size, frame_size in member.index.blocks:
        frame = packed[at : at + frame_size]
        _, where = decode_varint(frame, 1)
        payload_size, _ = decode_varint(frame, where)
        piece = raw[raw_at : raw_at + raw_size]
        pieces = split_payload(frame[frame_size - payload_size :], raw_size)
        blocks.append(Block(piece, pieces, raw_size, xxhash.xxh3_64_intdigest(piece)))
        at += frame_size
        raw_at += raw_size
    return [Member(member.header, blocks)]


def split_payload(payload: bytes, raw_size: int) -> Pieces:
    """A payload in pieces: first byte, what flags bring, run table, stored runs, coded string."""
    first, at, size = payload[0], 1, raw_size
    pieces: Pieces = [payload[:1]]
    if first & _CRLF:
        line_ends, at = decode_varint(payload, at)
        pieces.append(line_ends)
        size -= line_ends
    if first & _UNBROKEN:
        length, start = decode_varint(payload, at + 1)
        pieces += [payload[at : at + 1], length, payload[start : start + length]]
        at = start + length
    body = payload[at:]
    if first & ~(_CRLF | _UNBROKEN) not in _MODELLED:
        return [*pieces, body]
    runs, at = parse_runs(body, size)
    coded = at + size_of(runs, RunKind.STORED)
    table = [run.size << 2 | run.kind for run in runs]
    return [*pieces, len(runs), *table, body[at:coded], body[coded:]]


def join(stream: Stream) -> bytes:
    """The stream's bytes."""
    return b"".join(
        _join_member(part) if isinstance(part, Member) else _join_skippable(part) for part in stream
    )


def _join_member(member: Member) -> bytes:
    head = bytearray(ct.pack_header(member.header))
    for place, value in member.header_edits:
        head[place % (len(head) - 4)] = value
    head[-4:] = struct.pack("<I", ct.check32(head[:-4]))
    check, frames = ct.member_check(head), []
    true_index = ct.Index(coding=ct.pack_coding(member.header))
    for number, block in enumerate(member.blocks):
        place = ct.Place(check, max(number + block.moved, 0))
        frame = ct.build_block(block.raw_size, block.raw_check, block.payload, place)
        frames.append(frame[: len(frame) - block.cut])
        true_index.blocks.append((block.raw_size, len(frames[-1])))
    true_index.whole_check = xxhash.xxh3_64_intdigest(member.raw)
    index = bytearray(ct.build_index(member.index or true_index))
    if member.index_edits:
        tail = len(ct.END_MAGIC) + 8
        for place, value in member.index_edits:
            index[place % (len(index) - tail)] = value
        index[-tail : 4 - tail] = struct.pack("<I", ct.check32(index[:-tail]))
    return bytes(head) + b"".join(frames) + bytes(index)


def _join_skippable(part: Skippable) -> bytes:
    size = len(part.data) if part.size is None else part.size
    return ct.SKIPPABLE_MAGIC + struct.pack("<I", size & 0xFFFFFFFF) + part.data


def raw_of(stream: Stream) -> bytes:
    """What the blocks of a stream held, in their order."""
    return b"".join(part.raw for part in stream)
