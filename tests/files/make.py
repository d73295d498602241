"""``python tests/files/make.py``: the zoo made anew, with its README, for another format version.

Every file comes from fixed inputs and names what must become of it; tests/test_zoo.py reads them.
"""

import functools
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parents[1])]

import xxhash  # noqa: E402
from fuzz.structure import Block, Member, Pieces, Skippable, Stream, join, split_payload  # noqa: E402
from tests_support import english, noise, records  # noqa: E402

from nczip.assets.models import find_model  # noqa: E402
from nczip.assets.primer import identify  # noqa: E402
from nczip.blocks import Apart, BlockKind, build_payload  # noqa: E402
from nczip.engines import LoadedModel, load_model  # noqa: E402
from nczip.formats import container as ct  # noqa: E402
from nczip.formats.runs import Run, RunKind  # noqa: E402
from nczip.formats.transforms.linebreaks import take_out  # noqa: E402
from nczip.formats.transforms.newlines import to_lf  # noqa: E402
from nczip.formats.varint import encode_varint  # noqa: E402
from nczip.headers import open_codec  # noqa: E402
from nczip.presets import BUILT_IN  # noqa: E402

_EXPECTED, _README = "expected.json", "README.md"
_PROSE = b"It was a line of some words, broken\r\nwhere the next of them\r\nwould not fit.\r\n"
_WIDTH = 30
_HEADER = ct.Header(block_size=1024, table_bits=ct.MIN_TABLE_BITS, byte_lanes=1)
_TEXT = english(300)


@dataclass(frozen=True)
class Animal:
    """A file of the zoo."""

    name: str
    why: str
    data: bytes
    content: bytes | None = None  #: of a good file
    error: str = ""  #: the class that a bad one must give
    message: str = ""  #: a part of its message


@functools.cache
def _model() -> LoadedModel:
    return load_model(find_model(BUILT_IN), "exact")


def _model_id(lanes: int = 1, window: int = 64) -> ct.ModelId:
    model = _model()
    fingerprint = model.engine.fingerprint[: ct.FINGERPRINT_BYTES]
    return ct.ModelId(model.engine_number, fingerprint, model.name, lanes, window, 0)


def _block(
    kind: BlockKind,
    raw: bytes,
    runs: Sequence[tuple[RunKind, int]] | None = None,
    *,
    header: ct.Header = _HEADER,
    crlf: bool = False,
    breaks: bool = False,
) -> Block:
    text, apart = raw, Apart()
    if crlf:
        text, line_ends = to_lf(text)
        apart = replace(apart, line_ends=line_ends)
    if breaks:
        text, coded = take_out(text, _WIDTH)
        apart = replace(apart, width=_WIDTH, breaks=coded)
    codec = open_codec(header, _model() if header.model else None, 1, None)
    table = [Run(*run) for run in runs or [(RunKind.BINARY, len(text))]]
    payload = build_payload(kind, text, apart, table, codec)
    assert payload is not None, kind
    pieces = split_payload(payload, len(raw))
    return Block(raw, pieces, len(raw), xxhash.xxh3_64_intdigest(raw))


def _stored(raw: bytes = b"some bytes, kept as they are\n") -> Block:
    return _block(BlockKind.STORED, raw)


def _mixed() -> Block:
    raw = english(40) + noise(24) + records(48)
    sizes = [(RunKind.BINARY, 40), (RunKind.STORED, 24), (RunKind.BINARY, 48)]
    return _block(BlockKind.MODELLED, raw, sizes)


def _apart(kind: BlockKind = BlockKind.MODELLED) -> Block:
    return _block(kind, _PROSE, crlf=True, breaks=True)


def _good(name: str, why: str, *parts: Member | Skippable) -> Animal:
    stream = list(parts)
    raw = b"".join(part.raw for part in stream)
    return Animal(f"good-{name}", why, join(stream), raw)


def _of(*blocks: Block, header: ct.Header = _HEADER) -> Member:
    return Member(header, list(blocks))


