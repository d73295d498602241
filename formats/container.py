"""The container: headers, block frames and the index of an nczip stream (SPEC.md).

Pure bytes to values and back; nothing here predicts or codes. Every ``parse_*`` function takes a
buffer that may still grow: it raises :class:`TruncatedError` where more bytes could help and
:class:`CorruptError` or :class:`FormatError` where none could.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import xxhash

from nczip.coder.errors import CorruptError, FormatError, TruncatedError
from nczip.formats.varint import decode_varint, encode_varint

MAGIC = b"\x8eNCZ"
SKIPPABLE_MAGIC = b"\x8eNCS"
END_MAGIC = b"ZCN"
_MASK32 = 0xFFFFFFFF
VERSION = 8

ENGINE_NONE, ENGINE_LLAMA, ENGINE_EXACT = range(3)
ENGINE_NAMES = {ENGINE_NONE: "none", ENGINE_LLAMA: "llama", ENGINE_EXACT: "exact"}

#: The layouts of predictors, by their numbers in headers.
LAYOUT_NAMES = {0: "full", 1: "light", 2: "medium"}
LAYOUT_NUMBERS = {name: number for number, name in LAYOUT_NAMES.items()}
GUIDED_LAYOUT = 0  #: the only one in which a transformer has a say
_LAYOUT_SHIFT = 5  # above the table bits, in their byte

BLOCK_FRAME, INDEX_FRAME = b"B", b"I"

MAX_HEADER_FIELDS = 1024
MAX_BLOCK_SIZE = 1 << 30
MAX_LANES = 256
MAX_WINDOW = 1 << 20
MIN_TABLE_BITS, MAX_TABLE_BITS = 10, 26
MAX_NAME_BYTES = 255
FINGERPRINT_BYTES = 8
MAX_SINKS = 64
_CRITICAL = 1
_SOURCE = 1  # the tag of the extension that has a model's source
MAX_SOURCE_BYTES = 255

Buffer = bytes | bytearray | memoryview


def check32(data: Buffer) -> int:
    """The check of headers and payloads: the low 32 bits of XXH3-64."""
    return xxhash.xxh3_64_intdigest(data) & 0xFFFFFFFF


@dataclass(frozen=True)
class ModelId:
    """The transformer that a member needs."""

    engine: int  #: ENGINE_LLAMA or ENGINE_EXACT
    fingerprint: bytes  #: the first 8 bytes of the SHA-256 of the model file
    name: str  #: a hint for people and for the model store
    lanes: int  #: at most so many lanes in a block
    window: int  #: tokens
    probe: int  #: 64-bit hash over logits under llama, 0 under exact
    sinks: int = 0  #: a lane's first tokens that stay in its window
    source: str = ""  #: where it came from, for people; nobody follows it unasked


@dataclass(frozen=True)
class Extension:
    """A field that a later nczip adds; who does not know it may go on unless it is critical."""

    tag: int
    data: bytes
    critical: bool = False


@dataclass(frozen=True)
class Header:
    """What a member's blocks have in common."""

    block_size: int  #: no block holds more raw bytes
    table_bits: int  #: log2 of the lines of the n-gram table
    byte_lanes: int  #: lanes of bytes coded without a transformer
    primer: int = 0  #: 32 bits that identify the primer that blocks may use, 0 for none
    model: ModelId | None = None
    layout: str = "full"  #: one of LAYOUT_NAMES
    extensions: tuple[Extension, ...] = ()  #: those that may be ignored


@dataclass(frozen=True)
class Place:
    """Where a block belongs: its frame's check holds nowhere else."""

    member: int  #: the check of the member's header
    number: int  #: blocks before it in the member

    @property
    def sum(self) -> int:
        """What is added to the check of a frame, modulo 2^32."""
        return (self.member + self.number) & _MASK32


@dataclass(frozen=True)
class BlockHeader:
    """One block's frame without its payload."""

    raw_size: int
    payload_size: int
    raw_check: int  #: XXH3-64 of the raw bytes
    payload_check: int


