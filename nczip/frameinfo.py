"""What the start of compressed bytes tells of them, without decoding."""

from dataclasses import dataclass

from nczip.buffers import Buffer, byte_view
from nczip.coder.errors import TruncatedError
from nczip.formats.container import (
    ENGINE_NAMES,
    ENGINE_NONE,
    SKIPPABLE_MAGIC,
    parse_header,
    parse_skippable,
)
from nczip.frames import FrameCounter
from nczip.limits import decoding_memory


@dataclass(frozen=True)
class FrameInfo:
    """A member, as its header describes it."""

    decompressed_size: int | None  #: raw bytes; None where not all of the member is at hand
    block_size: int  #: no block holds more raw bytes
    memory: int  #: bytes that decoding takes on one thread, beside the model
    primer: str | None  #: 8 hexadecimal digits of the primer that blocks may use
    engine: str  #: none, exact or llama
    model: str | None  #: the model's name
    model_sha256: str | None  #: the first 16 hexadecimal digits of its file's SHA-256


def get_frame_info(frame_buffer: Buffer) -> FrameInfo:
    """What the first member in some bytes is; its header suffices, some 100 bytes or fewer.

    Raises:
        FormatError: the bytes are not nczip's, or of another version.
        CorruptError, TruncatedError: the header is damaged, or not all there.
    """
    data = byte_view(frame_buffer)
    at = 0
    while data[at : at + 4] == SKIPPABLE_MAGIC:
        at += parse_skippable(data[at:])
        if at > len(data):
            raise TruncatedError("the data ends inside a skippable frame")
    header, _ = parse_header(data[at:])
    counter = FrameCounter()
    counter.feed(bytes(data[at:]))
    memory = decoding_memory(header.table_bits, header.block_size, header.primer != 0)
    model = header.model
    return FrameInfo(
        decompressed_size=counter.raw_size if counter.is_over else None,
        block_size=header.block_size,
        memory=memory.worker + memory.shared,
        primer=f"{header.primer:08x}" if header.primer else None,
        engine=ENGINE_NAMES[model.engine if model else ENGINE_NONE],
        model=model.name if model else None,
        model_sha256=model.fingerprint.hex() if model else None,
    )
