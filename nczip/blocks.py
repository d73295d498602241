"""A block's raw bytes as a payload, and back.

The payload's first byte says how the block is kept: stored as it is, by zstd (where the bytes are
so redundant that prediction has nothing to add), or modelled: a run table, the stored runs, and
the coded string, as text with or without the primer, or with contexts of binary data. Flags beside
it say that LF stands for CRLF in what is kept, and that breaks of lines are kept apart. Which of
these serves best is chosen in :mod:`nczip.planning`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import xxhash
import zstandard

from nczip.coder.errors import CorruptError, EngineError, NczipError, TruncatedError
from nczip.formats.container import BlockHeader
from nczip.formats.runs import Run, RunKind, build_runs, gather, parse_runs, scatter, size_of
from nczip.formats.transforms.linebreaks import put_back
from nczip.formats.transforms.newlines import to_crlf
from nczip.formats.varint import decode_varint, encode_varint
from nczip.predictors.codec import CodecSettings, decode, encode

# Beside the kind; what they need follows it: the number of line ends; width, size and breaks.
_CRLF, _UNBROKEN = 0x80, 0x40
_FLAGS = _CRLF | _UNBROKEN

_ZSTD_LEVEL = 19

# A modelled block has at most so many raw bytes for each of its payload's: what is more redundant
# is kept by zstd, and a few bytes do not keep a decoder busy for hours.
MOST_EXPANSION = 4096


class BlockKind(IntEnum):
    """How a block is kept."""

    STORED = 0
    ZSTD = 1
    MODELLED = 2
    PRIMED = 3
    BINARY = 4


@dataclass(frozen=True)
class Apart:
    """What is kept apart from a block's text."""

    line_ends: int = 0  #: for so many CRLFs the text has LF; 0 where it has none
    width: int = 0  #: the width at which breaks of lines were taken out; 0 where none were
    breaks: bytes = b""  #: those breaks, coded


def build_payload(
    kind: BlockKind, text: bytes, apart: Apart, runs: Sequence[Run], settings: CodecSettings
) -> bytes | None:
    """The payload of a block kept in one way; None where that is not possible.

    Coding may not make it smaller, or so small that zstd must serve.

    Args:
        kind: how ``text`` is kept.
        text: the block without what is kept apart.
        apart: what that is.
        runs: of ``text``, where it is modelled.
        settings: how it is modelled.
    """
    flags, fields = 0, b""
    if apart.line_ends:
        flags |= _CRLF
        fields += encode_varint(apart.line_ends)
    if apart.width:
        flags |= _UNBROKEN
        fields += bytes([apart.width]) + encode_varint(len(apart.breaks)) + apart.breaks
    body = _build_body(kind, text, runs, settings)
    return None if body is None else bytes([kind | flags]) + fields + body


def _build_body(
    kind: BlockKind, text: bytes, runs: Sequence[Run], settings: CodecSettings
) -> bytes | None:
    if kind == BlockKind.STORED:
        return text
    if kind == BlockKind.ZSTD:
        return zstandard.compress(text, _ZSTD_LEVEL)
    tokens, binary = gather(text, runs, RunKind.TEXT), gather(text, runs, RunKind.BINARY)
    coded = encode(tokens, binary, _settings_of(kind, settings))
    if coded is None:
        return None
    body = build_runs(runs) + gather(text, runs, RunKind.STORED) + coded
    return body if len(text) <= MOST_EXPANSION * len(body) else None


def _settings_of(kind: BlockKind, settings: CodecSettings) -> CodecSettings:
    """The settings for a modelled block of a kind."""
    if kind == BlockKind.PRIMED and settings.primer is None:
        raise CorruptError("a block needs the primer, but the header names none")
    primer = settings.primer if kind == BlockKind.PRIMED else None
    return replace(settings, primer=primer, binary=kind == BlockKind.BINARY)


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
    kind, apart, start = _parse_start(payload)
    if 2 * apart.line_ends > raw_size:
        raise CorruptError("a block is damaged (number of its lines)")
    text = _decode_body(kind, payload[start:], raw_size - apart.line_ends, settings)
    if apart.width:
        text = put_back(text, apart.width, apart.breaks)
    return to_crlf(text) if apart.line_ends else text


def _parse_start(payload: bytes) -> tuple[BlockKind, Apart, int]:
    """A payload's kind, what it keeps apart, and where its body starts."""
    flags = payload[0] & _FLAGS
    try:
        kind = BlockKind(payload[0] ^ flags)
    except ValueError:
        raise CorruptError(f"a block of unknown kind {payload[0]}") from None
    line_ends, width, breaks, at = 0, 0, b"", 1
    if flags & _CRLF:
        line_ends, at = decode_varint(payload, at)
    if flags & _UNBROKEN:
        width = payload[at]
        size, at = decode_varint(payload, at + 1)
        breaks, at = payload[at : at + size], at + size
    return kind, Apart(line_ends, width, breaks), at


def _decode_body(kind: BlockKind, body: bytes, size: int, settings: CodecSettings) -> bytes:
    if kind == BlockKind.STORED:
        return body
    if kind == BlockKind.ZSTD:
        if zstandard.frame_content_size(body) != size:
            raise CorruptError("a block is damaged (size of its zstd frame)")
        return zstandard.ZstdDecompressor().decompress(body)
    if size > MOST_EXPANSION * len(body):
        raise CorruptError("a block claims more bytes than it can hold")
    runs, at = parse_runs(body, size)
    if settings.transformer is None and size_of(runs, RunKind.TEXT):
        raise CorruptError("a block needs a model, but the header names none")
    coded = at + size_of(runs, RunKind.STORED)
    text, binary = decode(
        body[coded:],
        size_of(runs, RunKind.TEXT),
        size_of(runs, RunKind.BINARY),
        _settings_of(kind, settings),
    )
    parts = {RunKind.STORED: body[at:coded], RunKind.TEXT: text, RunKind.BINARY: binary}
    return scatter(runs, parts)


def _mismatch(settings: CodecSettings) -> NczipError:
    """The payload's check held, so the bytes arrived whole; what they decode to is wrong."""
    transformer = settings.transformer
    if transformer is not None and transformer.engine.name == "llama":
        return EngineError(
            "a block decodes to other bytes than were compressed: this machine's llama.cpp does "
            "not reproduce the logits of the machine that made the file"
        )
    return CorruptError("a block does not decode to the bytes that were compressed")
