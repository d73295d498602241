"""The container: what is packed is parsed, and damage never passes."""

import io
from dataclasses import replace

import pytest
from tests_support import english, noise, records

from nczip.errors import CorruptError, FormatError, NczipError, TruncatedError
from nczip.formats import container as ct
from nczip.formats import runs as fr
from nczip.formats.varint import decode_varint, encode_varint
from nczip.planning import analyse
from nczip.segment import segment

MODEL = ct.ModelId(ct.ENGINE_LLAMA, bytes(range(8)), "a model", 8, 512, 0x1234567890ABCDEF)
EXACT = ct.Header(4096, 12, 1, 0, ct.ModelId(ct.ENGINE_EXACT, bytes(8), "m", 8, 512, 0))
EXTENSIONS = (ct.Extension(2, b""), ct.Extension(900, b"some data"))
HEADERS = [
    ct.Header(1 << 20, 22, 1),
    ct.Header(4096, 12, 8, 0x89ABCDEF, MODEL),
    ct.Header(4096, 12, 1, layout="light"),
    EXACT,
    replace(EXACT, model=replace(EXACT.model, sinks=4), extensions=EXTENSIONS),
    replace(EXACT, model=replace(EXACT.model, source="hf:a/b@c:d"), extensions=EXTENSIONS),
    replace(EXACT, model=replace(EXACT.model, source="https://" + "a" * 247)),
]
PLACE = ct.Place(0x12345678, 3)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 32, (1 << 63) - 1])
def test_varints_round_trip(value):
    data = encode_varint(value)
    assert decode_varint(data, 0) == (value, len(data))
    with pytest.raises(TruncatedError):
        decode_varint(data[:-1], 0)


def test_an_endless_varint_is_refused():
    with pytest.raises(CorruptError):
        decode_varint(b"\xff" * 20, 0)


@pytest.mark.parametrize("header", HEADERS)
def test_headers_round_trip(header):
    data = ct.pack_header(header)
    assert ct.parse_header(data + b"tail") == (header, len(data))