@dataclass
class Index:
    """A member's blocks, how they are coded, and the check of all its raw bytes."""

    blocks: list[tuple[int, int]] = field(default_factory=list)  #: (raw size, frame size) of each
    whole_check: int = 0
    coding: bytes = b""  #: what :func:`pack_coding` makes of the member's header

    @property
    def raw_size(self) -> int:
        return sum(raw for raw, _ in self.blocks)

    @property
    def frames_size(self) -> int:
        return sum(frame for _, frame in self.blocks)

    @property
    def header(self) -> Header:
        """What decoding the blocks needs of the header: no names, no extensions."""
        largest = max((raw for raw, _ in self.blocks), default=1)
        return _parse_coding(self.coding, 0, min(max(largest, 1), MAX_BLOCK_SIZE))[0]


def pack_header(header: Header) -> bytes:
    """The bytes of a member's header."""
    fields = encode_varint(header.block_size) + pack_coding(header)
    extensions = header.extensions
    if header.model:
        name = header.model.name.encode()[:MAX_NAME_BYTES]
        fields += bytes([len(name)]) + name
        if header.model.source:
            extensions = (Extension(_SOURCE, header.model.source.encode()), *extensions)
    for extension in extensions:
        fields += encode_varint(extension.tag << 1 | extension.critical)
        fields += encode_varint(len(extension.data)) + extension.data
    head = MAGIC + bytes([VERSION]) + encode_varint(len(fields)) + fields
    return head + struct.pack("<I", check32(head))


def pack_coding(header: Header) -> bytes:
    """The fields that decoding needs, as header and index have them."""
    fields = bytes([header.table_bits | LAYOUT_NUMBERS[header.layout] << _LAYOUT_SHIFT])
    fields += encode_varint(header.byte_lanes) + encode_varint(header.primer)
    model = header.model
    if model is None:
        return fields + bytes([ENGINE_NONE])
    fields += bytes([model.engine]) + model.fingerprint
    fields += encode_varint(model.lanes) + encode_varint(model.window) + encode_varint(model.sinks)
    return fields + (struct.pack("<Q", model.probe) if model.engine == ENGINE_LLAMA else b"")


def member_check(head: Buffer) -> int:
    """The check at the end of a packed header, by which blocks know their member."""
    return int(struct.unpack("<I", head[-4:])[0])


def parse_header(data: Buffer) -> tuple[Header, int]:
    """A member's header at the start of ``data`` and its size.

    Raises:
        FormatError: not an nczip stream, or of an unknown version, layout or engine, or it has a
            critical extension: none is known.
        CorruptError, TruncatedError: damaged or cut.
    """
    magic = bytes(data[:4])
    if magic != MAGIC[: len(magic)]:
        raise FormatError("not an nczip stream")
    _need(data, 5)
    if data[4] != VERSION:
        advice = (
            "update nczip" if data[4] > VERSION else "decompress it with the nczip that made it"
        )
        raise FormatError(f"format version {data[4]}, not {VERSION} as in this nczip: {advice}")
    size, start = decode_varint(data, 5)
    if size > MAX_HEADER_FIELDS:
        raise CorruptError("the header is damaged")
    _need(data, start + size + 4)
    if struct.unpack_from("<I", data, start + size)[0] != check32(bytes(data[: start + size])):
        raise CorruptError("the header is damaged")
    return _parse_fields(bytes(data[start : start + size])), start + size + 4


def _parse_fields(fields: bytes) -> Header:
    try:
        block_size, at = decode_varint(fields, 0)
        _bound("block size", block_size, 1, MAX_BLOCK_SIZE)
        header, at = _parse_coding(fields, at, block_size)
        if header.model:
            name = fields[at + 1 : at + 1 + fields[at]].decode()
            header = replace(header, model=replace(header.model, name=name))
            at += 1 + fields[at]
        return _with_extensions(header, tuple(_parse_extensions(fields, at)))
    except (IndexError, struct.error, UnicodeDecodeError, TruncatedError) as error:
        raise CorruptError("the header's fields are inconsistent") from error


def _with_extensions(header: Header, extensions: tuple[Extension, ...]) -> Header:
    """The header with what the extensions say; the model's source, if given, comes first."""
    model = header.model
    if model and extensions and extensions[0].tag == _SOURCE:
        source = extensions[0].data.decode()[:MAX_SOURCE_BYTES]
        model, extensions = replace(model, source=source), extensions[1:]
    return replace(header, model=model, extensions=extensions)