def good() -> Iterator[Animal]:
    """Files that must decode."""
    yield _good("empty", "a member without blocks", _of())
    yield _good("stored", "kind 0", _of(_stored()))
    yield _good("zstd", "kind 1", _of(_block(BlockKind.ZSTD, b"ab" * 500)))
    yield _good("modelled", "kind 2, one run of bytes", _of(_block(BlockKind.MODELLED, _TEXT)))
    primed = replace(_HEADER, primer=identify())
    block = _block(BlockKind.PRIMED, _TEXT, header=primed)
    yield _good("primed", "kind 3, under the primer", _of(block, header=primed))
    yield _good("binary", "kind 4", _of(_block(BlockKind.BINARY, records(480))))
    yield _good("runs", "kind 2, bytes, stored bytes, and bytes again", _of(_mixed()))
    crlf = _block(BlockKind.MODELLED, _PROSE, crlf=True)
    yield _good("crlf", "flag 128: LF stands for CR LF", _of(crlf))
    breaks = _block(BlockKind.MODELLED, _PROSE.replace(b"\r", b""), breaks=True)
    yield _good("breaks", "flag 64: breaks of lines kept apart", _of(breaks))
    for kind in (BlockKind.STORED, BlockKind.ZSTD, BlockKind.MODELLED):
        name = f"{kind.name.lower()}-crlf-breaks"
        yield _good(name, f"both flags beside kind {kind}", _of(_apart(kind)))
    large = replace(_HEADER, block_size=1 << 14, byte_lanes=3)
    long = _block(BlockKind.MODELLED, english(12_288), header=large)
    yield _good("three-lanes", "lanes of bytes: 3", _of(long, header=large))
    header = replace(_HEADER, model=_model_id())
    text = _block(BlockKind.MODELLED, _TEXT, [(RunKind.TEXT, 300)], header=header)
    yield _good("exact", "a text run under the exact engine and the built-in model",
                _of(text, header=header))  # fmt: skip
    header = replace(header, primer=identify())
    runs = [(RunKind.TEXT, 200), (RunKind.STORED, 10), (RunKind.BINARY, 90)]
    text = _block(BlockKind.PRIMED, _TEXT, runs, header=header)
    yield _good("exact-primed", "runs of all kinds under the exact engine and the primer",
                _of(text, header=header))  # fmt: skip
    header = replace(large, model=_model_id(lanes=2))
    text = _block(BlockKind.MODELLED, english(8192), [(RunKind.TEXT, 8192)], header=header)
    yield _good("exact-two-lanes", "lanes of text: 2", _of(text, header=header))
    assert header.model is not None
    header = replace(_HEADER, model=replace(header.model, sinks=4, window=16))
    text = _block(BlockKind.MODELLED, _TEXT, [(RunKind.TEXT, 300)], header=header)
    yield _good("exact-sinks", "a small window with sinks", _of(text, header=header))
    kinds = (_stored(), _block(BlockKind.ZSTD, b"ab" * 400), _mixed(), _apart(), _stored(b"end"))
    yield _good("blocks", "several blocks of different kinds", _of(*kinds))
    extension = replace(_HEADER, extensions=(ct.Extension(5, b"not critical"),))
    yield _good("extension", "an unknown extension that is not critical",
                _of(_stored(), header=extension))  # fmt: skip
    yield _good("members", "two members and empty ones around them",
                _of(), _of(_stored()), _of(), _of(_mixed()), _of())  # fmt: skip
    yield _good("skippable", "skippable frames before, between and behind members",
                Skippable(b"before"), _of(_stored()), Skippable(b""), Skippable(b"between"),
                _of(_stored()), Skippable(b"behind"))  # fmt: skip
    yield _good("only-skippable", "skippable frames and nothing else",
                Skippable(b"alone"), Skippable(b""))  # fmt: skip


