"""Random access and salvage: blocks found by the index, or without it."""

import functools
import io

import pytest
from tests_support import english, noise

import nczip
from nczip.archive import Archive, decode_frame, find_members
from nczip.formats.container import scan_members
from nczip.salvage import Hole, Salvager

BLOCK = 1024
DATA = noise(9 * BLOCK + 500)


def archive(data=DATA, block_size=BLOCK):
    return nczip.compress(data, "fast", primer=False, block_size=block_size)


PACKED = archive()
MEMBER = scan_members(io.BytesIO(PACKED))[0]
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
    assert find_members(io.BytesIO(data)) == scan_members(io.BytesIO(data))


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


# Salvage.


@pytest.fixture(autouse=True)
def _decode_once(monkeypatch):
    """Most of what is damaged here is undamaged; decoding it again and again takes minutes."""
    monkeypatch.setattr("nczip.salvage.decode_frame", _decode)


_decode = functools.cache(decode_frame)


def salvage(data):
    """The raw bytes that could be salvaged, the holes, and where in them they are."""
    raw, holes = b"", []
    for piece in Salvager(data):
        if isinstance(piece, Hole):
            holes.append(piece)
        else:
            raw += piece
    return raw, holes


def without(*numbers):
    return b"".join(
        DATA[at : at + BLOCK] for at in range(0, len(DATA), BLOCK) if at // BLOCK not in numbers
    )


def test_a_sound_file_has_no_holes():
    for data in (PACKED, PACKED + SKIPPABLE + PACKED, SKIPPABLE + PACKED):
        assert salvage(data) == (DATA * data.count(PACKED), [])


def test_any_wrong_byte_costs_at_most_its_own_block():
    """Every 13th byte of the file, and all of the header, of the frames' heads and of the index."""
    places = {*range(0, len(PACKED), 13), *range(FRAMES[0]), *range(INDEX, len(PACKED))}
    places |= {frame + i for frame in FRAMES for i in range(24)}
    spared = 0
    for place in sorted(places):
        damaged = bytearray(PACKED)
        damaged[place] ^= 1 << place % 8
        raw, holes = salvage(bytes(damaged))
        if FRAMES[0] <= place < INDEX:
            number = sum(frame <= place for frame in FRAMES) - 1
            if raw == DATA and not holes:
                spared += 1  # only the check of the head is wrong, not that of the bytes
                continue
            assert raw == without(number), place
            assert [hole.raw_size for hole in holes] == [min(BLOCK, len(DATA) - BLOCK * number)]
            assert holes[0].start <= place < holes[0].end
        else:
            assert raw == DATA, place
    assert spared <= 4 * len(FRAMES)


@pytest.mark.parametrize("size", [2, 100, 1500])
def test_a_burst_costs_the_blocks_it_touches(size):
    start = FRAMES[4] + 20
    damaged = PACKED[:start] + noise(size, 9) + PACKED[start + size :]
    touched = [n for n in range(10) if FRAMES[n] < start + size and (*FRAMES, INDEX)[n + 1] > start]
    raw, holes = salvage(damaged)
    assert raw == without(*touched)
    assert sum(hole.raw_size for hole in holes) == BLOCK * len(touched)


@pytest.mark.parametrize("added", [-1, -50, 1, 50])
@pytest.mark.parametrize("offset", [0, 5, 500])
def test_bytes_that_are_missing_or_added_cost_one_block(added, offset):
    start = FRAMES[4] + offset
    damaged = (
        PACKED[:start] + (noise(added, 9) if added > 0 else b"") + PACKED[start - min(added, 0) :]
    )
    raw, holes = salvage(damaged)
    if added > 0 and offset == 0:  # between two blocks: none of them is hurt
        assert raw == DATA
    else:
        assert raw == without(4)
    assert holes


@pytest.mark.parametrize("cut", [1, 30, 500, 3000])
def test_what_stands_before_a_cut_is_salvaged(cut):
    whole = sum(end <= len(PACKED) - cut for end in (*FRAMES[1:], INDEX))
    assert salvage(PACKED[:-cut])[0] == DATA[: BLOCK * whole]


def test_a_lost_start_costs_nothing_but_what_a_header_told():
    """Another member's header stands in for one that is lost."""
    lost = bytes(MEMBER.header_size) + PACKED[MEMBER.header_size :]
    assert salvage(PACKED + lost)[0] == DATA * 2
    raw, holes = salvage(lost)
    assert raw == b"" and {hole.raw_size for hole in holes[1:]} == {BLOCK, 500}


def test_an_archive_in_a_damaged_archive_is_not_taken_for_its_blocks():
    """Stored blocks hold frames that are as whole as their own."""
    outer = nczip.compress(PACKED * 4, "fast", primer=False, block_size=20_000)
    (member,) = find_members(io.BytesIO(outer))
    for place in (member.header_size + 2, member.header_size + 5000):
        damaged = bytearray(outer)
        damaged[place] ^= 1
        raw, holes = salvage(bytes(damaged))
        assert raw == (PACKED * 4)[20_000:]
        assert [hole.raw_size for hole in holes] == [20_000]


def test_text_blocks_are_salvaged_too():
    text = english(6000)
    packed = bytearray(archive(text, 2000))
    packed[len(packed) // 2] ^= 1
    raw, holes = salvage(bytes(packed))
    assert raw == text[:2000] + text[4000:] and len(holes) == 1


def test_nothing_is_salvaged_from_what_is_no_archive():
    assert salvage(noise(50_000, 4))[0] == b""
    assert salvage(b"") == (b"", [])


@pytest.mark.parametrize("size", [1, 3])
def test_what_is_too_short_for_a_header_is_a_hole(size):
    (hole,) = Salvager(b"nothing"[:size])
    assert isinstance(hole, Hole) and (hole.start, hole.end) == (0, size)
