"""The ``exact`` engine: a GGUF of llama's graph evaluated with the same bits on every machine.

A token's logits depend on its lane's past alone, not on what is evaluated beside it nor on who
evaluates it, so many positions may be evaluated in one call and threads share the work as it comes.
The arithmetic is in graph.py, the weights come from weights.py.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np

from nczip.coder.errors import EngineError
from nczip.predictors.transformer.engine import F32Array, check_sinks
from nczip.predictors.transformer.gguf_file import check_gguf
from nczip.predictors.transformer.gguf_tokens import GgufVocabulary
from nczip.predictors.transformer.graph import (
    GROUP,
    Batch,
    Private,
    Weights,
    cells_of,
    filled_up,
    forward,
    new_cache,
    new_private,
    new_scratch,
)
from nczip.predictors.transformer.trie import MAX_TOKENS
from nczip.predictors.transformer.weights import load_weights

# Bytes of weights that stay in a cache; what is larger comes from memory again for each half.
_CACHED = 32 << 20


class ExactEngine:
    """A GGUF of llama's graph (F32, F16, BF16 or any quantisation that gguf can unpack).

    Raises:
        ModelError: the file is missing, not a GGUF, damaged, or of another architecture.
    """

    name: Literal["exact"] = "exact"
    places = "the CPU"

    def __init__(self, path: Path) -> None:
        gguf = check_gguf(path, MAX_TOKENS)
        with path.open("rb") as file:
            self.fingerprint = hashlib.file_digest(file, "sha256").digest()
        tokens = GgufVocabulary(gguf)
        self.vocabulary = tokens.spellings
        self.start_token = tokens.start_token
        self.tokenise = tokens.tokenise
        self._weights = load_weights(gguf, self.fingerprint)

    def open_session(self, lanes: int, window: int, threads: int, sinks: int = 0) -> "ExactSession":
        return ExactSession(self._weights, lanes, window, threads, sinks)

    def multiplications(self, window: int) -> int:
        """Multiply-adds of one token under a full window."""
        weights = self._weights
        heads, _, size, _, _ = weights.shape.tolist()
        attention = 2 * len(weights.attention_norm) * heads * size * window
        return _matrix_bytes(weights) + int(attention)

    def session_bytes(self, lanes: int, window: int, sinks: int) -> int:
        """The rings of keys and values: a level for each number, a scale for each vector."""
        _, key_heads, size, _, _ = self._weights.shape.tolist()
        rings = len(self._weights.attention_norm) * lanes * key_heads
        return int(rings * cells_of(window, sinks) * (2 * filled_up(size) + 8))

    def probe(self, lanes: int, window: int, threads: int, sinks: int = 0) -> int:
        """0: the same on every machine."""
        del lanes, window, threads, sinks
        return 0


def _matrix_bytes(weights: Weights) -> int:
    matrices = (weights.qkv, weights.attention_out, weights.gate_up, weights.down, weights.head)
    return sum(int(matrix.values.size) for matrix in matrices)


class ExactSession:
    """The caches of all lanes, and threads that evaluate them together."""

    #: Tokens of all lanes together that are best evaluated at once, where they are known.
    ahead_tokens = GROUP

    def __init__(self, weights: Weights, lanes: int, window: int, threads: int, sinks: int) -> None:
        check_sinks(sinks, window)
        self._weights = weights
        self.in_halves = threads > 1 and _matrix_bytes(weights) <= _CACHED
        self._cache = new_cache(weights, lanes, window, sinks)
        self._scratch = new_scratch(weights, GROUP)
        self._privates = [
            new_private(weights, GROUP, window, sinks) for _ in range(max(1, threads))
        ]
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def evaluate(self, lanes: Sequence[int], tokens: Sequence[Sequence[int]]) -> F32Array:
        return self._evaluate(lanes, tokens, False)

    def evaluate_all(self, lanes: Sequence[int], tokens: Sequence[Sequence[int]]) -> F32Array:
        return self._evaluate(lanes, tokens, True)

    def _evaluate(
        self, lanes: Sequence[int], tokens: Sequence[Sequence[int]], every: bool
    ) -> F32Array:
        """Logits after every token, or after each lane's last, in groups that fit the scratch."""
        counts = np.array([len(new) for new in tokens], np.int64)
        ends = np.cumsum(counts)
        owners = np.repeat(np.asarray(lanes, np.int64), counts)
        places = np.arange(len(owners)) - np.repeat(ends - counts, counts)
        positions = self._cache.positions[owners] + places
        self._cache.positions[np.asarray(lanes, np.int64)] += counts
        flat = np.fromiter((token for new in tokens for token in new), np.int64, len(owners))
        if len(flat) and not 0 <= flat.min() <= flat.max() < len(self._weights.embedding):
            raise EngineError("a token is not one of the model's")
        wanted = np.arange(len(owners)) if every else ends - 1
        logits = np.empty((len(wanted), self._weights.head.scales.shape[1]), np.float32)
        for first in range(0, len(owners), GROUP):
            part = slice(first, first + GROUP)
            low, high = np.searchsorted(wanted, [first, first + GROUP])
            starts = np.flatnonzero(np.diff(owners[part], prepend=-1))
            batch = Batch(
                tokens=flat[part],
                positions=positions[part],
                lanes=owners[part][starts],
                edges=np.append(starts, len(owners[part])),
                wanted=wanted[low:high] - first,
            )
            self._forward(batch, logits[low:high])
        return np.ascontiguousarray(logits[:, : len(self._weights.embedding)])

    def _forward(self, batch: Batch, logits: F32Array) -> None:
        """Evaluate a batch with all threads; those that have not begun in time are not needed."""
        self._scratch.pieces[:] = 0

        def run(private: Private) -> bool:
            finite: bool = forward(
                self._weights, self._cache, self._scratch, private, batch, logits
            )
            return finite

        futures = []
        if self._pool is not None:
            futures = [self._pool.submit(run, private) for private in self._privates[1:]]
        finite = run(self._privates[0])
        for future in futures:
            if not future.cancel():
                future.result()
        if not finite:
            raise EngineError("the model's logits are not finite")

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
