"""The streams that are mutated: tiny, so that a case takes milliseconds, and of every kind."""

import contextlib
import functools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import xxhash
from small_models import Shape, write_model
from tests_support import english, noise, records

from nczip import limits
from nczip.assets.primer import identify
from nczip.blocks import Apart, BlockKind, build_payload
from nczip.engines import LoadedModel, load_model
from nczip.formats import container as ct
from nczip.formats.runs import Run, RunKind
from nczip.formats.transforms.linebreaks import take_out
from nczip.formats.transforms.newlines import to_lf
from nczip.headers import open_codec
from nczip.predictors import codec

from .structure import Block, Member, Skippable, Stream, split_payload

_TABLE_BITS = ct.MIN_TABLE_BITS
_BLOCK_SIZE = 1024
PROSE = b"It was a line of some words, broken\r\nwhere the next of them\r\nwould not fit.\r\n"
_WIDTH = 30
_LANE_BYTES = 16


@contextlib.contextmanager
def small_scale() -> Iterator[None]:
    """Tiny blocks have several lanes, and the primed table, mapped once, is not in the limit."""
    with (
        mock.patch.object(codec, "MIN_LANE_BYTES", _LANE_BYTES),
        mock.patch.object(limits, "PRIMED_TABLE_BITS", 0),
    ):
        yield


@functools.cache
def model_file() -> Path:
    """A model of a few thousand weights."""
    folder = Path(tempfile.mkdtemp(prefix="nczip-fuzz-"))
    shape = Shape(layers=1, width=32, heads=2, key_heads=1, size=16, hidden=48)
    return write_model(folder / "tiny.gguf", shape)


@functools.cache
def tiny_model() -> LoadedModel:
    """That model under the exact engine."""
    return load_model(model_file(), "exact")


def plain_header(byte_lanes: int = 1) -> ct.Header:
    """A header without model or primer."""
    return ct.Header(block_size=_BLOCK_SIZE, table_bits=_TABLE_BITS, byte_lanes=byte_lanes)


def exact_header() -> ct.Header:
    """A header that names the tiny model."""
    model = tiny_model()
    name = ct.ModelId(
        engine=model.engine_number,
        fingerprint=model.engine.fingerprint[: ct.FINGERPRINT_BYTES],
        name=model.name,
        lanes=2,
        window=32,
        probe=0,
        sinks=2,
    )
    return ct.Header(_BLOCK_SIZE, _TABLE_BITS, 1, model=name)


def make_block(
    raw: bytes,
    kind: BlockKind,
    runs: Sequence[Run] | None = None,
    *,
    flags: bool = False,
    header: ct.Header | None = None,
) -> Block:
    """A block of a kind; its modelled bytes are one binary run if nothing else is said.

    Args:
        flags: keep CRLFs and breaks of lines apart.
        header: of its member, where that is not a plain one.
    """
    text, apart = raw, Apart()
    if flags:
        text, line_ends = to_lf(raw)
        text, breaks = take_out(text, _WIDTH)
        apart = Apart(line_ends, _WIDTH, breaks)
    header = header or plain_header()
    settings = open_codec(header, tiny_model() if header.model else None, 1, None)
    runs = [Run(RunKind.BINARY, len(text))] if runs is None else runs
    payload = build_payload(kind, text, apart, runs, settings)
    assert payload is not None
    pieces = split_payload(payload, len(raw))
    return Block(raw, pieces, len(raw), xxhash.xxh3_64_intdigest(raw))


def primed(header: ct.Header) -> ct.Header:
    """The same under the primer."""
    return replace(header, primer=identify())


@functools.cache
def blocks() -> dict[str, Block]:
    """A block of every kind."""
    with small_scale():
        return _make_blocks()


def _make_blocks() -> dict[str, Block]:
    mixed = english(30) + noise(16) + records(40)
    runs = [Run(RunKind.BINARY, 30), Run(RunKind.STORED, 16), Run(RunKind.BINARY, 40)]
    text = english(60, 3)
    header = exact_header()
    text_runs = [Run(RunKind.TEXT, 40), Run(RunKind.STORED, 2), Run(RunKind.BINARY, 18)]
    return {
        "stored": make_block(noise(20), BlockKind.STORED),
        "zstd": make_block(b"ab" * 200, BlockKind.ZSTD),
        "modelled": make_block(english(50), BlockKind.MODELLED),
        "mixed runs": make_block(mixed, BlockKind.MODELLED, runs),
        "binary": make_block(records(48), BlockKind.BINARY),
        "apart": make_block(PROSE, BlockKind.MODELLED, flags=True),
        "stored, apart": make_block(PROSE, BlockKind.STORED, flags=True),
        "zstd, apart": make_block(PROSE, BlockKind.ZSTD, flags=True),
        "exact": make_block(text, BlockKind.MODELLED, text_runs, header=header),
        "lanes": make_block(english(50, 4), BlockKind.MODELLED, header=plain_header(3)),
        "primed": make_block(english(60, 5), BlockKind.PRIMED, header=primed(plain_header())),
        "exact, primed": make_block(text, BlockKind.PRIMED, text_runs, header=primed(header)),
    }


@functools.cache
def streams() -> dict[str, Stream]:
    """Streams to start from; they are copied before they are changed."""
    made = blocks()

    def member(*names: str) -> Member:
        return Member(plain_header(), [made[name] for name in names])

    return {
        "one block": [member("modelled")],
        "mixed runs": [member("mixed runs")],
        "cheap blocks": [member("stored", "zstd", "stored, apart", "zstd, apart")],
        "all kinds": [member("stored", "modelled", "zstd", "binary")],
        "apart": [member("apart")],
        "apart, not coded": [member("stored, apart", "zstd, apart")],
        "two members": [
            member("stored", "binary"),
            Skippable(b"between"),
            member("zstd"),
        ],
        "skippable frames": [Skippable(b""), member("stored"), Skippable(b"\x8eNCZ at the end")],
        "empty": [member()],
        "empty members": [member(), member("stored"), member()],
        "exact": [Member(exact_header(), [made["exact"], made["stored"]])],
        "lanes": [Member(plain_header(3), [made["lanes"]])],
        "primed": [Member(primed(plain_header()), [made["primed"], made["modelled"]])],
        "exact, primed": [Member(primed(exact_header()), [made["exact, primed"]])],
    }
