"""A block's modelled bytes as one coded string, and back.

Text is cut into lanes and coded token by token under a transformer; binary bytes follow byte by
byte in a lane of their own, with the same tables. Without a transformer everything is binary.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nczip.coder import rangecoder
from nczip.coder.errors import ModelError
from nczip.coder.rangecoder import Costs
from nczip.predictors.coding import bytes_coder, tokens_coder
from nczip.predictors.ensemble import Ensemble, new_ensemble
from nczip.predictors.layout import FULL, Layout
from nczip.predictors.learnt import adopt
from nczip.predictors.memory import POSITION, STOP
from nczip.predictors.primer import Primer
from nczip.predictors.protocol import Setup
from nczip.predictors.recurrent import Weights, no_weights
from nczip.predictors.table import new_table
from nczip.predictors.transformer.engine import AheadSession, Engine, Session
from nczip.predictors.transformer.tokens import fed_tokens, token_lengths
from nczip.predictors.transformer.trie import Trie, build_trie, no_trie

U8Array = npt.NDArray[np.uint8]
I64Array = npt.NDArray[np.int64]

#: A lane is at least this long (bytes): each start costs the transformer its context.
MIN_LANE_BYTES = 4096


@dataclass(frozen=True)
class TransformerSettings:
    """How a transformer is used; None in its place means none."""

    engine: Engine
    trie: Trie
    lanes: int
    window: int  #: tokens
    threads: int
    sinks: int = 0  #: a lane's first tokens that stay in its window


@dataclass(frozen=True)
class CodecSettings:
    """What encoder and decoder must agree on."""

    table_bits: int
    byte_lanes: int
    transformer: TransformerSettings | None
    primer: Primer | None = None
    binary: bool = False  #: most of the block is not text
    layout: Layout = FULL
    network: Weights | None = None  #: the recurrent network's, for text without a transformer
    without: frozenset[str] = frozenset()  #: see ensemble.parts; to measure, never in a file
    meter: list[Costs] | None = None  #: to measure: gets the costs of each string that is coded


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
        The coded bytes, or None where they would not be smaller than their source (with a meter,
        where there are over four times as many).
    """
    data = np.frombuffer(text + binary, np.uint8).copy()
    meter = settings.meter
    coder = rangecoder.new_encoder(0 if meter is None else len(data))
    buffer = rangecoder.attach(coder, len(data) if meter is None else 4 * len(data) + 64)
    code(data, len(text), coder, buffer, settings)
    if meter is not None:
        meter.append(rangecoder.costs(coder))
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
    with_tokens = transformer is not None and text_size > 0
    networked = settings.network is not None and not (text_size or settings.binary)
    primer = settings.primer
    setup = Setup(
        table_bits=settings.table_bits,
        lanes=len(edges) - 1,
        primed=new_table(0) if primer is None else primer.table,
        trie=transformer.trie if transformer and with_tokens else no_trie(),
        network=settings.network if settings.network and networked else no_weights(),
    )
    layout = settings.layout
    ensemble = new_ensemble(
        data, edges, setup, binary=settings.binary, layout=layout, without=settings.without
    )
    learnt = None if primer is None else primer.learnt_tokens if with_tokens else primer.learnt
    if learnt is not None:
        adopt(ensemble, learnt, layout)
    if transformer and text_lanes:
        code_tokens = tokens_coder(layout)
        _code_text(code_tokens, ensemble, coder, buffer, transformer, text_lanes)
    bytes_coder(layout)(ensemble, coder, buffer, text_lanes, len(ensemble.block.lanes))
    return ensemble


def _code_text(
    code_tokens: Callable[..., Any],
    ensemble: Ensemble,
    coder: rangecoder.U64Array,
    buffer: U8Array,
    transformer: TransformerSettings,
    lanes: int,
) -> None:
    """Code the first ``lanes`` lanes, a token of each in turn."""
    block = ensemble.block
    texts: list[bytes] | None = None
    if not coder[rangecoder.DECODING]:
        texts = [block.data[row[POSITION] : row[STOP]].tobytes() for row in block.lanes[:lanes]]
    session = transformer.engine.open_session(
        lanes, transformer.window, transformer.threads, transformer.sinks
    )
    try:
        if texts is not None and isinstance(session, AheadSession):
            _encode_ahead(code_tokens, ensemble, coder, buffer, transformer, session, texts)
        else:
            _code_in_step(code_tokens, ensemble, coder, buffer, transformer, session, lanes, texts)
    finally:
        session.close()


