"""Streams: every input comes back, damage never passes, pieces and threads do not matter."""

import bz2
import lzma
import random
import textwrap
import tracemalloc

import golden_files
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests_support import AWKWARD, english, noise, records

import nczip
from nczip.errors import CorruptError, FormatError, LimitError, NczipError, TruncatedError
from nczip.formats import container as ct
from nczip.predictors.codec import CodecSettings, decode, encode


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_inputs_round_trip(name):
    data = AWKWARD[name]
    coded = nczip.compress(data, "fast")
    assert nczip.decompress(coded) == data
    assert len(coded) < len(data) + 80


@pytest.mark.parametrize("preset", ["fast", "default"])
@pytest.mark.parametrize("primer", [False, True])
def test_crlf_costs_next_to_nothing(preset, primer):
    text = "\n".join(textwrap.wrap(english(9000).decode(), 70)).encode() + b"\n"
    crlf = text.replace(b"\n", b"\r\n")
    coded = nczip.compress(crlf, preset, primer=primer)
    assert nczip.decompress(coded) == crlf
    assert len(coded) <= len(nczip.compress(text, preset, primer=primer)) + 4


@pytest.mark.parametrize("damage", [b"a\nb\r\n", b"a\r\nb\r", b"\ra\r\n", b"\r\n\n\r", b"\n\r"])
def test_mixed_line_ends_round_trip(damage):
    for data in (damage, english(5000).replace(b" ", b"\r\n") + damage):
        assert nczip.decompress(nczip.compress(data, "fast")) == data


@pytest.mark.parametrize("lanes", [1, 2, 7])
def test_byte_lanes_round_trip(lanes):
    data = english(40_000) + records(10_000)
    codec = CodecSettings(14, 0, lanes, None)
    coded = encode(b"", data, codec)
    assert coded is not None
    assert decode(coded, 0, len(data), codec) == (b"", data)


_chunk = st.one_of(
    st.binary(max_size=300),
    st.builds(noise, st.integers(0, 3000), st.integers(0, 9)),
    st.builds(english, st.integers(0, 3000), st.integers(0, 9)),
    st.builds(records, st.integers(0, 2000)),
    st.builds(lambda byte, n: bytes([byte]) * n, st.integers(0, 255), st.integers(0, 5000)),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
)


