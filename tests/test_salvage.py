"""Salvage: every block that damage has not touched, wherever it has struck."""

import functools
import io
import random
import time

import pytest
from fuzz import seeds
from fuzz.structure import Member, join
from tests_support import english, noise, records

import nczip
from nczip import decoding
from nczip.archive import find_members
from nczip.decoding import BlockDecoder
from nczip.formats import container as ct
from nczip.formats.varint import encode_varint
from nczip.salvage import Hole, Salvager

BLOCK = 1024
DATA = noise(9 * BLOCK + 500)
SKIPPABLE = b"\x8eNCS\3\0\0\0abc"


def archive(data=DATA, block_size=BLOCK, **options):
    return nczip.compress(
        data, "fast", primer=False, block_size=block_size, memory_limit=8 << 20, **options
    )


def frames(packed):
    """Where the blocks of a member start, and its index."""
    (member,) = ct.scan_members(io.BytesIO(packed))
    places = [member.header_size]
    for _, frame in member.index.blocks:
        places.append(places[-1] + frame)
    return places


PACKED = archive()
*FRAMES, INDEX = frames(PACKED)
MEMBER_START = FRAMES[0]


@pytest.fixture(autouse=True)
def _small_and_decoded_once(monkeypatch):
    """Most of what is damaged here is undamaged; decoding it again and again takes minutes."""
    monkeypatch.setattr(BlockDecoder, "decode", _decode)
    with seeds.small_scale():  # short blocks, too, have lanes
        yield


_decode_block, _decoded = BlockDecoder.decode, {}


def _decode(decoder, frame, place=None):
    key = ct.pack_coding(decoder.header), frame, place
    if key not in _decoded:
        _decoded[key] = _decode_block(decoder, frame, place)
    return _decoded[key]


def salvage(data, **options):
    """The raw bytes that could be salvaged, and the holes."""
    raw, holes = b"", []
    for piece in Salvager(data, **options):
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


def test_a_cut_between_blocks_is_a_hole_of_no_bytes():
    raw, (hole,) = salvage(PACKED[: FRAMES[4]])
    assert raw == DATA[: 4 * BLOCK] and "cut" in hole.reason
    assert hole.start == hole.end == FRAMES[4]
    raw, holes = salvage(PACKED[: FRAMES[4]] + PACKED)
    assert raw == DATA[: 4 * BLOCK] + DATA and [hole.start for hole in holes] == [FRAMES[4]]


@pytest.mark.parametrize("number", [0, 4, 9])
def test_a_block_that_is_not_there_at_all_is_a_hole_of_no_bytes(number):
    end = [*FRAMES, INDEX][number + 1]
    raw, (hole,) = salvage(PACKED[: FRAMES[number]] + PACKED[end:])
    assert raw == without(number) and "missing" in hole.reason
    assert hole.start == hole.end == FRAMES[number]


def test_a_lost_header_costs_nothing():
    lost = bytes(MEMBER_START) + PACKED[MEMBER_START:]
    for data, content in ((lost, DATA), (PACKED + lost, DATA * 2), (lost + PACKED, DATA * 2)):
        raw, holes = salvage(data)
        assert raw == content
        assert [(hole.end - hole.start, hole.raw_size) for hole in holes] == [(MEMBER_START, 0)]


def test_without_header_and_index_another_members_header_serves():
    lost = bytes(MEMBER_START) + PACKED[MEMBER_START:INDEX]
    assert salvage(PACKED + lost)[0] == DATA * 2
    raw, holes = salvage(lost)
    assert raw == b"" and {hole.raw_size for hole in holes[1:]} == {BLOCK, 500}
    assert "header is lost" in holes[1].reason


def test_a_header_is_found_in_the_index_of_its_own_member():
    """Neither in that of the next member, nor in that of an archive inside of a block."""
    one = archive(records(3000), 1100, lanes=3)
    other = archive(records(3000), 1500)
    size = frames(one)[0]
    assert salvage(bytes(size) + one[size:] + other)[0] == records(3000) * 2
    inner = archive(noise(3000), 1100)
    outer = archive(inner * 2, 4000)
    size = frames(outer)[0]
    raw, holes = salvage(bytes(size) + outer[size:])
    assert raw == inner * 2 and len(holes) == 1