def _code_in_step(
    code_tokens: Callable[..., Any],
    ensemble: Ensemble,
    coder: rangecoder.U64Array,
    buffer: U8Array,
    transformer: TransformerSettings,
    session: Session,
    lanes: int,
    texts: list[bytes] | None,
) -> None:
    """Evaluate one token of each lane, code what follows, evaluate that; decode without texts.

    Where it changes no logits and pays, the lanes are evaluated in two halves: one while the tokens
    of the other are coded.
    """
    engine = transformer.engine
    memory = ensemble.block.lanes
    lengths = [token_lengths(engine, transformer.trie, text) for text in texts or ()]
    halves = lanes > 1 and isinstance(session, AheadSession) and session.in_halves
    groups = np.array_split(np.arange(lanes), 2 if halves else 1)
    coded = [0] * lanes  # tokens so far
    with ThreadPoolExecutor(1) as pool:

        def evaluate(step: I64Array) -> Future[npt.NDArray[np.float32]]:
            tokens = [[token] for token in step[:, 2].tolist()]
            return pool.submit(session.evaluate, step[:, 0].tolist(), tokens)

        waiting: deque[tuple[I64Array, Future[npt.NDArray[np.float32]]]] = deque()
        for group in groups:
            start = np.full(len(group), engine.start_token)
            step = np.stack([group, np.arange(len(group)), start], axis=1)
            waiting.append((step, evaluate(step)))
        while waiting:
            step, logits = waiting.popleft()
            for row, lane in enumerate(step[:, 0].tolist() if lengths else ()):
                step[row, 2] = lengths[lane][coded[lane]]
                coded[lane] += 1
            code_tokens(ensemble, coder, buffer, step, logits.result())
            rangecoder.raise_if_aborted(coder)
            active = step[:, 0]
            more = memory[active, POSITION] < memory[active, STOP]
            if not more.all():
                step = step[more]
                step[:, 1] = np.arange(len(step))
            if len(step):
                waiting.append((step, evaluate(step)))


def _encode_ahead(
    code_tokens: Callable[..., Any],
    ensemble: Ensemble,
    coder: rangecoder.U64Array,
    buffer: U8Array,
    transformer: TransformerSettings,
    session: AheadSession,
    texts: list[bytes],
) -> None:
    """Code the same, with many positions evaluated at once, while those before are coded."""
    engine, trie = transformer.engine, transformer.trie
    lengths = [token_lengths(engine, trie, text) for text in texts]
    inputs = [
        [engine.start_token, *fed_tokens(trie, text, n)[:-1].tolist()]
        for text, n in zip(texts, lengths, strict=True)
    ]
    chunk = max(1, session.ahead_tokens // len(texts))

    def evaluate(start: int) -> tuple[I64Array, npt.NDArray[np.float32]]:
        """The steps from ``start`` on and their logits."""
        lanes = [lane for lane, tokens in enumerate(inputs) if len(tokens) > start]
        tokens = [inputs[lane][start : start + chunk] for lane in lanes]
        owner = np.repeat(lanes, [len(new) for new in tokens])
        place = np.concatenate([np.arange(len(new)) for new in tokens])
        size = np.concatenate([lengths[lane][start : start + chunk] for lane in lanes])
        step = np.stack([owner, np.arange(len(owner)), size], axis=1)
        logits = session.evaluate_all(lanes, tokens)
        return np.ascontiguousarray(step[np.lexsort((owner, place))]), logits

    starts = range(0, max(map(len, inputs)), chunk)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(evaluate, 0)
        for start in starts:
            step, logits = following.result()
            if start + chunk in starts:
                following = pool.submit(evaluate, start + chunk)
            code_tokens(ensemble, coder, buffer, step, logits)
            rangecoder.raise_if_aborted(coder)
