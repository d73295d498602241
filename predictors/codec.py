"""A block's modelled bytes as one coded string, and back.

Text is cut into lanes and coded token by token under a transformer; binary bytes follow byte by
byte in a lane of their own, with the same tables. Without a transformer everything is binary.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from nczip.coder import rangecoder
from nczip.coder.errors import ModelError
from nczip.predictors.contexts import MATCH_LENGTH, POSITION, STOP
from nczip.predictors.ensemble import (
    CERTAIN_LENGTH,
    SKIP,
    Ensemble,
    Primer,
    code_bytes,
    code_tokens,
    new_ensemble,
)
from nczip.predictors.transformer.engine import Engine
from nczip.predictors.transformer.tokens import token_lengths
from nczip.predictors.transformer.trie import Trie, build_trie, no_trie

U8Array = npt.NDArray[np.uint8]
I64Array = npt.NDArray[np.int64]

#: A lane is at least this long (bytes): each start costs the transformer its context.
MIN_LANE_BYTES = 4096

#: A skipping lane is evaluated again after so many tokens at the latest.
_MAX_PENDING = 64


@dataclass(frozen=True)
class TransformerSettings:
    """How a transformer is used; None in its place means none."""

    engine: Engine
    trie: Trie
    lanes: int
    window: int  #: tokens
    threads: int


@dataclass(frozen=True)
class CodecSettings:
    """What encoder and decoder must agree on."""

    table_bits: int
    disabled: int  #: mask of the predictors that are off
    byte_lanes: int
    transformer: TransformerSettings | None
    primer: Primer | None = None
    binary: bool = False  #: most of the block is not text


def engine_trie(engine: Engine) -> Trie:
    """The byte trie over an engine's vocabulary."""
    return build_trie(engine.vocabulary, engine.start_token)


def lane_edges(size: int, lanes: int) -> I64Array:
    """Cut ``size`` bytes into at most ``lanes`` equal lanes; int64[lanes + 1] (SPEC.md, Lanes)."""
    count = max(1, min(lanes, size // MIN_LANE_BYTES))
    return np.array([size * i // count for i in range(count + 1)], np.int64)


def encode(text: bytes, binary: bytes, settings: CodecSettings) -> bytes | None:
    """Code ``text`` (under the transformer) and then ``binary``.

    Returns:
        The coded bytes, or None where they would not be smaller than their source.
    """
    data = np.frombuffer(text + binary, np.uint8).copy()
    coder = rangecoder.new_encoder()
    buffer = rangecoder.attach(coder, len(data))
    code(data, len(text), coder, buffer, settings)
    return rangecoder.finish(coder, buffer)


def decode(
    coded: bytes, text_size: int, binary_size: int, settings: CodecSettings
) -> tuple[bytes, bytes]:
    """The text and the binary bytes that :func:`encode` was given.

    Raises:
        ModelError: there is text, but no transformer is set.
        CorruptError: the coded bytes do not end where they should.
    """
    data = np.zeros(text_size + binary_size, np.uint8)
    buffer = np.frombuffer(coded or b"\0", np.uint8).copy()
    coder = rangecoder.new_decoder(buffer)
    code(data, text_size, coder, buffer, settings)
    rangecoder.check_finished(coder)
    return data[:text_size].tobytes(), data[text_size:].tobytes()


def code(
    data: U8Array,
    text_size: int,
    coder: rangecoder.U64Array,
    buffer: U8Array,
    settings: CodecSettings,
) -> Ensemble:
    """Code ``data``, text first, in the direction that ``coder`` was made for.

    Returns:
        The ensemble with all that it has learnt.
    """
    transformer = settings.transformer
    edges = np.zeros(1, np.int64)
    if text_size:
        if transformer is None:
            raise ModelError("the block holds text coded under a model, but none is set")
        edges = lane_edges(text_size, transformer.lanes)
    text_lanes = len(edges) - 1
    if len(data) > text_size:
        binary = text_size + lane_edges(len(data) - text_size, settings.byte_lanes)
        edges = np.concatenate([edges, binary[1:]])
    trie = transformer.trie if transformer and text_size else no_trie()
    ensemble = new_ensemble(
        data, edges, settings.table_bits, trie, settings.disabled, settings.primer, settings.binary
    )
    if transformer and text_lanes:
        _code_text(ensemble, coder, buffer, transformer, text_lanes)
    code_bytes(ensemble, coder, buffer, text_lanes, len(ensemble.lanes))
    return ensemble


def _code_text(
    ensemble: Ensemble,
    coder: rangecoder.U64Array,
    buffer: U8Array,
    transformer: TransformerSettings,
    lanes: int,
) -> None:
    """Code the first ``lanes`` lanes, a token of each in turn."""
    engine = transformer.engine
    lengths = None
    if not coder[rangecoder.DECODING]:
        texts = [
            ensemble.data[row[POSITION] : row[STOP]].tobytes() for row in ensemble.lanes[:lanes]
        ]
        lengths = [token_lengths(engine, ensemble.trie, text) for text in texts]
    pending = [[engine.start_token] for _ in range(lanes)]
    coded = np.zeros(lanes, np.int64)  # tokens so far
    logits = np.zeros((1, len(engine.vocabulary)), np.float32)
    session = engine.open_session(lanes, transformer.window, transformer.threads)
    try:
        while True:
            rows = ensemble.lanes[:lanes]
            active = np.flatnonzero(rows[:, POSITION] < rows[:, STOP]).tolist()
            if not active:
                return
            evaluated = [lane for lane in active if not _skips(ensemble, lane, pending[lane])]
            if evaluated:
                logits = session.evaluate(evaluated, [pending[lane] for lane in evaluated])
            step = np.full((len(active), 3), -1, np.int64)
            step[:, 0] = active
            row_of = {lane: row for row, lane in enumerate(evaluated)}
            step[:, 1] = [row_of.get(lane, -1) for lane in active]
            if lengths is not None:
                step[:, 2] = [lengths[lane][coded[lane]] for lane in active]
            code_tokens(ensemble, coder, buffer, step, logits)
            for lane in evaluated:
                pending[lane].clear()
            for lane, _, token in step.tolist():
                pending[lane].append(token)
            coded[active] += 1
    finally:
        session.close()


def _skips(ensemble: Ensemble, lane: int, pending: list[int]) -> bool:
    """Whether a lane codes its next token without asking the transformer."""
    return bool(
        ensemble.disabled[0] & SKIP == 0
        and ensemble.lanes[lane, MATCH_LENGTH] >= CERTAIN_LENGTH
        and len(pending) < _MAX_PENDING
    )
