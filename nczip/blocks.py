"""A block's raw bytes as a payload, and back.

The payload's first byte says how the block is kept: stored as it is, by zstd (where the bytes are
so redundant that prediction has nothing to add), or modelled: a run table, the stored runs, and
the coded string, as text with or without the primer, or with contexts of binary data. Flags beside
it say that LF stands for CRLF in what is kept, and that breaks of lines are kept apart.
"""

from dataclasses import replace

import xxhash
import zstandard

from nczip.coder.errors import CorruptError, EngineError, NczipError, TruncatedError
from nczip.formats.container import BlockHeader, Header, build_block, parse_block_header
from nczip.formats.newlines import to_crlf, to_lf
from nczip.formats.segment import (
    Kind,
    build_runs,
    gather,
    has_text,
    is_mostly_text,
    parse_runs,
    scatter,
    segment,
)
from nczip.formats.varint import decode_varint, encode_varint
from nczip.predictors.codec import CodecSettings, decode, encode
from nczip.predictors.linebreaks import find_width, put_back, take_out

STORED, ZSTD, MODELLED, PRIMED, BINARY = b"\0", b"\1", b"\2", b"\3", b"\4"
# Beside the kind; what they need follows it: the number of line ends; width, size and breaks.
_CRLF, _UNBROKEN = 0x80, 0x40
_FLAGS = _CRLF | _UNBROKEN

# zstd within a thousandth of the raw size cannot be beaten by much, and is a thousand times faster.
_REDUNDANT = 1000
_ZSTD_LEVEL = 19
_TINY = 256


def encode_block(raw: bytes, settings: CodecSettings, insist: bool = False) -> bytes:
    """The frame of a block; never more than a few bytes larger than ``raw``.

    Text is also coded by the ensemble alone, and the transformer left out where that is smaller,
    unless ``insist``.
    """
    flags, apart, text = _set_apart(raw) if is_mostly_text(raw) else (0, b"", raw)
    payload = min(_candidates(text, settings, insist), key=len)
    if flags:
        flagged = bytes([payload[0] | flags]) + apart + payload[1:]
        payload = min(flagged, STORED + raw, key=len)
    return build_block(len(raw), xxhash.xxh3_64_intdigest(raw), payload)


def _set_apart(raw: bytes) -> tuple[int, bytes, bytes]:
    """What is kept apart from text, as flags and their bytes, and what remains of the text."""
    flags, apart = 0, b""
    text, lines = to_lf(raw)
    if lines:
        flags, apart = _CRLF, encode_varint(lines)
    width = find_width(text)
    if width:
        text, breaks = take_out(text, width)
        flags |= _UNBROKEN
        apart += bytes([width]) + encode_varint(len(breaks)) + breaks
    return flags, apart, text


def _candidates(raw: bytes, settings: CodecSettings, insist: bool) -> list[bytes]:
    """Payloads that decode to ``raw``; costly ones only where they can win."""
    plain = segment(raw, with_text=False)
    candidates = [STORED + raw]
    squeezed = zstandard.compress(raw, 3)
    if len(squeezed) * _REDUNDANT < len(raw):
        return [ZSTD + zstandard.compress(raw, _ZSTD_LEVEL)]
    if all(run.kind == Kind.STORED for run in plain):
        return candidates
    if len(raw) <= _TINY:
        candidates.append(ZSTD + zstandard.compress(raw, _ZSTD_LEVEL))
    kind = BINARY
    if is_mostly_text(raw):
        kind = MODELLED if settings.primer is None else PRIMED
    segmentations = [plain]
    if settings.transformer is not None and has_text(raw):
        # The ensemble alone takes a twentieth of the time, and at times it needs fewer bits.
        segmentations = ([] if insist else [plain]) + [segment(raw, with_text=True)]
    for runs in segmentations:
        text, binary = gather(raw, runs, Kind.TEXT), gather(raw, runs, Kind.BINARY)
        coded = encode(text, binary, _settings_of(kind, settings))
        if coded is not None:
            candidates.append(kind + build_runs(runs) + gather(raw, runs, Kind.STORED) + coded)
    return candidates