def _bad(name: str, why: str, stream: Stream | bytes, message: str,
         error: str = "CorruptError", kind: str = "bad") -> Animal:  # fmt: skip
    data = stream if isinstance(stream, bytes) else join(stream)
    return Animal(f"{kind}-{name}", why, data, None, error, message)


def _headers() -> Iterator[Animal]:
    def bad(name: str, header: ct.Header, why: str, message: str = "allowed are") -> Animal:
        return _bad(f"header-{name}", why, [_of(_stored(), header=header)], message)

    yield bad("block-size-0", replace(_HEADER, block_size=0), "blocks of no bytes")
    yield bad("block-size", replace(_HEADER, block_size=(1 << 30) + 1), "blocks over 2^30 bytes")
    yield bad("table-small", replace(_HEADER, table_bits=9), "table bits below 10")
    yield bad("table-large", replace(_HEADER, table_bits=27), "table bits over 26")
    yield bad("lanes-0", replace(_HEADER, byte_lanes=0), "no lane of bytes")
    yield bad("lanes", replace(_HEADER, byte_lanes=257), "over 256 lanes of bytes")
    yield bad("primer", replace(_HEADER, primer=1 << 32), "a primer of over 32 bits")
    for name, why, changes in (
        ("model-lanes-0", "no lane of text", {"lanes": 0}),
        ("model-lanes", "over 256 lanes of text", {"lanes": 257}),
        ("window-small", "a window of one token", {"window": 1}),
        ("window-large", "a window over 2^20 tokens", {"window": (1 << 20) + 1}),
        ("sinks", "over 64 sinks", {"window": 512, "sinks": 65}),
        ("sinks-window", "sinks that take more than half of the window", {"sinks": 33}),
    ):
        yield bad(name, replace(_HEADER, model=replace(_model_id(), **changes)), why)
    packed = ct.pack_header(_HEADER)
    start, fields = packed[:5], packed[6:-4]

    def sealed(fields: bytes) -> bytes:
        head = start + encode_varint(len(fields)) + fields
        return head + ct.check32(head).to_bytes(4, "little")

    rest = join([_of(_stored())])[len(packed) :]
    yield _bad("header-short", "fields that end early", sealed(fields[:-1]) + rest, "inconsistent")
    yield _bad("header-extension-size", "an extension that ends behind the fields",
               sealed(fields + b"\x08\x05abcd") + rest, "inconsistent")  # fmt: skip
    yield _bad("header-number", "a number of over 63 bits", sealed(b"\xff" * 9 + fields) + rest,
               "too large")  # fmt: skip
    model = ct.pack_header(replace(_HEADER, model=_model_id()))[6:-4]
    name = model.index(b"nczip")
    model = model[:name] + b"\xff" + model[name + 1 :]
    yield _bad("header-name", "a model's name that is not UTF-8", sealed(model) + rest,
               "inconsistent")  # fmt: skip
    yield _bad("header-size", "fields of over 1024 bytes", sealed(fields + bytes(1100)) + rest,
               "header is damaged")  # fmt: skip
    yield _bad("header-check", "a header whose check does not hold",
               packed[:-1] + bytes([packed[-1] ^ 1]) + rest, "header is damaged")  # fmt: skip
    yield _bad("magic", "another magic number", b"\x8eNCX" + packed[4:] + rest, "not an nczip",
               "FormatError")  # fmt: skip


def _changed(block: Block, **changes: object) -> Block:
    return replace(block, **changes)  # type: ignore[arg-type]