def test_a_burst_over_a_header_and_a_block_that_holds_an_archive_costs_that_block():
    inner = archive(noise(3000), 1024)
    outer = archive(inner * 3, 4000)
    damaged = bytes(frames(outer)[0] + 30) + outer[frames(outer)[0] + 30 :]
    raw, holes = salvage(damaged)
    assert raw == (inner * 3)[4000:]
    assert [hole.raw_size for hole in holes] == [4000]


def test_an_archive_in_a_damaged_archive_is_not_taken_for_its_blocks():
    """Stored blocks hold frames that are as whole as their own."""
    outer = archive(PACKED * 4, 20_000)
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


def test_a_run_of_text_without_a_model_is_a_hole_like_any_other():
    blocks = seeds.blocks()
    broken = seeds.make_block(english(60), seeds.BlockKind.MODELLED)
    broken.pieces[2] = 60 << 2 | 2
    stream = [Member(seeds.plain_header(), [blocks["stored"], broken, blocks["zstd"]])]
    raw, holes = salvage(join(stream))
    assert raw == blocks["stored"].raw + blocks["zstd"].raw
    assert "needs a model" in holes[0].reason


def test_a_missing_model_is_said_though_nothing_tells_its_name():
    packed = join([Member(seeds.exact_header(), [seeds.blocks()["exact"]])])
    size = frames(packed)[0]
    lost = bytes(size) + packed[size:]
    assert salvage(lost, model=str(seeds.model_file()))[0] == seeds.blocks()["exact"].raw
    with pytest.raises(nczip.ModelError, match=r"needs the model \(SHA-256 [0-9a-f]{16}"):
        salvage(lost)


def test_one_decoder_serves_all_blocks_of_a_member(monkeypatch):
    opened = []
    open_decoder = decoding.open_decoder
    monkeypatch.setattr(
        decoding, "open_decoder", lambda *args: opened.append(args) or open_decoder(*args)
    )
    other = archive(noise(3000), 2048)
    assert salvage(PACKED + other + PACKED)[0] == DATA + noise(3000) + DATA
    assert len(opened) == 2


def test_salvage_gives_no_more_than_may_come_out():
    assert salvage(PACKED, max_output=len(DATA))[0] == DATA
    with pytest.raises(nczip.LimitError, match="--max-output"):
        salvage(PACKED, max_output=len(DATA) - 1)


def _many_ends():
    """Ends of indexes that claim all before them, each with a check of its own."""
    data = bytearray(b"I" + bytes(1000))
    while len(data) < 3_000_000:
        data += bytes(4) + len(data).to_bytes(4, "little") + b"ZCN"
    return bytes(data) + bytes(20) + PACKED[FRAMES[0] :]


