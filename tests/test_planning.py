"""Planning: what a block is gets asked once, and the smallest way of keeping it wins."""

import textwrap

import pytest
import xxhash
from tests_support import AWKWARD, english, noise, records

import nczip
from nczip import planning
from nczip.blocks import BlockKind, build_payload, decode_block
from nczip.formats.container import BlockHeader
from nczip.planning import Needs, analyse, candidates, needs_of, smallest
from nczip.predictors.codec import CodecSettings

EVERYTHING = Needs(model=True, primer=True)
PLAIN = CodecSettings(12, 0, 1, None)
PROSE = "\n".join(textwrap.wrap(english(9000).lower().decode().replace("\n", " "), 70)).encode()


def kinds(data, available=EVERYTHING, insist=False):
    return [way.kind for way in candidates(analyse(data), available, insist)]


@pytest.mark.parametrize("preset", ["fast", "default"])
def test_a_block_is_analysed_once(monkeypatch, preset):
    asked = {"find_width": 0, "segment": 0}

    def counted(name, original):
        def call(data):
            asked[name] += 1
            return original(data)

        return call

    for name in ("find_width", "segment"):
        monkeypatch.setattr(planning, name, counted(name, getattr(planning, name)))
    crlf = PROSE.replace(b"\n", b"\r\n")
    assert nczip.decompress(nczip.compress(crlf, preset)) == crlf
    # Once as it is, and once without what is kept apart.
    assert asked == {"find_width": 1, "segment": 2}


def test_an_analysis_says_what_a_block_is():
    prose = analyse(PROSE.replace(b"\n", b"\r\n"))
    assert prose.mostly_text and prose.has_text and not prose.redundant
    assert prose.apart.line_ends == PROSE.count(b"\n") and abs(prose.apart.width - 70) <= 1
    assert len(prose.text) == len(PROSE) and prose.text.count(b"\n") < PROSE.count(b"\n") / 2
    binary = analyse(records(9000))
    assert not binary.mostly_text and not binary.has_text and binary.text is binary.raw
    assert analyse(noise(1 << 16)).is_noise
    assert analyse(bytes(50_000)).redundant


def test_only_what_can_win_is_tried():
    stored, zstd = BlockKind.STORED, BlockKind.ZSTD
    assert kinds(noise(1 << 16)) == [stored]
    assert kinds(bytes(50_000)) == [stored, zstd]
    assert kinds(b"tiny") == [stored, zstd, BlockKind.PRIMED, BlockKind.PRIMED]
    assert kinds(records(9000)) == [stored, BlockKind.BINARY]
    assert kinds(english(9000), Needs()) == [stored, BlockKind.MODELLED]
    assert kinds(english(9000), insist=True) == [stored, BlockKind.PRIMED]


def test_nothing_is_needed_that_no_candidate_uses():
    for data, expected in (
        (b"", Needs()),
        (noise(1 << 16), Needs()),
        (bytes(50_000), Needs()),
        (records(9000), Needs()),
        (english(9000), EVERYTHING),
        (english(5000) + records(20_000), Needs(model=True)),
    ):
        assert needs_of(candidates(analyse(data), EVERYTHING, False)) == expected


@pytest.mark.parametrize("name", AWKWARD)
def test_every_candidate_decodes_to_the_block(name):
    data = AWKWARD[name]
    for way in candidates(analyse(data), Needs(), False) if data else ():
        payload = build_payload(way.kind, way.text, way.apart, way.runs, PLAIN)
        if payload is not None:
            header = BlockHeader(len(data), len(payload), xxhash.xxh3_64_intdigest(data), 0)
            assert decode_block(header, payload, PLAIN) == data


def test_what_a_choice_needs_counts_against_it(monkeypatch):
    def build(kind, *_):
        return bytes(40 if kind == BlockKind.PRIMED else 100)

    monkeypatch.setattr(planning, "build_payload", build)
    ways = candidates(analyse(english(300)), Needs(primer=True), False)
    assert smallest(ways, PLAIN).candidate.kind == BlockKind.PRIMED
    dear = smallest(ways, PLAIN, lambda needs: 70 * needs.primer)
    assert dear.candidate.kind == BlockKind.STORED