@pytest.mark.parametrize("header", HEADERS)
def test_every_flipped_bit_of_a_header_is_noticed(header):
    data = ct.pack_header(header)
    for i in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[i // 8] ^= 1 << i % 8
        with pytest.raises(NczipError):
            ct.parse_header(bytes(damaged))


@pytest.mark.parametrize("header", HEADERS)
def test_every_cut_of_a_header_asks_for_more(header):
    data = ct.pack_header(header)
    for size in range(len(data)):
        with pytest.raises(TruncatedError):
            ct.parse_header(data[:size])


def test_unknown_versions_and_engines_are_named():
    data = bytearray(ct.pack_header(HEADERS[0]))
    data[4] = 99
    with pytest.raises(FormatError, match="version 99"):
        ct.parse_header(bytes(data))
    future = ct.ModelId(77, bytes(8), "m", 1, 512, 0)
    with pytest.raises(FormatError, match="engine 77"):
        ct.parse_header(ct.pack_header(ct.Header(4096, 12, 1, 0, future)))


def test_a_layout_without_a_transformer_takes_no_model():
    model = ct.ModelId(ct.ENGINE_EXACT, b"12345678", "model", 1, 64, 0)
    with pytest.raises(CorruptError, match="layout 1 of predictors has no use for the model"):
        ct.parse_header(ct.pack_header(ct.Header(4096, 12, 1, model=model, layout="light")))


def test_an_unknown_layout_of_predictors_is_named(monkeypatch):
    monkeypatch.setitem(ct.LAYOUT_NUMBERS, "future", 7)
    with pytest.raises(FormatError, match="layout 7"):
        ct.parse_header(ct.pack_header(ct.Header(4096, 12, 1, layout="future")))


@pytest.mark.parametrize(
    "header",
    [
        ct.Header(1 << 40, 22, 1),
        ct.Header(4096, 60, 1),
        ct.Header(4096, 12, 100_000),
        ct.Header(4096, 12, 1, 1 << 32),
        ct.Header(4096, 12, 1, 0, ct.ModelId(1, bytes(8), "m", 1 << 30, 512, 0)),
        ct.Header(4096, 12, 1, 0, ct.ModelId(1, bytes(8), "m", 1, 1 << 50, 0)),
        ct.Header(4096, 12, 1, 0, ct.ModelId(1, bytes(8), "m", 1, 512, 0, sinks=65)),
        ct.Header(4096, 12, 1, 0, ct.ModelId(1, bytes(8), "m", 1, 4, 0, sinks=3)),
    ],
)
def test_sizes_out_of_bounds_are_refused_before_anything_is_allocated(header):
    with pytest.raises(CorruptError, match="allowed"):
        ct.parse_header(ct.pack_header(header))


def test_block_headers_are_bounded_by_the_member_header():
    frame = ct.build_block(5000, 1, b"payload", PLACE)
    with pytest.raises(CorruptError, match="allowed"):
        ct.parse_block_header(frame, ct.Header(4096, 12, 1), PLACE)


def test_members_are_found_without_decoding():
    header = ct.Header(1 << 20, 12, 1)
    check = ct.member_check(ct.pack_header(header))
    frames = [
        ct.build_block(100, 7, b"x" * 50, ct.Place(check, 0)),
        ct.build_block(30, 8, b"y" * 20, ct.Place(check, 1)),
    ]
    sizes = [(100, len(frames[0])), (30, len(frames[1]))]
    index = ct.Index(sizes, 99, ct.pack_coding(header))
    member = ct.pack_header(header) + b"".join(frames) + ct.build_index(index)
    skippable = ct.SKIPPABLE_MAGIC + (5).to_bytes(4, "little") + b"notes"
    found = ct.scan_members(io.BytesIO(member + skippable + member))
    assert [m.index for m in found] == [index, index]
    assert found[1].start == len(member) + len(skippable)
    for cut in (len(member) - 1, len(member) - 30, 20):
        with pytest.raises(NczipError):
            ct.scan_members(io.BytesIO(member[:cut]))


@pytest.mark.parametrize("header", HEADERS)
def test_an_index_says_what_decoding_needs_of_the_header(header):
    index = ct.Index([(100, 60), (4000, 70)], 99, ct.pack_coding(header))
    packed = ct.build_index(index)
    assert ct.parse_index(packed + b"tail") == (index, len(packed))
    model = None if header.model is None else replace(header.model, name="", source="")
    assert index.header == replace(header, block_size=4000, model=model, extensions=())
    assert len(index.coding) <= 28
    for cut in range(len(packed)):
        with pytest.raises(TruncatedError):
            ct.parse_index(packed[:cut])


def test_an_index_of_another_header_is_refused():
    one, other = ct.Header(4096, 12, 1), ct.Header(4096, 12, 2)
    head = ct.pack_header(one)
    frame = ct.build_block(100, 7, b"x" * 50, ct.Place(ct.member_check(head), 0))
    index = ct.build_index(ct.Index([(100, len(frame))], 0, ct.pack_coding(other)))
    with pytest.raises(CorruptError, match="does not agree"):
        ct.scan_members(io.BytesIO(head + frame + index))


def test_segmentation_tells_text_binary_and_noise_apart():
    parts = [english(20_480), records(20_480), noise(200_000), english(10_240)]
    raw = b"".join(parts)
    runs = segment(raw).with_text
    assert runs[0] == fr.Run(fr.RunKind.TEXT, 20_480)
    assert runs[1].kind == fr.RunKind.BINARY
    assert runs[2].kind == fr.RunKind.STORED
    assert runs[-1].kind == fr.RunKind.TEXT
    assert sum(run.size for run in runs) == len(raw)
    gathered = {kind: fr.gather(raw, runs, kind) for kind in fr.RunKind}
    assert fr.scatter(runs, gathered) == raw
    assert len(gathered[fr.RunKind.STORED]) >= 131_072


def test_utf8_is_text_and_random_bytes_are_not():
    assert analyse("Grüße, 世界! Ελληνικά ".encode() * 100).has_text
    assert not analyse(noise(5000)).has_text
    assert not analyse(records(5000)).has_text


def test_run_tables_round_trip_and_must_add_up():
    runs = [
        fr.Run(fr.RunKind.TEXT, 1024),
        fr.Run(fr.RunKind.STORED, 16384),
        fr.Run(fr.RunKind.BINARY, 3),
    ]
    table = fr.build_runs(runs)
    assert fr.parse_runs(table + b"tail", 17411) == (runs, len(table))
    with pytest.raises(CorruptError):
        fr.parse_runs(table, 17412)


def test_an_unknown_critical_extension_is_refused_and_another_is_not():
    critical = replace(EXACT, extensions=(ct.Extension(5, b"x", critical=True),))
    with pytest.raises(FormatError, match="extension 5: update nczip"):
        ct.parse_header(ct.pack_header(critical))
    ancillary = replace(EXACT, extensions=(ct.Extension(5, b"x"),))
    assert ct.parse_header(ct.pack_header(ancillary))[0] == ancillary


def test_a_block_header_holds_only_in_its_place():
    header = ct.Header(4096, 12, 1)
    frame = ct.build_block(1000, 1, b"payload", PLACE)
    block, size = ct.parse_block_header(frame, header, PLACE)
    assert (block.raw_size, frame[size:]) == (1000, b"payload")
    for elsewhere in (ct.Place(PLACE.member, 2), ct.Place(PLACE.member + 1, PLACE.number)):
        with pytest.raises(CorruptError, match="where it belongs"):
            ct.parse_block_header(frame, header, elsewhere)


def test_an_index_that_claims_too_much_is_read_no_further_than_its_blocks_go():
    header = ct.pack_header(ct.Header(4096, 12, 1))
    frame = ct.build_block(100, 7, b"x" * 50, ct.Place(ct.member_check(header), 0))

    class Counted(io.BytesIO):
        taken = 0

        def read(self, size=-1):
            data = super().read(size)
            self.taken += len(data)
            return data

    claim = b"I" + encode_varint(1 << 40) + bytes([1, 1]) * 1_000_000
    file = Counted(header + frame + claim)
    with pytest.raises(CorruptError):
        ct.scan_members(file)
    assert file.taken < 5000