def needs_primer(frame: bytes, header: Header) -> bool:
    """Whether the frame of a block of a member can only be decoded with the primer."""
    _, start = parse_block_header(frame, header)
    return frame[start] & ~_FLAGS == PRIMED[0]


def _settings_of(kind: bytes, settings: CodecSettings) -> CodecSettings:
    """The settings for a modelled block of a kind."""
    if kind == PRIMED and settings.primer is None:
        raise CorruptError("a block needs the primer, but the header names none")
    primer = settings.primer if kind == PRIMED else None
    return replace(settings, primer=primer, binary=kind == BINARY)


def decode_block(header: BlockHeader, payload: bytes, settings: CodecSettings) -> bytes:
    """The raw bytes of a block, verified against its check.

    Raises:
        CorruptError: the payload does not decode to what the header says.
        EngineError: it decodes to something else although it is undamaged, under an engine that
            is not the same on every machine.
    """
    try:
        raw = _put_together(header.raw_size, payload, settings)
    except (zstandard.ZstdError, IndexError, TruncatedError) as error:
        raise CorruptError(f"a block is damaged ({error})") from error
    if len(raw) == header.raw_size and xxhash.xxh3_64_intdigest(raw) == header.raw_check:
        return raw
    raise _mismatch(settings)


def _put_together(raw_size: int, payload: bytes, settings: CodecSettings) -> bytes:
    """The raw bytes of a payload, with what is kept apart put back."""
    flags = payload[0] & _FLAGS
    kind = bytes([payload[0] ^ flags])
    lines, width, breaks, at = 0, 0, b"", 1
    if flags & _CRLF:
        lines, at = decode_varint(payload, at)
        if 2 * lines > raw_size:
            raise CorruptError("a block is damaged (number of its lines)")
    if flags & _UNBROKEN:
        width = payload[at]
        size, at = decode_varint(payload, at + 1)
        breaks, at = payload[at : at + size], at + size
    text = _decode_payload(raw_size - lines, kind + payload[at:], settings)
    if flags & _UNBROKEN:
        text = put_back(text, width, breaks)
    return to_crlf(text) if flags & _CRLF else text


def _decode_payload(raw_size: int, payload: bytes, settings: CodecSettings) -> bytes:
    kind, body = payload[:1], payload[1:]
    if kind == STORED:
        return body
    if kind == ZSTD:
        if zstandard.frame_content_size(body) != raw_size:
            raise CorruptError("a block is damaged (size of its zstd frame)")
        return zstandard.ZstdDecompressor().decompress(body)
    if kind not in (MODELLED, PRIMED, BINARY):
        raise CorruptError(f"a block of unknown kind {payload[0]}")
    runs, at = parse_runs(body, raw_size)
    sizes = {kind: sum(run.size for run in runs if run.kind == kind) for kind in Kind}
    stored = body[at : at + sizes[Kind.STORED]]
    coded = body[at + sizes[Kind.STORED] :]
    text, binary = decode(coded, sizes[Kind.TEXT], sizes[Kind.BINARY], _settings_of(kind, settings))
    return scatter(runs, {Kind.STORED: stored, Kind.TEXT: text, Kind.BINARY: binary})


def _mismatch(settings: CodecSettings) -> NczipError:
    """The payload's check held, so the bytes arrived whole; what they decode to is wrong."""
    transformer = settings.transformer
    if transformer is not None and transformer.engine.name == "llama":
        return EngineError(
            "a block decodes to other bytes than were compressed: this machine's llama.cpp does "
            "not reproduce the logits of the machine that made the file"
        )
    return CorruptError("a block does not decode to the bytes that were compressed")
