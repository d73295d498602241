"""Streams of strangers: neither time nor memory nor order beyond what they may have."""

import array
import io
import lzma
import time
import tracemalloc

import numpy as np
import pytest
import xxhash
from tests_support import english

import nczip
from nczip import blocks, stream
from nczip.errors import CorruptError, LimitError, NczipError
from nczip.file import decompress_chunks
from nczip.formats import container as ct
from nczip.formats.varint import encode_varint
from nczip.planning import analyse
from nczip.predictors.codec import CodecSettings

PLAIN = {"preset": "fast", "primer": False}
DATA = english(9000)
PACKED = nczip.compress(DATA, block_size=2048, **PLAIN)


def frames(packed):
    """Header, block frames and index of one member."""
    member = ct.scan_members(io.BytesIO(packed))[0]
    cuts = [0, member.header_size]
    for _, size in member.index.blocks:
        cuts.append(cuts[-1] + size)
    parts = [packed[a:b] for a, b in zip(cuts, [*cuts[1:], len(packed)], strict=True)]
    return parts[0], parts[1:-1], parts[-1]


def member_of(*payloads, block_size=1 << 28, raw_size=1 << 28):
    """A member of blocks whose checks hold, whatever their payloads."""
    head = ct.pack_header(ct.Header(block_size, 12, 1))
    check = ct.member_check(head)
    made = (
        ct.build_block(raw_size, 1, payload, ct.Place(check, number))
        for number, payload in enumerate(payloads)
    )
    return head + b"".join(made)


@pytest.mark.parametrize(
    ("decompressor", "packed"),
    [(nczip.Decompressor, PACKED), (lzma.LZMADecompressor, lzma.compress(DATA))],
)
@pytest.mark.parametrize("size", [1, 2047, 2048, 2049, 4096, 5000, 9000, 10_000])
def test_an_lzma_loop_reads_every_stream(decompressor, packed, size):
    """The loop of _compression.DecompressReader, which bz2, gzip and lzma share."""
    decoder, file, out = decompressor(), io.BytesIO(packed), b""
    for _ in range(20_000):
        if decoder.eof:
            break
        piece = file.read(1000) if decoder.needs_input else b""
        assert piece or not decoder.needs_input, "input is asked for behind the end"
        out += decoder.decompress(piece, size)
    assert decoder.eof and out == DATA


def test_the_end_is_not_reached_before_all_is_returned():
    decoder = nczip.Decompressor()
    out = decoder.decompress(PACKED + b"rest", 10)
    while not decoder.eof:
        assert not decoder.needs_input
        out += decoder.decompress(b"", 500)
    assert out == DATA and decoder.unused_data == b"rest"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("damage", [5, 300, -60, -6])
def test_an_error_is_raised_again_at_every_call(threads, damage):
    damaged = bytearray(PACKED)
    damaged[damage] ^= 1
    decoder = nczip.Decompressor(threads=threads)
    errors = []
    for data in (bytes(damaged), b"", PACKED):
        with pytest.raises(NczipError) as caught:
            decoder.decompress(data)
        errors.append(caught.value)
    assert errors[0] is errors[1] is errors[2]


def test_blocks_of_another_order_are_refused_before_their_bytes_are_returned():
    head, made, index = frames(PACKED)
    assert len(made) == 5
    swapped, repeated, dropped = (
        [made[1], made[0], *made[2:]],
        [made[0], made[0], *made[1:]],
        [made[0], *made[2:]],
    )
    for order, good in ((swapped, 0), (repeated, 2048), (dropped, 2048)):
        decoder, out = nczip.Decompressor(), b""
        with pytest.raises(CorruptError, match="where it belongs"):
            for byte in head + b"".join(order) + index:
                out += decoder.decompress(bytes([byte]))
        assert out == DATA[:good]


def test_a_block_of_another_member_is_refused():
    other = nczip.compress(english(9000, 2), block_size=2049, **PLAIN)
    head, made, index = frames(PACKED)
    made[1] = frames(other)[1][1]
    with pytest.raises(CorruptError, match="where it belongs"):
        nczip.decompress(head + b"".join(made) + index)


def test_a_few_bytes_do_not_claim_hours_of_work():
    runs = encode_varint(1) + encode_varint((1 << 28) << 2 | 1)
    for kind in (2, 4):
        bomb = member_of(bytes([kind]) + runs + b"coded")
        start = time.process_time()
        with pytest.raises(CorruptError, match="claims more"):
            nczip.decompress(bomb)
        assert time.process_time() - start < 5


def test_what_a_model_would_keep_too_well_is_kept_by_zstd(monkeypatch):
    monkeypatch.setattr(blocks, "MOST_EXPANSION", 2)
    data = b"".join(b"%d of a kind, " % (i % 3) for i in range(3000))
    packed = nczip.compress(data, **PLAIN)
    assert len(packed) < len(data) / 100
    assert nczip.decompress(packed) == data
    settings = CodecSettings(12, 0, 1, None)
    runs = analyse(DATA).plain_runs
    made = blocks.build_payload(blocks.BlockKind.MODELLED, DATA, blocks.Apart(), runs, settings)
    assert made is None