def _many_heads():
    """Heads of blocks that claim all behind them."""
    size = 3_000_000
    head = b"B" + encode_varint(size) * 2 + bytes(16)
    return head * (size // len(head)) + bytes(size) + PACKED[:INDEX]


def _many_heads_in_place():
    """The same with checks that hold, as of the first block of a member."""
    header, size = ct.pack_header(ct.Header(1 << 30, 10, 1)), 3_000_000
    block = ct.build_block(size, 1, bytes(size), ct.Place(ct.member_check(header), 0))
    head = block[:-size]
    return header + head * (size // len(head)) + noise(size)


def _many_skippable_frames():
    return SKIPPABLE * 200_000 + PACKED


def _many_places():
    """An index of blocks that are not where it has them, and blocks where it has none."""
    header = seeds.plain_header()
    block, gap = join([Member(header, [seeds.blocks()["stored"]])]), noise(11)
    start, (first, end) = ct.pack_header(header), frames(block)
    count = 20_000
    body = (block[first:end] + gap) * count
    step = len(body) // count
    sizes = [(1, 5), *[(1, step)] * (count - 1), (1, step - 5)]
    return start + body + ct.build_index(ct.Index(sizes, 0, ct.pack_coding(header)))


@pytest.mark.parametrize("make", [
        _many_ends, _many_heads, _many_heads_in_place, _many_places, _many_skippable_frames
    ]
)  # fmt: skip
def test_what_is_made_to_take_long_does_not(make):
    data = make()
    began = time.process_time()
    salvage(data)
    assert time.process_time() - began < 10


# Any single damage, of bytes that are others, too many or missing: all blocks that it does not
# touch come back.


_TINY = {"model": str(seeds.model_file())}
MIXED = english(1500) + records(900) + noise(1000) + english(800).replace(b" ", b"\r\n")
ARCHIVES = {
    "stored": lambda: PACKED[:],
    "one block": lambda: archive(noise(700)),
    "one block of text": lambda: archive(english(900)),
    "text and binary": lambda: archive(MIXED, block_size=1024),
    "lanes of bytes": lambda: archive(records(30_000), block_size=15_000, lanes=3),
    "with the primer": lambda: nczip.compress(english(3000), "fast", block_size=1100),
    "two lanes of a tiny model": lambda: nczip.compress(
        english(2500), "default", lanes=2, block_size=1024, **_TINY
    ),
    "default, two lanes": lambda: nczip.compress(
        english(2500), "default", engine="exact", lanes=2, block_size=1024
    ),
    "blocks of a few bytes": lambda: join([Member(seeds.plain_header(), _tiny_blocks())]),
    "members": lambda: (
        archive(noise(1500), block_size=1024) + archive(MIXED) + archive(b"") + PACKED
    ),
    "skippable frames": lambda: SKIPPABLE + PACKED + SKIPPABLE + archive(MIXED, block_size=1024),
}


_OPTIONS = {"two lanes of a tiny model": _TINY}


def _tiny_blocks():
    return [seeds.make_block(noise(3, n), seeds.BlockKind.STORED) for n in range(1, 30)]


@functools.cache
def _laid_out(name):
    """An archive, and the place and the raw bytes of each of its blocks."""
    packed = ARCHIVES[name]()
    content, blocks, raw_at = nczip.decompress(packed, **_OPTIONS.get(name, {})), [], 0
    for member in find_members(io.BytesIO(packed)):
        at = member.start + member.header_size
        for raw_size, frame_size in member.index.blocks:
            blocks.append((at, at + frame_size, content[raw_at : raw_at + raw_size]))
            at, raw_at = at + frame_size, raw_at + raw_size
    return packed, blocks


def _check_damage(name, start, size, rng):
    packed, blocks = _laid_out(name)
    added, taken = rng.choice([(size, size), (size, size), (size, 0), (0, size)])
    stop = start + taken
    damaged = packed[:start] + rng.randbytes(added) + packed[stop:]
    options = _OPTIONS.get(name, {})
    left = iter(piece for piece in Salvager(damaged, **options) if not isinstance(piece, Hole))
    piece = next(left, None)
    for first, end, raw in blocks:
        if piece == raw:
            piece = next(left, None)
        else:
            is_touched = start < end and stop > first
            assert is_touched, f"{name}: {raw!r:.40} lost, {added} for {taken} bytes at {start}"
    assert piece is None, f"{name}: too much, {added} for {taken} bytes at {start}"


def _damages(name, count, rng):
    """Places and sizes of single bytes and of bursts: at random, and over the borders of blocks."""
    packed, blocks = _laid_out(name)
    borders = [0, len(packed), *(at for first, end, _ in blocks for at in (first, end))]
    for number in range(count):
        size = 1 if number % 3 == 0 else rng.randint(2, min(64, len(packed)))
        at = rng.randrange(len(packed) - size + 1)
        if number % 3 == 2:
            at = rng.choice(borders) - rng.randint(0, size)
        yield min(max(at, 0), len(packed) - size), size


@pytest.mark.parametrize("name", [name for name in ARCHIVES if name != "default, two lanes"])
def test_a_single_damage_costs_only_the_blocks_it_touches(name):
    rng = random.Random(name)
    for start, size in _damages(name, 60, rng):
        _check_damage(name, start, size, rng)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ARCHIVES)
def test_many_single_damages_cost_only_the_blocks_they_touch(name, seed):
    rng = random.Random(f"{name} {seed}")
    for start, size in _damages(name, 1000, rng):
        _check_damage(name, start, size, rng)
