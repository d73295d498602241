"""Decoding blocks: what a header asks for, opened once for all blocks of its member."""

from dataclasses import dataclass, replace
from typing import Unpack

from nczip.blocks import decode_block
from nczip.coder.errors import CorruptError, LimitError
from nczip.engines import open_model, session_bytes, tell
from nczip.formats.container import Header, Place, check32, read_block_header
from nczip.headers import open_codec
from nczip.limits import check_memory, decoding_memory, workers_within
from nczip.options import DecompressKeywords, DecompressOptions
from nczip.predictors.codec import CodecSettings

_MOST_OPEN = 16  # files may have a header for every few bytes


@dataclass(frozen=True)
class BlockDecoder:
    """Decodes the blocks of a member, in any order."""

    header: Header
    codec: CodecSettings
    workers: int  #: blocks at a time, as many as are wanted and memory allows

    def decode(self, frame: bytes, place: Place | None = None) -> bytes:
        """The verified raw bytes of a whole block frame.

        Args:
            frame: that, and nothing else.
            place: where it must belong; None for anywhere.

        Raises:
            CorruptError: it is damaged, or another one.
            EngineError: see :func:`nczip.blocks.decode_block`.
        """
        block, size, place_sum = read_block_header(frame, self.header)
        payload = frame[size:]
        is_there = place is None or place_sum == place.sum
        if not is_there or check32(payload) != block.payload_check:
            raise CorruptError("a block is damaged, or not where it belongs")
        return decode_block(block, payload, self.codec)


def open_decoder(header: Header, options: DecompressOptions) -> BlockDecoder:
    """Get ready for the blocks of a member; bounds are checked before anything is allocated.

    Raises:
        LimitError: decoding needs more memory than the limit.
        ModelError, EngineError: the model or its engine is missing or differs.
        PrimerError: the primer is another one.
    """
    sizes = header.table_bits, header.block_size, header.primer != 0
    check_memory(decoding_memory(*sizes), options.most_memory)
    model = open_model(header, options.model, options.most_memory, options.workers, options.offload)
    tell(model, None, options.detail)
    memory = decoding_memory(*sizes, session_bytes(header, model))
    workers = workers_within(memory, options.most_memory, options.workers)
    codec = open_codec(header, model, options.workers, options.announce)
    return BlockDecoder(header, codec, workers)


class Decoders:
    """The decoders of a file's members, of which those with equal headers share one.

    Args:
        options: see :class:`~nczip.options.DecompressOptions`.
    """

    def __init__(self, **options: Unpack[DecompressKeywords]) -> None:
        self.options = replace(DecompressOptions(**options), detail=None)
        self._opened: dict[Header, BlockDecoder] = {}

    def of(self, header: Header) -> BlockDecoder:
        """That of a header; raises as :func:`open_decoder`."""
        bare = replace(header, extensions=())
        if bare not in self._opened:
            if len(self._opened) == _MOST_OPEN:
                self._opened.clear()
            self._opened[bare] = open_decoder(bare, self.options)
        return self._opened[bare]


def check_output(size: int, limit: int | None) -> None:
    """Raise LimitError where a stream holds more bytes than may come out."""
    if limit is not None and size > limit:
        raise LimitError(
            f"the stream holds more than the {limit} bytes that are allowed: "
            "raise it with --max-output"
        )