def test_an_index_is_compared_as_it_arrives():
    head, made, _ = frames(PACKED)
    decoder = nczip.Decompressor()
    decoder.decompress(head + b"".join(made))
    with pytest.raises(CorruptError, match="index"):
        decoder.decompress(b"I" + encode_varint(1 << 40))


def test_members_of_many_blocks_are_read_in_pieces_of_any_size():
    payload = b"\0x"
    check = xxhash.xxh3_64_intdigest(b"x")
    header = ct.Header(1, 12, 1)
    head = ct.pack_header(header)
    place = ct.member_check(head)
    count = 20_000
    body = [ct.build_block(1, check, payload, ct.Place(place, n)) for n in range(count)]
    index = ct.Index([(1, len(frame)) for frame in body], 0, ct.pack_coding(header))
    index.whole_check = xxhash.xxh3_64_intdigest(b"x" * count)
    packed = head + b"".join(body) + ct.build_index(index)
    decoder, out, start = nczip.Decompressor(), 0, time.process_time()
    for at in range(0, len(packed), 7):
        out += len(decoder.decompress(packed[at : at + 7]))
    assert decoder.eof and out == count
    assert time.process_time() - start < 20


def test_what_a_chunk_of_input_holds_does_not_pile_up():
    size = 1 << 22
    packed = nczip.compress(bytes(size * 40), block_size=size, **PLAIN)
    assert len(packed) < 1 << 16  # what one read of a file gets
    tracemalloc.start()
    try:
        total = sum(map(len, decompress_chunks(io.BytesIO(packed))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == size * 40
    assert peak < 8 * size


def test_a_skippable_frame_is_not_kept():
    size = 50_000_000
    decoder = nczip.Decompressor()
    decoder.decompress(ct.SKIPPABLE_MAGIC + size.to_bytes(4, "little"))
    piece = bytes(1 << 20)
    left = size
    while left:
        decoder.decompress(piece[:left])
        left -= len(piece[:left])
        assert len(decoder._input) <= len(piece)
    with pytest.raises(nczip.TruncatedError):
        nczip.decompress(ct.SKIPPABLE_MAGIC + (9).to_bytes(4, "little") + b"8 bytes.")
    assert decoder.decompress(PACKED) == DATA


def test_output_is_bounded_where_it_is_asked_for():
    assert nczip.decompress(PACKED, max_output=len(DATA)) == DATA
    with pytest.raises(LimitError, match="--max-output"):
        nczip.decompress(PACKED, max_output=len(DATA) - 1)
    two = PACKED + PACKED
    assert nczip.decompress(two, max_output=2 * len(DATA)) == DATA * 2
    with pytest.raises(LimitError):
        nczip.decompress(two, max_output=2 * len(DATA) - 1)


def test_windows_count_in_the_memory_that_decoding_needs(exact):
    model = ct.ModelId(ct.ENGINE_EXACT, exact.fingerprint[:8], "m", ct.MAX_LANES, ct.MAX_WINDOW, 0)
    head = ct.pack_header(ct.Header(4096, 12, 1, 0, model))
    with pytest.raises(LimitError, match="--memory"):
        nczip.Decompressor().decompress(head)
    assert exact.session_bytes(8, 512, 0) < 20 << 20
    session = exact.open_session(8, 512, 1)
    held = sum(array.nbytes for array in session._cache)
    session.close()
    assert abs(exact.session_bytes(8, 512, 0) - held) < 10_000


def test_there_are_no_more_workers_than_memory_for_them(monkeypatch):
    made = []
    monkeypatch.setattr(stream, "OrderedPool", lambda n: made.append(n) or _pool(n))
    packed = nczip.compress(DATA, block_size=2048, **PLAIN)
    need = 64 << ct.parse_header(packed)[0].table_bits
    made.clear()
    assert nczip.decompress(packed, threads=8, memory_limit=3 * need) == DATA
    assert made[-1] == 2


_pool = stream.OrderedPool


@pytest.mark.parametrize(
    "make",
    [
        bytearray,
        memoryview,
        lambda data: np.frombuffer(data, ">i4"),
        lambda data: np.frombuffer(data, np.uint8).reshape(100, 90),
        lambda data: array.array("H", data),
    ],
)
def test_any_contiguous_buffer_is_taken(make):
    compressor = nczip.Compressor(**PLAIN)
    packed = compressor.compress(make(DATA)) + compressor.flush()
    assert packed == nczip.compress(DATA, **PLAIN)


@pytest.mark.parametrize("make", [bytearray, memoryview, lambda data: np.frombuffer(data, np.int8)])
def test_compressed_data_may_lie_in_any_buffer(make):
    assert nczip.decompress(make(PACKED)) == DATA


def test_buffers_that_cannot_be_are_refused():
    with pytest.raises(BufferError, match="contiguous"):
        nczip.compress(np.zeros((5, 6), np.uint8)[:, ::2], **PLAIN)
    with pytest.raises(TypeError):
        nczip.compress("text", **PLAIN)
    assert nczip.decompress(nczip.compress(np.zeros((0, 4)), **PLAIN)) == b""