@settings(
    max_examples=1000, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(st.lists(_chunk, max_size=5), st.sampled_from([2048, 1 << 20]))
def test_random_mixtures_round_trip(chunks, block_size):
    data = b"".join(chunks)
    coded = nczip.compress(data, "fast", block_size=block_size)
    assert nczip.decompress(coded) == data


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
def test_corpus_files_cut_short_round_trip(corpora, size):
    for path in sorted(corpora.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                data = file.read(size)
            assert nczip.decompress(nczip.compress(data, "fast")) == data


def test_corpus_heads_round_trip_and_shrink(corpora):
    for path in sorted(corpora.rglob("*")):
        if path.is_file() and path.suffix != ".md":
            with path.open("rb") as file:
                data = file.read(40_000)
            coded = nczip.compress(data, "fast")
            assert nczip.decompress(coded) == data, path
            # A container of up to 80 bytes is all that the smallest files are.
            peers = min(len(lzma.compress(data, preset=9)), len(bz2.compress(data)))
            if path.parent.name in ("artificial", "pictures") or len(coded) < 200:
                assert len(coded) <= peers + 80, path
            elif path.name in _NEARLY_RANDOM:
                assert len(coded) < 0.98 * peers, path
            else:
                assert len(coded) < 0.85 * peers, path


#: What has been compressed before, and digits.
_NEARLY_RANDOM = ("fireworks.jpeg", "paper-100k.pdf", "pi.txt")


@pytest.mark.slow
def test_whole_corpus_files_round_trip(corpora):
    for path in sorted(corpora.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            assert nczip.decompress(nczip.compress(data, "fast", threads=2), threads=2) == data, (
                path
            )


def test_a_memory_limit_shrinks_the_tables():
    data = english(300_000)
    options = {"preset": "fast", "block_size": 1 << 20, "memory_limit": 64 << 20}
    packed = nczip.compress(data, **options, primer=False)
    assert ct.parse_header(packed)[0].table_bits == 19
    assert nczip.decompress(packed, memory_limit=64 << 20) == data
    with pytest.raises(ValueError, match="--no-primer"):
        nczip.compress(data, **options)


@pytest.mark.parametrize("name", golden_files.STREAMS)
def test_the_bitstream_has_not_changed(name):
    """Other bytes here are another format version: tests/golden/update.py writes them down."""
    assert golden_files.describe_stream(name) == golden_files.pinned("streams")[name]


@pytest.fixture(scope="module")
def two_blocks():
    data = english(1200)
    return data, nczip.compress(data, "fast", block_size=1024)


def test_every_cut_is_noticed(two_blocks):
    _, coded = two_blocks
    for size in range(len(coded)):
        with pytest.raises(FormatError if size == 0 else TruncatedError):
            nczip.decompress(coded[:size])


def test_every_flipped_byte_is_noticed(two_blocks):
    _, coded = two_blocks
    for i in range(len(coded)):
        damaged = bytearray(coded)
        damaged[i] ^= random.Random(i).randint(1, 255)
        with pytest.raises(NczipError):
            nczip.decompress(bytes(damaged))


def test_blocks_before_the_damage_are_still_returned(two_blocks):
    data, coded = two_blocks
    damaged = bytearray(coded)
    damaged[-60] ^= 1
    decoder = nczip.Decompressor()
    out = b""
    with pytest.raises(CorruptError):
        for i in range(len(damaged)):
            out += decoder.decompress(damaged[i : i + 1])
    assert out == data[:1024]


@pytest.mark.parametrize("seed", range(30))
def test_garbage_payloads_with_valid_checks_are_refused(seed):
    """What an attacker can write: every check holds, but the payload is nonsense."""
    rng = random.Random(seed)
    flags = (0, 0x80, 0x40, 0xC0)[seed // 2 % 4]
    payload = bytes([seed % 5 | flags]) + rng.randbytes(rng.randint(0, 60))
    if seed % 2:  # a plausible run table before the noise
        payload = b"\2\1" + bytes([0xA1, 0x1F]) + rng.randbytes(50)
    header = ct.Header(4096, 12, 1)
    head = ct.pack_header(header)
    frame = ct.build_block(1000, 12345, payload, ct.Place(ct.member_check(head), 0))
    index = ct.Index([(1000, len(frame))], 0, ct.pack_coding(header))
    with pytest.raises(NczipError):
        nczip.decompress(head + frame + ct.build_index(index))


def test_not_our_format_is_said(two_blocks):
    for data in (b"", b"hello world", b"\x1f\x8b\x08\0", b"\0" * 100):
        with pytest.raises(FormatError, match="not an nczip stream"):
            nczip.decompress(data)
    with pytest.raises(FormatError, match="followed by"):
        nczip.decompress(two_blocks[1] + b"trailing bytes")


def test_members_concatenate_and_skippable_frames_are_skipped(two_blocks):
    data, coded = two_blocks
    note = ct.SKIPPABLE_MAGIC + (7).to_bytes(4, "little") + b"comment"
    assert nczip.decompress(note + coded + coded + note + note + coded) == data * 3
    assert nczip.decompress(coded + note) == data


def test_pieces_of_any_size_give_the_same_stream():
    data = english(9000)
    whole = nczip.compress(data, "fast", block_size=2048)
    for size in (1, 7, 2048, 2049, 100_000):
        compressor = nczip.Compressor("fast", block_size=2048)
        pieces = [compressor.compress(data[i : i + size]) for i in range(0, len(data), size)]
        assert b"".join(pieces) + compressor.flush() == whole


def test_threads_do_not_change_the_stream():
    data = english(20_000) + records(5000)
    streams = {nczip.compress(data, "fast", block_size=4096, threads=n) for n in (1, 2, 5)}
    assert len(streams) == 1
    (stream,) = streams
    assert nczip.decompress(stream, threads=3) == data


def test_the_decompressor_keeps_the_lzma_contract(two_blocks):
    data, coded = two_blocks
    decoder = nczip.Decompressor()
    assert decoder.needs_input
    out = decoder.decompress(coded + b"rest", max_length=100)
    assert out == data[:100]
    assert not decoder.needs_input
    while not decoder.eof:
        piece = decoder.decompress(b"", max_length=1000)
        assert 0 < len(piece) <= 1000
        out += piece
    while not decoder.eof or len(out) < len(data):
        out += decoder.decompress(b"", max_length=1000)
    assert out == data
    assert decoder.unused_data == b"rest"
    with pytest.raises(EOFError):
        decoder.decompress(b"more")


def test_small_reads_lose_no_block_between_threads():
    data = english(20_000)
    coded = nczip.compress(data, "fast", block_size=2048)
    decoder = nczip.Decompressor(threads=3)
    out = decoder.decompress(coded, max_length=10)
    while not decoder.eof or len(out) < len(data):
        out += decoder.decompress(b"", max_length=1000)
    assert out == data


def test_a_used_compressor_refuses_more():
    compressor = nczip.Compressor("fast")
    compressor.flush()
    with pytest.raises(ValueError, match="flushed"):
        compressor.compress(b"x")
    with pytest.raises(ValueError, match="flushed"):
        compressor.flush()


def _decoding_peak(coded, **options):
    """Bytes allocated at most while decoding, by Python and by NumPy."""
    tracemalloc.start()
    try:
        nczip.decompress(coded, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_bounded_by_the_limit():
    options = {"preset": "fast", "block_size": 1 << 20, "primer": False}
    data = english(60_000)
    nczip.decompress(nczip.compress(data[:300], **options))  # imports and network are not counted
    limit, fixed = 40 << 20, 32 << 20  # mixer, curves, followers: whatever the table
    bounded = nczip.compress(data, **options, memory_limit=limit)
    assert _decoding_peak(bounded, memory_limit=limit) < limit + fixed
    assert _decoding_peak(nczip.compress(data, **options)) > limit + fixed


def test_what_needs_more_memory_is_refused_before_it_is_allocated():
    coded = nczip.compress(english(50_000), "fast")
    tracemalloc.start()
    with pytest.raises(LimitError, match="--memory"):
        nczip.decompress(coded, memory_limit=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="preset"):
        nczip.compress(b"", "fastest")
    with pytest.raises(ValueError, match="block size"):
        nczip.compress(b"", "fast", block_size=1)
    with pytest.raises(ValueError, match="lanes"):
        nczip.compress(b"", "fast", lanes=0)
    with pytest.raises(nczip.ModelError, match="no model 'nowhere'"):
        nczip.compress(b"", model="nowhere")


def test_redundant_blocks_are_fast_and_small():
    data = bytes(20_000_000)
    coded = nczip.compress(data, "fast")
    assert len(coded) < 3000
    assert nczip.decompress(coded) == data


def test_numpy_buffers_are_accepted():
    data = np.arange(3000, dtype=np.uint8)
    assert nczip.decompress(nczip.compress(memoryview(data), "fast")) == data.tobytes()