def _parse_coding(fields: Buffer, at: int, block_size: int) -> tuple[Header, int]:
    """What :func:`pack_coding` made, which starts at ``at``, and where it ends.

    Raises:
        CorruptError, FormatError: values that cannot be, an unknown layout or engine.
        IndexError, TruncatedError, struct.error: the fields end early.
    """
    table_bits, layout = fields[at] & (1 << _LAYOUT_SHIFT) - 1, fields[at] >> _LAYOUT_SHIFT
    if layout not in LAYOUT_NAMES:
        raise FormatError(f"layout {layout} of predictors is unknown to this nczip: update it")
    byte_lanes, at = decode_varint(fields, at + 1)
    primer, at = decode_varint(fields, at)
    _bound("table size", table_bits, MIN_TABLE_BITS, MAX_TABLE_BITS)
    _bound("number of lanes", byte_lanes, 1, MAX_LANES)
    _bound("primer", primer, 0, 0xFFFFFFFF)
    engine = fields[at]
    if engine and layout != GUIDED_LAYOUT:
        raise CorruptError(f"layout {layout} of predictors has no use for the model that is named")
    model, at = _parse_model(fields, engine, at + 1) if engine else (None, at + 1)
    return Header(block_size, table_bits, byte_lanes, primer, model, LAYOUT_NAMES[layout]), at


def _parse_extensions(fields: bytes, at: int) -> Iterator[Extension]:
    """The extensions from ``at`` to the end of the fields."""
    while at < len(fields):
        number, at = decode_varint(fields, at)
        size, at = decode_varint(fields, at)
        if size > len(fields) - at:
            raise CorruptError("the header's fields are inconsistent")
        if number & _CRITICAL:
            raise FormatError(f"the stream needs extension {number >> 1}: update nczip")
        yield Extension(number >> 1, fields[at : at + size])
        at += size