def _frames() -> Iterator[Animal]:
    block = _stored()

    def bad(name: str, why: str, message: str, **changes: object) -> Animal:
        return _bad(f"block-{name}", why, [_of(_changed(block, **changes))], message)

    yield bad("raw-size-0", "a block of no bytes", "allowed are", raw_size=0)
    yield bad("raw-size", "a block larger than the header allows", "allowed are", raw_size=1025)
    yield bad("other-raw-size", "another raw size than the payload has", "does not decode",
              raw_size=block.raw_size + 1)  # fmt: skip
    yield bad("payload-0", "no payload", "allowed are", pieces=[])
    yield bad("payload-size", "a payload of over raw size + 64 bytes", "allowed are",
              pieces=[b"\0", bytes(block.raw_size + 64)])  # fmt: skip
    yield bad("raw-check", "another check of the raw bytes", "does not decode",
              raw_check=block.raw_check ^ 1)  # fmt: skip
    yield bad("number", "the second block's number on the first", "where it belongs", moved=1)
    two = [_of(_stored(), _stored(b"the second"))]
    data = join(two)
    at = data.rindex(b"the second")
    yield _bad("block-payload-check", "a changed byte in a payload",
               data[:at] + b"T" + data[at + 1 :], "a block is damaged")  # fmt: skip
    head = at - 6
    yield _bad("block-frame-check", "a changed byte in a frame's check",
               data[:head] + bytes([data[head] ^ 1]) + data[head + 1 :],
               "where it belongs")  # fmt: skip
    sizes = [len(ct.pack_header(_HEADER))]
    index = ct.scan_members(io.BytesIO(data))[0].index
    for _, size in index.blocks:
        sizes.append(sizes[-1] + size)
    one, other = data[sizes[0] : sizes[1]], data[sizes[1] : sizes[2]]
    yield _bad("block-order", "two blocks in the other's place",
               data[: sizes[0]] + other + one + data[sizes[2] :], "where it belongs")  # fmt: skip
    foreign = join([_of(_stored(), header=replace(_HEADER, block_size=1000))])
    size = len(ct.pack_header(replace(_HEADER, block_size=1000)))
    yield _bad("block-member", "a block of another member",
               data[: sizes[0]] + foreign[size : size + len(one)] + data[sizes[1] :],
               "where it belongs")  # fmt: skip
    yield _bad("block-lost", "a block that is missing", data[: sizes[0]] + other + data[sizes[2] :],
               "where it belongs")  # fmt: skip
    yield _bad("between-blocks", "a stray byte between two blocks",
               data[: sizes[1]] + b"?" + data[sizes[1] :], "between two blocks")  # fmt: skip


def _with(block: Block, change: Callable[[Pieces], object]) -> Stream:
    pieces = list(block.pieces)
    change(pieces)
    return [_of(_changed(block, pieces=pieces))]


def _payloads() -> Iterator[Animal]:
    def bad(name: str, why: str, block: Block, places: dict[int, bytes | int], message: str,
            error: str = "CorruptError") -> Animal:  # fmt: skip
        def change(pieces: Pieces) -> None:
            for place, value in places.items():
                pieces[place] = value

        return _bad(f"payload-{name}", why, _with(block, change), message, error)

    apart, mixed = _apart(), _mixed()
    breaks = bytes(apart.pieces[4])
    stored_apart = _apart(BlockKind.STORED)
    yield bad("line-ends", "more CR LF than the block has room for", apart, {1: 1000}, "its lines")
    yield bad("line-end", "another number of CR LF", apart, {1: 2}, "add up")
    yield bad("width", "another width", apart, {2: b"\x05"}, "decode")
    yield bad("breaks-size", "breaks that end behind the payload", apart, {3: 5000}, "claims more")
    yield bad("breaks-long", "bytes behind the coded breaks", apart,
              {3: len(breaks) + 9, 4: breaks + bytes(range(1, 10))}, "does not end")  # fmt: skip
    yield bad("breaks", "other breaks", stored_apart, {3: 2, 4: b"\x7f\xff"}, "decode")
    zstd = _block(BlockKind.ZSTD, b"ab" * 400)
    frame = bytes(zstd.pieces[-1])
    yield bad("zstd", "a zstd frame that is cut", zstd, {-1: frame[:-1]}, "damaged")
    other = bytes(_block(BlockKind.ZSTD, b"ab" * 401).pieces[-1])
    yield bad("zstd-size", "a zstd frame of another size", zstd, {-1: other}, "size of its zstd")
    yield bad("zstd-none", "no zstd frame at all", zstd, {-1: b"plain text"}, "damaged")
    yield bad("runs-count", "over 2^20 runs", mixed, {1: (1 << 20) + 1}, "run table")
    yield bad("runs-cut", "a run table that ends early", mixed, {1: 1 << 19}, "")
    yield bad("runs-kind", "a run of kind 3", mixed, {2: 40 << 2 | 3}, "unknown kind")
    yield bad("runs-sum", "runs that do not add up", mixed, {2: 41 << 2 | 1}, "add up")
    yield bad(
        "runs-text", "a run of text without a model", mixed, {2: 40 << 2 | 2}, "needs a model"
    )
    coded = bytes(mixed.pieces[-1])
    yield bad("coded", "another coded string", mixed, {-1: bytes([coded[0] ^ 1]) + coded[1:]},
              "does not end")  # fmt: skip
    yield bad("coded-long", "bytes behind the coded string", mixed, {-1: coded + b"more bytes"},
              "does not end")  # fmt: skip
    yield bad("coded-none", "no coded string", mixed, {-1: b""}, "decode")
    yield bad("primed", "a block under a primer that the header does not name", mixed, {0: b"\3"},
              "needs the primer")  # fmt: skip
    huge = replace(_HEADER, block_size=1 << 28)
    pieces: Pieces = [b"\2", 1, (1 << 28) << 2 | 1, b"", b"coded"]
    bomb = Block(b"", pieces, 1 << 28, 1)
    yield _bad("payload-bomb", "2^28 bytes claimed by ten", [_of(bomb, header=huge)],
               "claims more")  # fmt: skip


