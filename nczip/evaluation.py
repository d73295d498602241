"""What bytes and tokens cost: how well a model knows a text, measured by coding it."""

from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
import numpy.typing as npt

from nczip.blocks import Apart, BlockKind, build_payload
from nczip.buffers import Buffer, byte_view
from nczip.coder.rangecoder import Costs
from nczip.formats.runs import RunKind
from nczip.headers import build_header, open_codec
from nczip.options import CompressKeywords, CompressOptions
from nczip.planning import Analysis, Candidate, Needs, analyse, candidates
from nczip.predictors.codec import CodecSettings
from nczip.presets import Level, PresetName
from nczip.settings import choose, fit_tables
from nczip.workers import OrderedPool

I64Array = npt.NDArray[np.int64]
F64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """What n raw bytes cost, in bits, and the t tokens that they were coded as.

    Where no transformer had a say there are no tokens. Tokens come in the order of the text;
    where binary bytes lie inside of one, they lie between its start and its end, too.
    """

    byte_bits: F64Array  #: float64[n]; stored bytes cost 8, bytes of CRLFs' CR nothing
    token_starts: I64Array  #: int64[t], where each token starts in the raw bytes
    token_ends: I64Array  #: int64[t], and where it ends
    token_bits: F64Array  #: float64[t]; also counted in those of its bytes
    coded_size: int  #: bytes of all blocks' payloads; beside the bits they hold some fields

    @property
    def bits_per_byte(self) -> float:
        """The mean of ``byte_bits``; 0 of nothing."""
        return float(self.byte_bits.mean()) if len(self.byte_bits) else 0.0


def evaluate(
    data: Buffer, preset: PresetName | Level = "default", **options: Unpack[CompressKeywords]
) -> Evaluation:
    """How many bits each byte and each token of ``data`` takes, as compression would spend them.

    Args:
        data: any bytes; text is worth evaluating.
        preset: as for :class:`nczip.Compressor`.
        options: as for :class:`nczip.Compressor`. With ``model`` or ``engine`` all text is coded
            under the model, whatever that costs; else a block is taken as it is smallest.

    Raises:
        ValueError, ModelError, EngineError: as :class:`nczip.Compressor`.
    """
    chosen = CompressOptions(preset, **options)
    settings = choose(chosen)
    raw = bytes(byte_view(data))
    if len(raw) <= settings.block_size:
        settings = fit_tables(settings, len(raw))
    available = Needs(settings.model is not None, settings.primer)
    header = build_header(settings, available, chosen.workers)
    codec = open_codec(header, settings.model, chosen.workers, chosen.announce)
    pool: OrderedPool[Evaluation] = OrderedPool(chosen.workers)
    found = []
    try:
        for start in range(0, len(raw), settings.block_size):
            if pool.is_full:
                found.append(pool.take())
            block = raw[start : start + settings.block_size]
            pool.submit(_evaluate_block, block, codec, available, settings.insist)
        while not pool.is_empty:
            found.append(pool.take())
    finally:
        pool.close()
    return _joined(found)


def _joined(blocks: list[Evaluation]) -> Evaluation:
    starts = np.cumsum([0, *(len(block.byte_bits) for block in blocks)])
    moved = [
        replace(block, token_starts=block.token_starts + start, token_ends=block.token_ends + start)
        for block, start in zip(blocks, starts.tolist(), strict=False)
    ]
    nothing = Evaluation(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), 0)
    every = [nothing, *moved]
    return Evaluation(
        byte_bits=np.concatenate([block.byte_bits for block in every]),
        token_starts=np.concatenate([block.token_starts for block in every]),
        token_ends=np.concatenate([block.token_ends for block in every]),
        token_bits=np.concatenate([block.token_bits for block in every]),
        coded_size=sum(block.coded_size for block in every),
    )


def _evaluate_block(raw: bytes, codec: CodecSettings, available: Needs, insist: bool) -> Evaluation:
    block = analyse(raw)
    ways = candidates(block, available, insist)
    if insist:  # a few bytes would be stored, or kept by zstd
        ways = [way for way in ways if way.kind >= BlockKind.MODELLED] or ways
    found = []
    for way in ways:
        meter: list[Costs] = []
        metered = replace(codec, meter=meter)
        payload = build_payload(way.kind, way.text, way.apart, way.runs, metered)
        if payload is not None:
            found.append((len(payload), way, meter))
    if not found:  # the format leaves what is more redundant to zstd
        way = Candidate(BlockKind.ZSTD, block.text, block.apart)
        payload = build_payload(way.kind, way.text, way.apart, (), codec)
        assert payload is not None
        found.append((len(payload), way, []))
    size, way, meter = min(found, key=lambda item: item[0])
    if not meter:
        return _without_costs(block, way, size)
    return _with_costs(block, way, meter[0], size)


def _without_costs(block: Analysis, way: Candidate, size: int) -> Evaluation:
    """Of a block that is stored or kept by zstd: every byte costs the same."""
    bits = np.full(len(block.raw), 8.0 * size / len(block.raw))
    none = np.zeros(0, np.int64)
    return Evaluation(bits, none, none, np.zeros(0), size)


def _with_costs(block: Analysis, way: Candidate, costs: Costs, size: int) -> Evaluation:
    """Of a modelled block: from the order of coding to that of the raw bytes."""
    coded = np.zeros(len(costs.bits))
    coded[costs.positions] = costs.bits
    places = _coded_places(way)
    bits = np.full(len(way.text), 8.0)
    bits[places] = coded
    first, last = _raw_places(block.raw, way.apart)
    raw_bits = np.zeros(len(block.raw))
    raw_bits[last] = bits
    breaks = _breaks(block.raw, way, last)
    raw_bits[breaks] += 8.0 * len(way.apart.breaks) / max(len(breaks), 1)
    ends = np.sort(costs.positions[costs.ends])
    starts = np.concatenate([[0], ends + 1])[: len(ends)].astype(np.int64)
    token_bits = np.zeros(0)
    if len(ends):
        token_bits = np.add.reduceat(coded[: ends[-1] + 1], starts)
    return Evaluation(
        byte_bits=raw_bits,
        token_starts=first[places[starts]],
        token_ends=last[places[ends]] + 1,
        token_bits=token_bits,
        coded_size=size,
    )


def _coded_places(way: Candidate) -> I64Array:
    """Where in a block's text the bytes lie that are coded, those of text first."""
    kinds = np.repeat([run.kind for run in way.runs], [run.size for run in way.runs])
    found = [np.flatnonzero(kinds == kind) for kind in (RunKind.TEXT, RunKind.BINARY)]
    return np.concatenate(found).astype(np.int64)


def _raw_places(raw: bytes, apart: Apart) -> tuple[I64Array, I64Array]:
    """Where in the raw bytes each byte of a block's text starts, and its last: LF may be CRLF."""
    is_last = np.ones(len(raw), np.bool_)
    if apart.line_ends:
        is_last = np.frombuffer(raw, np.uint8) != ord("\r")
    last = np.flatnonzero(is_last).astype(np.int64)
    return np.concatenate([[0], last[:-1] + 1]).astype(np.int64), last


def _breaks(raw: bytes, way: Candidate, last: I64Array) -> I64Array:
    """Which raw bytes are line ends in whose place the text has spaces."""
    here = np.frombuffer(raw, np.uint8)[last]
    found: I64Array = last[here != np.frombuffer(way.text, np.uint8)]
    return found
