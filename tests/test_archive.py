"""Random access: blocks found by the indexes and decoded alone."""

import io

import pytest
from tests_support import noise

import nczip
from nczip.archive import Archive, find_members
from nczip.formats import container as ct

BLOCK = 1024
DATA = noise(9 * BLOCK + 500)


def archive(data=DATA, block_size=BLOCK):
    return nczip.compress(data, "fast", primer=False, block_size=block_size)


PACKED = archive()
MEMBER = ct.scan_members(io.BytesIO(PACKED))[0]
FRAMES = [MEMBER.header_size]
for _, frame in MEMBER.index.blocks:
    FRAMES.append(FRAMES[-1] + frame)
INDEX = FRAMES.pop()


class Counted(io.BytesIO):
    """Counts what is read."""

    count = 0

    def read(self, size=-1, /):
        data = super().read(size)
        self.count += len(data)
        return data


SKIPPABLE = b"\x8eNCS\3\0\0\0abc"
STREAMS = {
    "one member": PACKED,
    "three members": PACKED + archive(b"") + archive(b"short"),
    "a skippable frame first": SKIPPABLE + PACKED,
    "a skippable frame between": PACKED + SKIPPABLE + PACKED,
    "a skippable frame last": PACKED + SKIPPABLE,
    "only a skippable frame": SKIPPABLE,
    "an archive in a skippable frame": b"\x8eNCS" + len(PACKED).to_bytes(4, "little") + PACKED,
}


@pytest.mark.parametrize("name", STREAMS)
def test_members_are_the_same_from_the_end_and_from_the_start(name):
    data = STREAMS[name]
    assert find_members(io.BytesIO(data)) == ct.scan_members(io.BytesIO(data))


def test_members_are_found_by_reading_their_ends_alone():
    data = archive(noise(200_000), 10_000)
    file = Counted(data * 3)
    assert len(find_members(file)) == 3
    assert file.count < 6000


@pytest.mark.parametrize("cut", [1, 7, 30, 2000])
def test_a_cut_file_has_no_members(cut):
    with pytest.raises(nczip.CorruptError):
        find_members(io.BytesIO(PACKED[:-cut]))


def test_an_index_that_claims_more_than_there_is_is_refused():
    with pytest.raises(nczip.FormatError):
        find_members(io.BytesIO(PACKED[INDEX:]))
    with pytest.raises(nczip.FormatError):
        find_members(io.BytesIO(PACKED[FRAMES[3] :]))


@pytest.mark.parametrize("size", [10_000, 1 << 62])
def test_blocks_that_start_before_the_file_are_refused_unread(size):
    index = ct.build_index(ct.Index([(1000, size)], 0, MEMBER.index.coding))
    file = Counted(bytes(5000) + index)
    with pytest.raises(nczip.FormatError):
        Archive(file)
    assert file.count < 2500


def test_every_range_is_what_slicing_gives():
    blocks = Archive(io.BytesIO(PACKED + archive(b"x" * 100)))
    whole = DATA + b"x" * 100
    assert blocks.raw_size == len(whole)
    edges = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, len(DATA), len(whole) - 1, len(whole)]
    for start in edges:
        for stop in (*edges, len(whole) + 5):
            assert b"".join(blocks.read_range(start, stop)) == whole[start:stop]


def test_threads_decode_ahead_in_order():
    assert b"".join(Archive(io.BytesIO(PACKED), threads=3).blocks_from(2)) == DATA[2 * BLOCK :]


def test_a_range_reads_only_the_blocks_it_needs():
    file = Counted(archive(noise(200_000), 10_000))
    blocks = Archive(file)
    file.count = 0
    assert len(b"".join(blocks.read_range(95_000, 105_000))) == 10_000
    assert file.count < 21_000