def _ends() -> Iterator[Animal]:
    blocks = [_stored(), _stored(b"the second")]
    good = join([_of(*blocks)])
    index, _ = ct.parse_index(good[good.rindex(b"I\2") :])
    entries, check = index.blocks, index.whole_check

    def bad(name: str, why: str, blocks_told: list[tuple[int, int]], whole_check: int = check,
            coding: bytes = index.coding) -> Animal:  # fmt: skip
        member = Member(_HEADER, blocks, ct.Index(blocks_told, whole_check, coding))
        return _bad(f"index-{name}", why, [member], "does not agree with the blocks")

    yield bad("count", "a block that is not there", [*entries, (10, 10)])
    yield bad("lost", "one block too few", entries[:1])
    yield bad("raw-size", "another raw size", [(1, entries[0][1]), entries[1]])
    yield bad("frame-size", "another size of a frame", [(29, 1), entries[1]])
    yield bad("order", "sizes in another order", entries[::-1])
    yield bad("whole-check", "another check of all raw bytes", entries, check ^ 1)
    other = ct.pack_coding(replace(_HEADER, byte_lanes=2))
    yield bad("coding", "another number of lanes than the header", entries, coding=other)
    end = len(good)
    for name, why, place in (
        ("check", "a check that does not hold", end - 10),
        ("size", "another size of itself", end - 5),
        ("end-mark", "another end mark", end - 1),
    ):
        data = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        yield _bad(f"index-{name}", f"an index with {why}", data, "index is damaged")
    cut = "TruncatedError", "bad"
    start = good.rindex(b"I\2")
    yield _bad("cut-index", "an index that is cut", good[:-4], "before the stream does", *cut)
    yield _bad("cut-no-index", "no index", good[:start], "before the stream does", *cut)
    yield _bad("cut-block", "a block that is cut", good[: start - 5], "before the stream", *cut)
    yield _bad("cut-header", "a header that is cut", good[:9], "before the stream does", *cut)
    yield _bad("cut-skippable", "a skippable frame that is cut",
               [_of(_stored()), Skippable(b"short", 500)], "before the stream", *cut)  # fmt: skip
    yield _bad("empty", "no bytes at all", b"", "empty", *cut)
    yield _bad("trailing", "something else behind a member", good + b"something else",
               "followed by something", "FormatError")  # fmt: skip


