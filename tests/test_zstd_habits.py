"""What the shape of compression.zstd adds to that of lzma: modes, pledged sizes, frame info."""

import pytest
from tests_support import english, noise

import nczip
from nczip.formats.container import SKIPPABLE_MAGIC

FAST = {"preset": "fast", "primer": False}
Compressor = nczip.Compressor


def test_a_flushed_block_makes_all_given_bytes_decodable():
    compressor, decompressor = Compressor(**FAST), nczip.Decompressor()
    for number, line in enumerate([b"first line\n", b"second\n" * 100, b"x"]):
        if number == 1:
            packed = compressor.compress(line, Compressor.FLUSH_BLOCK)
        else:
            packed = compressor.compress(line) + compressor.flush(Compressor.FLUSH_BLOCK)
        assert decompressor.decompress(packed) == line
        assert not decompressor.eof
    assert decompressor.decompress(compressor.flush()) == b""
    assert decompressor.eof


@pytest.mark.parametrize("threads", [1, 2])
def test_flushed_blocks_and_whole_ones_make_one_member(threads):
    data = english(10_000) + noise(3000)
    compressor = Compressor(**FAST, block_size=2048, threads=threads)
    out = compressor.compress(data[:7000]) + compressor.flush(Compressor.FLUSH_BLOCK)
    out += compressor.flush(Compressor.FLUSH_BLOCK)  # nothing came since: nothing to say
    out += compressor.compress(data[7000:], Compressor.FLUSH_FRAME)
    assert nczip.decompress(out) == data
    info = nczip.get_frame_info(out)
    assert info.decompressed_size == len(data)
    with pytest.raises(ValueError, match="flushed"):
        compressor.compress(b"more")


def test_without_a_flush_modes_change_no_byte():
    data = english(5000)
    compressor = Compressor(**FAST)
    by_modes = compressor.compress(data[:99], Compressor.CONTINUE)
    by_modes += compressor.compress(data[99:], Compressor.FLUSH_FRAME)
    assert by_modes == nczip.compress(data, **FAST)


def test_a_member_that_ends_behind_a_flushed_block_has_no_empty_one():
    compressor = Compressor(**FAST)
    out = compressor.compress(b"abc", Compressor.FLUSH_BLOCK) + compressor.flush()
    assert nczip.decompress(out) == b"abc"
    empty = Compressor(**FAST)
    out = empty.flush(Compressor.FLUSH_BLOCK) + empty.flush()
    assert nczip.decompress(out) == b""


@pytest.mark.parametrize("mode", [-1, 3, None, "block"])
def test_unknown_modes_are_refused(mode):
    with pytest.raises(ValueError, match="mode"):
        Compressor(**FAST).compress(b"", mode)
    with pytest.raises(ValueError, match="FLUSH_BLOCK"):
        Compressor(**FAST).flush(mode)


def test_a_file_flushed_by_block_can_be_followed(tmp_path):
    path = tmp_path / "log.ncz"
    with nczip.open(path, "wb", **FAST) as file:
        file.write(b"one line\n")
        file.flush(file.FLUSH_BLOCK)
        with nczip.open(path) as reader:
            assert reader.readline() == b"one line\n"
            with pytest.raises(nczip.TruncatedError):
                reader.readline()
        file.write(b"another\n")
        file.flush(file.FLUSH_BLOCK)
        file.flush()
        assert nczip.open(path).read() == b"one line\nanother\n"
        with pytest.raises(ValueError, match="FLUSH_BLOCK"):
            file.flush(0)
    assert nczip.open(path).read() == b"one line\nanother\n"


def test_pledged_sizes_are_held_against_what_comes():
    compressor = Compressor(**FAST)
    compressor.set_pledged_input_size(5)
    with pytest.raises(ValueError, match="more than the 5 bytes"):
        compressor.compress(b"123456")
    compressor.compress(b"123")
    with pytest.raises(ValueError, match="3 bytes came of the 5"):
        compressor.flush()
    packed = compressor.compress(b"45") + compressor.flush()
    assert nczip.decompress(packed) == b"12345"


def test_sizes_are_pledged_before_the_bytes():
    compressor = Compressor(**FAST)
    compressor.set_pledged_input_size(7)
    compressor.set_pledged_input_size(None)
    packed = compressor.compress(b"abc")
    with pytest.raises(ValueError, match="before"):
        compressor.set_pledged_input_size(3)
    assert nczip.decompress(packed + compressor.flush()) == b"abc"
    with pytest.raises(ValueError, match="cannot be"):
        Compressor(**FAST).set_pledged_input_size(-1)


def test_a_pledged_size_spares_the_decoder_memory():
    def memory(pledged):
        compressor = Compressor(**FAST)
        compressor.set_pledged_input_size(pledged)
        packed = compressor.compress(b"some bytes", Compressor.FLUSH_BLOCK)
        assert nczip.decompress(packed + compressor.flush()) == b"some bytes"
        return nczip.get_frame_info(packed).memory

    assert memory(10) < memory(None) / 10


def test_frame_info_needs_no_more_than_the_header():
    data = english(3000)
    packed = nczip.compress(data, **FAST)
    whole = nczip.get_frame_info(packed + b"what follows")
    assert (whole.decompressed_size, whole.engine, whole.model) == (3000, "none", None)
    start = nczip.get_frame_info(packed[:100])
    assert start.decompressed_size is None
    assert start.block_size == whole.block_size == 3000
    behind = SKIPPABLE_MAGIC + (3).to_bytes(4, "little") + b"abc" + packed
    assert nczip.get_frame_info(behind) == whole


def test_frame_info_names_what_decoding_needs():
    data = english(20_000)
    info = nczip.get_frame_info(nczip.compress(data, "default", primer=False, engine="exact"))
    assert (info.engine, info.model) == ("exact", "nczip-9m-q8_0")
    assert len(info.model_sha256) == 16
    assert info.primer is None


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", nczip.TruncatedError),
        (b"\x8eNCZ", nczip.TruncatedError),
        (SKIPPABLE_MAGIC + b"\xff\0\0\0", nczip.TruncatedError),
        (b"PK\x03\x04....", nczip.FormatError),
    ],
)
def test_frame_info_refuses_what_is_no_frame(data, error):
    with pytest.raises(error):
        nczip.get_frame_info(data)