def _parse_model(fields: Buffer, engine: int, at: int) -> tuple[ModelId, int]:
    if engine not in ENGINE_NAMES:
        raise FormatError(f"engine {engine} is unknown to this nczip: update nczip")
    _need(fields, at + FINGERPRINT_BYTES)
    fingerprint = bytes(fields[at : at + FINGERPRINT_BYTES])
    lanes, at = decode_varint(fields, at + FINGERPRINT_BYTES)
    window, at = decode_varint(fields, at)
    sinks, at = decode_varint(fields, at)
    probe = 0
    if engine == ENGINE_LLAMA:
        (probe,) = struct.unpack_from("<Q", fields, at)
        at += 8
    _bound("number of lanes", lanes, 1, MAX_LANES)
    _bound("window", window, 2, MAX_WINDOW)
    _bound("number of sinks", sinks, 0, min(MAX_SINKS, window // 2))
    return ModelId(engine, fingerprint, "", lanes, window, probe, sinks), at


def build_block(raw_size: int, raw_check: int, payload: bytes, place: Place) -> bytes:
    """A whole block frame."""
    head = BLOCK_FRAME + encode_varint(raw_size) + encode_varint(len(payload))
    head += struct.pack("<QI", raw_check, check32(payload))
    return head + struct.pack("<I", (check32(head) + place.sum) & _MASK32) + payload


def parse_block_header(data: Buffer, header: Header, place: Place) -> tuple[BlockHeader, int]:
    """The block header at the start of ``data`` and its size; sizes are within bounds.

    Raises:
        CorruptError: it is damaged, or a block of another place.
    """
    block, size, place_sum = _parse_block_fields(data)
    if place_sum != place.sum:
        raise CorruptError("a block header is damaged, or not where it belongs")
    _check_bounds(block, header)
    return block, size


def read_block_header(data: Buffer, header: Header) -> tuple[BlockHeader, int, int]:
    """The same of a block whose place is not known, and the sum of its Place if it is whole.

    Any damage gives another sum. Who knows the member can tell the number from it, and believe it
    where it is small.
    """
    block, size, place_sum = _parse_block_fields(data)
    _check_bounds(block, header)
    return block, size, place_sum


def _parse_block_fields(data: Buffer) -> tuple[BlockHeader, int, int]:
    raw_size, at = decode_varint(data, 1)
    payload_size, at = decode_varint(data, at)
    _need(data, at + 16)
    raw_check, payload_check, check = struct.unpack_from("<QII", data, at)
    place_sum = (check - check32(bytes(data[: at + 12]))) & _MASK32
    return BlockHeader(raw_size, payload_size, raw_check, payload_check), at + 16, place_sum


def _check_bounds(block: BlockHeader, header: Header) -> None:
    _bound("block", block.raw_size, 1, header.block_size)
    _bound("coded block", block.payload_size, 1, block.raw_size + 64)


def build_index(index: Index) -> bytes:
    """The index frame that ends a member."""
    body = INDEX_FRAME + encode_varint(len(index.blocks))
    body += b"".join(encode_varint(raw) + encode_varint(frame) for raw, frame in index.blocks)
    body += index.coding + struct.pack("<Q", index.whole_check)
    body += struct.pack("<I", check32(body))
    return body + struct.pack("<I", len(body)) + END_MAGIC


def parse_index(data: Buffer) -> tuple[Index, int]:
    """The index frame at the start of ``data`` and its size.

    It takes time by what of ``data`` there is, so that who reads in pieces does better to compare
    with the :func:`build_index` of the blocks that came before.
    """
    count, at = decode_varint(data, 1)
    index = Index()
    for _ in range(count):
        raw, at = decode_varint(data, at)
        frame, at = decode_varint(data, at)
        index.blocks.append((raw, frame))
    start, at = at, _end_of_coding(data, at)
    index.coding = bytes(data[start:at])
    size_all = at + 16 + len(END_MAGIC)
    _need(data, size_all)
    index.whole_check, check, size = struct.unpack_from("<QII", data, at)
    if check != check32(bytes(data[: at + 8])) or size != at + 12:
        raise CorruptError("the index is damaged")
    if bytes(data[at + 16 : size_all]) != END_MAGIC:
        raise CorruptError("the end mark is damaged")
    return index, size_all


def _end_of_coding(data: Buffer, at: int) -> int:
    try:
        return _parse_coding(data, at, MAX_BLOCK_SIZE)[1]
    except (IndexError, struct.error) as error:
        raise TruncatedError("the stream ends too early") from error


def parse_skippable(data: Buffer) -> int:
    """The whole size of the skippable frame at the start of ``data``."""
    _need(data, 8)
    return 8 + int(struct.unpack_from("<I", data, 4)[0])


@dataclass(frozen=True)
class Member:
    """A member found in a file without decoding it."""

    header: Header
    header_size: int
    index: Index
    start: int  #: offset of the member in the file
    size: int


def scan_members(file: BinaryIO) -> list[Member]:
    """The members of a seekable file, by their indexes, without decoding any block.

    Raises:
        FormatError, CorruptError, TruncatedError: as the bytes deserve.
    """
    members: list[Member] = []
    end = file.seek(0, io.SEEK_END)
    at = 0
    while at < end:
        file.seek(at)
        head = file.read(MAX_HEADER_FIELDS + 64)
        if head[:4] == SKIPPABLE_MAGIC:
            at += parse_skippable(head)
            continue
        header, header_size = parse_header(head)
        member = member_check(head[:header_size])
        index, size = _walk_blocks(file, header, member, at + header_size)
        members.append(Member(header, header_size, index, at, header_size + size))
        at += header_size + size
    if at != end:
        raise TruncatedError("the file ends inside a skippable frame")
    return members


def _walk_blocks(file: BinaryIO, header: Header, member: int, start: int) -> tuple[Index, int]:
    """Step over block frames to the index; the index and the size of all frames with it."""
    at = start
    seen = Index(coding=pack_coding(header))
    while True:
        file.seek(at)
        head = file.read(64)
        if head[:1] == BLOCK_FRAME:
            place = Place(member, len(seen.blocks))
            block, size = parse_block_header(head, header, place)
            at += size + block.payload_size
            seen.blocks.append((block.raw_size, size + block.payload_size))
        elif head[:1] == INDEX_FRAME:
            file.seek(at)
            # No more than an index of these blocks takes, whatever follows or it claims.
            index, size = parse_index(file.read(len(build_index(seen))))
            if (index.blocks, index.coding) != (seen.blocks, seen.coding):
                raise CorruptError("the index does not agree with the blocks")
            return index, at + size - start
        elif not head:
            raise TruncatedError("the file ends before its index")
        else:
            raise CorruptError("damaged between two blocks")


def _need(data: Buffer, size: int) -> None:
    if len(data) < size:
        raise TruncatedError("the stream ends too early")


def _bound(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise CorruptError(f"the stream names a {what} of {value}, allowed are {least} to {most}")