def bad() -> Iterator[Animal]:
    """Damaged files, most of which pass the checks of what is damaged."""
    yield from _headers()
    yield from _frames()
    yield from _payloads()
    yield from _ends()


def unsupported() -> Iterator[Animal]:
    """Files that another nczip may read, or this one elsewhere."""

    def animal(name: str, why: str, stream: Stream | bytes, message: str,
               error: str = "FormatError") -> Animal:  # fmt: skip
        return _bad(name, why, stream, message, error, "unsupported")

    data = bytearray(join([_of(_stored())]))
    for name, version in (("newer", ct.VERSION + 1), ("older", ct.VERSION - 1)):
        data[4] = version
        yield animal(f"version-{name}", f"version {'n + 1' if name == 'newer' else 'n - 1'}",
                     bytes(data), f"format version {version}")  # fmt: skip
    engine = replace(_HEADER, model=replace(_model_id(), engine=3))
    yield animal("engine", "engine 3", [_of(_stored(), header=engine)], "engine 3 is unknown")
    critical = replace(_HEADER, extensions=(ct.Extension(5, b"critical", True),))
    yield animal("extension", "a critical extension", [_of(_stored(), header=critical)],
                 "needs extension 5")  # fmt: skip
    block = _stored()
    kind = _changed(block, pieces=[b"\5", *block.pieces[1:]])
    yield animal("kind", "a block of kind 5", [_of(kind)], "unknown kind 5", "CorruptError")
    primer = replace(_HEADER, primer=identify() ^ 1)
    yield animal("primer", "another primer", [_of(_stored(), header=primer)], "needs the primer",
                 "PrimerError")  # fmt: skip
    model = replace(_HEADER, model=replace(_model_id(), fingerprint=bytes(8), name="another"))
    yield animal("model", "another model", [_of(_stored(), header=model)],
                 "needs the model 'another'", "ModelError")  # fmt: skip
    llama = replace(_model_id(), engine=ct.ENGINE_LLAMA, probe=1)
    header = replace(_HEADER, model=llama)
    yield animal("llama", "llama.cpp's logits of another machine", [_of(_stored(), header=header)],
                 "llama", "EngineError")  # fmt: skip
    huge = replace(_HEADER, block_size=1 << 30, table_bits=ct.MAX_TABLE_BITS)
    yield animal("memory", "more memory than the limit", [_of(_stored(), header=huge)],
                 "--memory", "LimitError")  # fmt: skip


_INTRODUCTION = """\
# A zoo of nczip files

As xz has one: small files, each of which shows one thing. `good-*` must decode to what
expected.json has the SHA-256 of; `bad-*` must be refused as damaged, and most pass the checks of
what is damaged in them; `unsupported-*` are whole, but for another nczip, model or machine.
tests/test_zoo.py reads them all.

`python tests/files/make.py` makes all of them anew, this page with them, for another format
version.

| file | why it is there | what it must give |
| --- | --- | --- |
"""


def main() -> None:
    """Write the files, what is expected of them, and README.md."""
    for path in FOLDER.glob("*.ncz"):
        path.unlink()
    expected, lines = {}, []
    for animal in [*good(), *bad(), *unsupported()]:
        name = f"{animal.name}.ncz"
        assert name not in expected, name
        (FOLDER / name).write_bytes(animal.data)
        outcome = f"{animal.error}: ...{animal.message}..."
        if animal.content is None:
            expected[name] = {"error": animal.error, "message": animal.message}
        else:
            expected[name] = {"sha256": hashlib.sha256(animal.content).hexdigest()}
            outcome = f"{len(animal.content)} bytes"
        lines.append(f"| {name} | {animal.why} | {outcome} |\n")
    (FOLDER / _EXPECTED).write_text(json.dumps(expected, indent=1) + "\n")
    (FOLDER / _README).write_text(_INTRODUCTION + "".join(lines))
    print(f"{len(expected)} files")


if __name__ == "__main__":
    main()
