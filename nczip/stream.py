"""Streaming compressor and decompressor, in the shape of :mod:`lzma`'s."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Unpack

import xxhash

from nczip.blocks import decode_block
from nczip.buffers import Buffer, byte_view
from nczip.coder.errors import CorruptError, TruncatedError
from nczip.decoding import BlockDecoder, check_output, open_decoder
from nczip.engines import tell
from nczip.formats.container import (
    BLOCK_FRAME,
    INDEX_FRAME,
    MAGIC,
    SKIPPABLE_MAGIC,
    BlockHeader,
    Header,
    Index,
    Place,
    build_block,
    build_index,
    check32,
    member_check,
    pack_coding,
    pack_header,
    parse_block_header,
    parse_header,
    parse_skippable,
)
from nczip.headers import build_header, open_codec
from nczip.options import (
    CompressKeywords,
    CompressOptions,
    DecompressKeywords,
    DecompressOptions,
)
from nczip.planning import Choice, Needs, analyse, candidates, needs_of, smallest
from nczip.predictors.codec import CodecSettings
from nczip.presets import Level, PresetName
from nczip.settings import Settings, choose, fit_tables
from nczip.workers import OrderedPool

# Up to this size a lone block is coded without the model in any case: naming it costs 60 bytes.
_SMALL = 1 << 14


class Compressor:
    """Compresses a stream into one member.

    As in :mod:`compression.zstd`, a mode says how far what is returned must reach: ``CONTINUE``
    waits for whole blocks; ``FLUSH_BLOCK`` ends the block, so that all bytes given so far can be
    decoded from what has been returned; ``FLUSH_FRAME`` ends the member. Each block starts anew,
    so blocks of less than some ten thousand bytes cost much.

    Examples:
        >>> import nczip
        >>> stream = nczip.Compressor("fast")
        >>> packed = stream.compress(b"in ") + stream.compress(b"pieces") + stream.flush()
        >>> nczip.decompress(packed)
        b'in pieces'

    Args:
        preset: a name (``fast``, ``default``, ``max``, ``smollm2``) or a level, as in
            :data:`~nczip.presets.LEVELS`.
        options: see :class:`~nczip.options.CompressOptions`. Who names a model or an engine gets
            it for all text; else a block does without where that is smaller.

    Raises:
        ValueError, ModelError, EngineError: see :func:`nczip.settings.choose`.
    """

    #: Names of predictors.ensemble.parts that have no say, to measure what they are worth; such a
    #: stream cannot be decoded.
    without: frozenset[str] = frozenset()

    CONTINUE, FLUSH_BLOCK, FLUSH_FRAME = range(3)

    def __init__(
        self, preset: PresetName | Level = "default", **options: Unpack[CompressKeywords]
    ) -> None:
        chosen = CompressOptions(preset, **options)
        self._settings = choose(chosen)
        self._workers = chosen.workers
        self._announce = chosen.announce
        tell(self._settings.model, chosen.announce, chosen.detail)
        self._pool: OrderedPool[tuple[int, bytes]] = OrderedPool(chosen.workers)
        self._buffer = bytearray()
        self._whole = xxhash.xxh3_64()
        self._index = Index()
        self._codec: CodecSettings | None = None
        self._member = 0  # the check of the header
        self._submitted = 0  # blocks
        self._taken = 0  # raw bytes
        self._pledged: int | None = None
        self._flushed = False

    def set_pledged_input_size(self, size: int | None) -> None:
        """Say beforehand how many raw bytes will come (None: unknown), which is held against them.

        Other sizes raise ValueError: more at once, fewer when the member is to end. Decoding then
        takes no more memory than so many bytes need.
        """
        if self._taken or self._flushed:
            raise ValueError("the size comes before the bytes")
        if size is not None and size < 0:
            raise ValueError(f"{size} bytes cannot be")
        self._pledged = size

    def compress(self, data: Buffer, mode: int = CONTINUE) -> bytes:
        """Take more raw bytes; returns what is ready of the compressed stream, or what mode asks.

        Raises:
            ValueError: more bytes than were pledged, or after the end of the member.
        """
        if mode not in (self.CONTINUE, self.FLUSH_BLOCK, self.FLUSH_FRAME):
            raise ValueError(f"unknown mode {mode!r}")
        out = self._take(byte_view(data))
        return out if mode == self.CONTINUE else out + self.flush(mode)

    def _take(self, data: memoryview) -> bytes:
        if self._flushed:
            raise ValueError("the compressor has been flushed")
        if self._pledged is not None and self._taken + len(data) > self._pledged:
            raise ValueError(f"more than the {self._pledged} bytes that were pledged")
        self._taken += len(data)
        self._buffer += data
        out = []
        size = self._settings.block_size
        # One byte more than a block must wait: the last block is known as such only in flush().
        while len(self._buffer) > size:
            raw = bytes(self._buffer[:size])
            del self._buffer[:size]
            out.append(self._start_block(raw))
        out += [self._account(*block) for block in self._pool.finished()]
        return b"".join(out)

    def flush(self, mode: int = FLUSH_FRAME) -> bytes:
        """End the member, after which the compressor cannot be used again, or only the block.

        Returns the rest of the compressed stream, or of what has been given so far.

        Raises:
            ValueError: fewer bytes came than were pledged, or the member has ended before.
        """
        if mode not in (self.FLUSH_BLOCK, self.FLUSH_FRAME):
            raise ValueError("flush takes FLUSH_BLOCK or FLUSH_FRAME")
        if self._flushed:
            raise ValueError("the compressor has been flushed")
        return self._end_block() if mode == self.FLUSH_BLOCK else self._end_member()

    def _end_member(self) -> bytes:
        if self._pledged is not None and self._taken != self._pledged:
            raise ValueError(f"{self._taken} bytes came of the {self._pledged} that were pledged")
        self._flushed = True
        try:
            if self._codec is None:
                raw = bytes(self._buffer)
                self._buffer.clear()
                out = self._only_block(raw)
            else:
                out = self._end_block()
        finally:
            self._pool.close()
        self._index.whole_check = self._whole.intdigest()
        return out + build_index(self._index)

    def _end_block(self) -> bytes:
        """Frames of all that has been taken."""
        raw = bytes(self._buffer)
        self._buffer.clear()
        out = [self._start_block(raw)] if raw else []
        while not self._pool.is_empty:
            out.append(self._account(*self._pool.take()))
        return b"".join(out)

    def _start_block(self, raw: bytes) -> bytes:
        """Submit a block of a longer stream; returns a header before the first, and blocks done."""
        out = []
        if self._codec is None:
            out.append(self._open_member())
        if self._pool.is_full:
            out.append(self._account(*self._pool.take()))
        self._whole.update(raw)
        self._pool.submit(self._encode, raw, self._next_place())
        return b"".join(out)

    def _open_member(self) -> bytes:
        """The header of a longer stream, whose codec is then there."""
        settings = self._settings
        if self._pledged is not None:
            settings = fit_tables(settings, self._pledged)
        header = self._header(settings, self._available)
        self._codec = self._open_codec(header)
        return self._start_member(header)

    def _encode(self, raw: bytes, place: Place) -> tuple[int, bytes]:
        """The size of a block of many, and its frame."""
        assert self._codec is not None
        ways = candidates(analyse(raw), self._available, self._settings.insist)
        return len(raw), _frame(raw, smallest(ways, self._codec), place)

    def _only_block(self, raw: bytes) -> bytes:
        """Header and frame of a stream of one block or none.

        Its tables need not be larger than it can fill, and a model or a primer that it does not
        use is not named, so that it opens where they are not.
        """
        self._whole.update(raw)
        settings = fit_tables(self._settings, len(raw))
        if not raw:
            return self._start_member(self._header(settings, Needs()))
        insist = settings.insist and len(raw) > _SMALL
        ways = candidates(analyse(raw), self._available, insist)
        full = self._header(settings, needs_of(ways))

        def header(needs: Needs) -> Header:
            """The header of a member that needs no more than this."""
            model, primer = full.model if needs.model else None, full.primer if needs.primer else 0
            return replace(full, model=model, primer=primer)

        def overhead(needs: Needs) -> int:
            return len(pack_header(header(needs))) + len(pack_coding(header(needs)))

        choice = smallest(ways, self._open_codec(full), overhead)
        head = self._start_member(header(choice.needs))
        return head + self._account(len(raw), _frame(raw, choice, self._next_place()))

    def _start_member(self, header: Header) -> bytes:
        """The packed header."""
        head = pack_header(header)
        self._member = member_check(head)
        self._index.coding = pack_coding(header)
        return head

    def _next_place(self) -> Place:
        self._submitted += 1
        return Place(self._member, self._submitted - 1)

    @property
    def _available(self) -> Needs:
        """What blocks may make use of."""
        return Needs(self._settings.model is not None, self._settings.primer)

    def _header(self, settings: Settings, needs: Needs) -> Header:
        return build_header(settings, needs, self._workers)

    def _open_codec(self, header: Header) -> CodecSettings:
        model = self._settings.model if header.model is not None else None
        codec = open_codec(header, model, self._workers, self._announce)
        return replace(codec, without=self.without)

    def _account(self, raw_size: int, frame: bytes) -> bytes:
        self._index.blocks.append((raw_size, len(frame)))
        return frame


class BlockEncoder:
    """Header and frames of a stream of more than one block, in whatever order they are wanted.

    Joined in their order, and with the :func:`~nczip.formats.container.build_index` of them, they
    are what a :class:`Compressor` with the same options makes of the blocks' bytes.

    Args:
        preset: as for :class:`Compressor`.
        options: likewise.

    Attributes:
        block_size: raw bytes of every block but the last, which may have fewer.
        head: the member's header.
    """

    def __init__(
        self, preset: PresetName | Level = "default", **options: Unpack[CompressKeywords]
    ) -> None:
        self._compressor = Compressor(preset, **options)
        self.block_size = self._compressor._settings.block_size
        self.head = self._compressor._open_member()

    def encode(self, raw: bytes, number: int) -> bytes:
        """The frame of the block before which there are ``number`` others."""
        return self._compressor._encode(raw, Place(member_check(self.head), number))[1]


def _frame(raw: bytes, choice: Choice, place: Place) -> bytes:
    return build_block(len(raw), xxhash.xxh3_64_intdigest(raw), choice.payload, place)


class Decompressor:
    """Decompresses one member, whatever the pieces in which it arrives.

    Examples:
        >>> import nczip
        >>> packed = nczip.compress(b"in pieces", "fast")
        >>> decompressor = nczip.Decompressor()
        >>> b"".join(decompressor.decompress(packed[at : at + 1]) for at in range(len(packed)))
        b'in pieces'
        >>> decompressor.eof
        True

    Args:
        options: see :class:`~nczip.options.DecompressOptions`.

    Attributes:
        eof: whether the end of the member has been reached, and all of it returned.
        unused_data: bytes behind the end of the member.
        needs_input: whether :meth:`decompress` has nothing to return without more input.
        header: the member's :class:`~nczip.formats.container.Header`, once it has been read.
    """

    def __init__(self, **options: Unpack[DecompressKeywords]) -> None:
        self._has_ended = False
        self.unused_data = b""
        self.header: Header | None = None
        self._options = DecompressOptions(**options)
        self._pool: OrderedPool[bytes] = OrderedPool(1)
        self._decoder: BlockDecoder | None = None
        self._member = 0  # the check of the header
        self._raw_size = 0  # of the blocks that have been read
        self._skipped = False
        self._to_skip = 0  # bytes of a skippable frame that have not arrived
        self._input = bytearray()
        self._is_starved = True  # whether nothing is left that could be done without more input
        self._ready = bytearray()
        self._whole = xxhash.xxh3_64()
        self._index = Index()
        self._index_left: memoryview | None = None  # what must come, once the index has begun
        self._error: BaseException | None = None

    @property
    def eof(self) -> bool:
        return self._has_ended and not self._ready

    @property
    def needs_input(self) -> bool:
        return self._is_starved and not self._ready and not self._has_ended

    def decompress(self, data: Buffer, max_length: int = -1) -> bytes:
        """Take more compressed bytes; returns at most ``max_length`` raw bytes (-1: all there are).

        Every block is verified before its bytes are returned. After an error, every call raises it
        again.

        Raises:
            FormatError, CorruptError: not nczip, unknown, or damaged.
            LimitError: decoding needs more memory, or gives more bytes, than the limit.
            ModelError, EngineError: the model or its engine is missing or differs.
            PrimerError: the primer is another one.
            EOFError: the end has been reached before.
        """
        if self._error is not None:
            raise self._error
        if self.eof:
            raise EOFError("the end of the stream has been reached")
        self._input += byte_view(data)
        # Also where nothing may be returned a block is decoded: only then is it known to be there.
        wanted = max(max_length, 1)
        if max_length < 0 or len(self._ready) < wanted:
            try:
                self._is_starved = True
                for raw in self._advance():
                    self._ready += raw
                    if max_length >= 0 and len(self._ready) >= wanted:
                        self._is_starved = False
                        break
            except BaseException as error:
                self._error = error
                self._pool.close()
                raise
        size = len(self._ready) if max_length < 0 else min(max_length, len(self._ready))
        out = bytes(self._ready[:size])
        del self._ready[:size]
        return out

    def finish(self) -> None:
        """Declare the end of the input; skippable frames may stand there instead of a member.

        Raises:
            TruncatedError: the stream is not complete.
        """
        self._pool.close()
        is_between = not self._input and not self._to_skip and self.header is None
        if not self.eof and not (self._skipped and is_between):
            raise TruncatedError("the compressed data ends before the stream does")

    def _advance(self) -> Iterator[bytes]:
        """Parse what has arrived; yields verified blocks in order."""
        try:
            while not self._has_ended:
                yield from map(self._account, self._pool.finished())
                if self._decoder is None:
                    self._read_header()
                elif self._index_left is not None:
                    self._read_index(self._index_left)
                elif self._input[:1] == BLOCK_FRAME:
                    # Before the block is read: a caller who has enough may not come back here.
                    if self._pool.is_full:
                        yield self._account(self._pool.take())
                    block, payload = self._read_block(self._decoder.header)
                    self._pool.submit(decode_block, block, payload, self._decoder.codec)
                elif self._input[:1] == INDEX_FRAME:
                    while not self._pool.is_empty:
                        yield self._account(self._pool.take())
                    self._index.whole_check = self._whole.intdigest()
                    self._index_left = memoryview(build_index(self._index))
                elif self._input:
                    raise CorruptError("the stream is damaged between two blocks")
                else:
                    return
        except TruncatedError:
            return  # more input may complete it; finish() says so where it does not come

    def _read_header(self) -> None:
        self._skip()
        while self._input[:4] == SKIPPABLE_MAGIC:
            self._to_skip = parse_skippable(self._input)
            self._skipped = True
            self._skip()
        header, size = parse_header(self._input)
        self._decoder = open_decoder(header, self._options)
        self._pool = OrderedPool(self._decoder.workers)
        self._index.coding = pack_coding(header)
        self._member = member_check(self._input[:size])
        del self._input[:size]
        self.header = header

    def _skip(self) -> None:
        """Drop what has arrived of a skippable frame.

        Raises:
            TruncatedError: not all of it has.
        """
        arrived = min(self._to_skip, len(self._input))
        del self._input[:arrived]
        self._to_skip -= arrived
        if self._to_skip:
            raise TruncatedError("the data ends inside a skippable frame")

    def _read_block(self, header: Header) -> tuple[BlockHeader, bytes]:
        place = Place(self._member, len(self._index.blocks))
        block, size = parse_block_header(self._input, header, place)
        check_output(self._raw_size + block.raw_size, self._options.max_output)
        frame_size = size + block.payload_size
        if len(self._input) < frame_size:
            raise TruncatedError("the data ends inside a block")
        payload = bytes(self._input[size:frame_size])
        if check32(payload) != block.payload_check:
            raise CorruptError("a block is damaged")
        del self._input[:frame_size]
        self._index.blocks.append((block.raw_size, frame_size))
        self._raw_size += block.raw_size
        return block, payload

    def _read_index(self, left: memoryview) -> None:
        """Compare what arrives with the index that the blocks before it must have."""
        size = min(len(left), len(self._input))
        if left[:size] != self._input[:size]:
            raise CorruptError("the index is damaged, or does not agree with the blocks")
        del self._input[:size]
        self._index_left = left[size:]
        if len(self._index_left):
            raise TruncatedError("the data ends inside the index")
        self.unused_data = bytes(self._input)
        self._input.clear()
        self._has_ended = True
        self._pool.close()

    def _account(self, raw: bytes) -> bytes:
        self._whole.update(raw)
        return raw


def is_stream_start(data: bytes) -> bool:
    """Whether ``data`` (4 bytes or more) may start a member or a skippable frame."""
    return data[:4] in (MAGIC, SKIPPABLE_MAGIC)
