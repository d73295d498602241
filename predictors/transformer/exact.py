"""The ``exact`` engine: a GGUF of llama's graph evaluated with the same bits on every machine.

A token's logits depend on its lane's past alone, not on what is evaluated beside it, so lanes may
be spread over threads and many positions may be evaluated in one call. The arithmetic is in
graph.py.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nczip.coder.errors import EngineError, ModelError
from nczip.coder.exactmath import exp, log
from nczip.predictors.simd import LANES, to_panels
from nczip.predictors.transformer.engine import F32Array
from nczip.predictors.transformer.gguf_tokens import GgufVocabulary
from nczip.predictors.transformer.graph import (
    GROUP,
    MAX_WIDTH,
    WEIGHT_LEVELS,
    Matrix,
    Weights,
    filled_up,
    forward,
    new_cache,
    new_scratch,
)

#: Architectures with llama's graph, and whether rotary embedding turns the halves of a head against
#: each other (NEOX) instead of adjacent pairs.
_ROTATES_HALVES = {"llama": False, "exaone": True, "qwen2": True}


def rotary_frequencies(size: int, base: float) -> npt.NDArray[np.float64]:
    """``base ** (-2 i / size)`` for i < size / 2, from exact operations."""
    ln_base = float(log(base))
    powers = [float(exp.py_func(-2.0 * i / size * ln_base)) for i in range(size // 2)]
    return np.array(powers)


class ExactEngine:
    """A GGUF of llama's graph (F32, F16, BF16 or any quantisation that gguf can unpack).

    Raises:
        ModelError: the file is missing, not a GGUF, or of another architecture.
    """

    name: Literal["exact"] = "exact"

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ModelError(f"no model file at {path}")
        with path.open("rb") as file:
            self.fingerprint = hashlib.file_digest(file, "sha256").digest()
        reader = _open_gguf(path)
        tokens = GgufVocabulary(reader)
        self.vocabulary = tokens.spellings
        self.start_token = tokens.start_token
        self.tokenise = tokens.tokenise
        self._weights = _load_weights(reader, path)

    def open_session(self, lanes: int, window: int, threads: int) -> "ExactSession":
        return ExactSession(self._weights, lanes, window, threads)

    def multiplications(self, window: int) -> int:
        """Multiply-adds of one token under a full window."""
        weights = self._weights
        heads, _, size, _ = weights.shape.tolist()
        matrices = (weights.qkv, weights.attention_out, weights.gate_up, weights.down, weights.head)
        attention = 2 * len(weights.attention_norm) * heads * size * window
        return sum(int(matrix.values.size) for matrix in matrices) + int(attention)

    def session_bytes(self, lanes: int, window: int) -> int:
        """The rings of keys and values: a level for each number, a scale for each vector."""
        _, key_heads, size, _ = self._weights.shape.tolist()
        rings = len(self._weights.attention_norm) * lanes * key_heads
        return int(rings * filled_up(window) * (size + filled_up(size) + 8))

    def probe(self, lanes: int, window: int, threads: int) -> int:
        """0: the same on every machine."""
        del lanes, window, threads
        return 0


class ExactSession:
    """The caches of all lanes, and threads that each evaluate some of the lanes."""

    def __init__(self, weights: Weights, lanes: int, window: int, threads: int) -> None:
        self._weights = weights
        self._cache = new_cache(weights, lanes, window)
        workers = max(1, min(threads, lanes))
        self._scratches = [new_scratch(weights, window) for _ in range(workers)]
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def evaluate(self, lanes: Sequence[int], tokens: Sequence[Sequence[int]]) -> F32Array:
        return self._evaluate(lanes, tokens, False)

    def evaluate_all(self, lanes: Sequence[int], tokens: Sequence[Sequence[int]]) -> F32Array:
        return self._evaluate(lanes, tokens, True)

    def _evaluate(
        self, lanes: Sequence[int], tokens: Sequence[Sequence[int]], every: bool
    ) -> F32Array:
        """Logits after every token, or after each lane's last."""
        rows = [len(new) if every else 1 for new in tokens]
        logits = np.empty((sum(rows), self._weights.head.scales.shape[1]), np.float32)
        share = -(-len(lanes) // len(self._scratches))
        calls = []
        done = 0
        for worker, first in enumerate(range(0, len(lanes), share)):
            part = slice(first, first + share)
            count = sum(rows[part])
            calls.append((worker, lanes[part], tokens[part], every, logits[done : done + count]))
            done += count
        futures = []
        if self._pool is not None:
            futures = [self._pool.submit(self._evaluate_part, *call) for call in calls[1:]]
        finite = self._evaluate_part(*calls[0])
        if not all([finite, *(future.result() for future in futures)]):
            raise EngineError("the model's logits are not finite")
        return np.ascontiguousarray(logits[:, : len(self._weights.embedding)])

    def _evaluate_part(
        self,
        worker: int,
        lanes: Sequence[int],
        tokens: Sequence[Sequence[int]],
        every: bool,
        logits: F32Array,
    ) -> bool:
        """Evaluate some lanes in groups that fit the scratch memory; whether all is finite."""
        flat: list[int] = []
        lane_of: list[int] = []
        positions: list[int] = []
        row_of: list[int] = []
        for lane, new in zip(lanes, tokens, strict=True):
            start = int(self._cache.positions[lane])
            self._cache.positions[lane] += len(new)
            flat += new
            lane_of += [lane] * len(new)
            positions += range(start, start + len(new))
            row_of += [0 if every else -1] * (len(new) - 1) + [0]
        finite = True
        done = 0
        for first in range(0, len(flat), GROUP):
            part = slice(first, first + GROUP)
            rows = np.array(row_of[part], np.int64)
            wanted = np.flatnonzero(rows == 0)
            rows[wanted] = np.arange(len(wanted))
            finite &= forward(
                self._weights,
                self._cache,
                self._scratches[worker],
                np.array(flat[part], np.int64),
                np.array(lane_of[part], np.int64),
                np.array(positions[part], np.int64),
                rows,
                logits[done : done + len(wanted)],
            )
            done += len(wanted)
        return finite

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _open_gguf(path: Path) -> Any:
    from gguf import GGUFReader

    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF model")
    try:
        return GGUFReader(path)
    except Exception as error:  # the reader raises whatever the damage provokes
        raise ModelError(f"{path} is damaged: {error}") from error


def _load_weights(reader: Any, path: Path) -> Weights:
    """The weights of a GGUF, requantised.

    Raises:
        ModelError: another architecture, or a feature that this engine does not have.
    """

    def value(key: str, default: Any = None) -> Any:
        field = reader.get_field(key)
        return default if field is None else field.contents()

    tensors = {tensor.name: tensor for tensor in reader.tensors}
    kind = value("general.architecture")
    if kind not in _ROTATES_HALVES or "blk.0.ffn_gate_inp.weight" in tensors:
        raise ModelError(f"{path}: the exact engine reads dense llama models, not {kind}")
    if value(f"{kind}.rope.scaling.type", "none") != "none" or "rope_freqs.weight" in tensors:
        raise ModelError(f"{path}: the exact engine has no rotary scaling")
    if any(name.endswith(".bias") for name in tensors):
        raise ModelError(f"{path}: the exact engine has no biases")
    try:
        layers = range(value(f"{kind}.block_count"))
        heads = value(f"{kind}.attention.head_count")
        key_heads = value(f"{kind}.attention.head_count_kv", heads)
        width = value(f"{kind}.embedding_length")
        hidden = value(f"{kind}.feed_forward_length")
        size = value(f"{kind}.attention.key_length", width // heads)

        def dense(name: str) -> F32Array:
            values = _dequantise(tensors[name])
            rotated = ".attn_q." in name or ".attn_k." in name
            return _paired(values, size) if rotated and _ROTATES_HALVES[kind] else values

        def stack(*names: str) -> Matrix:
            return _quantise_matrix(
                [
                    np.concatenate([dense(f"blk.{i}.{name}.weight") for name in names])
                    for i in layers
                ]
            )

        embedding = dense("token_embd.weight")
        head = dense("output.weight") if "output.weight" in tensors else embedding
        weights = Weights(
            embedding=embedding,
            qkv=stack("attn_q", "attn_k", "attn_v"),
            attention_out=stack("attn_output"),
            gate_up=stack("ffn_gate", "ffn_up"),
            down=stack("ffn_down"),
            head=_quantise_matrix([head]),
            attention_norm=np.stack([dense(f"blk.{i}.attn_norm.weight") for i in layers]),
            hidden_norm=np.stack([dense(f"blk.{i}.ffn_norm.weight") for i in layers]),
            final_norm=dense("output_norm.weight").reshape(1, -1),
            frequencies=rotary_frequencies(size, value(f"{kind}.rope.freq_base", 10000.0)),
            shape=np.array([heads, key_heads, size, hidden], np.int64),
            epsilon=np.array([value(f"{kind}.attention.layer_norm_rms_epsilon")], np.float32),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} lacks something that a llama model has: {error}") from error
    if width % LANES or hidden % LANES or size % LANES:
        raise ModelError(f"{path}: widths must be multiples of {LANES}")
    if max(width, hidden, heads * size) > MAX_WIDTH:
        raise ModelError(f"{path}: widths must be at most {MAX_WIDTH}")
    if value(f"{kind}.rope.dimension_count", size) != size:
        raise ModelError(f"{path}: the exact engine rotates whole heads only")
    return weights


def _dequantise(tensor: Any) -> F32Array:
    from gguf.quants import dequantize

    values: F32Array = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
    return values


def _paired(rows: F32Array, size: int) -> F32Array:
    """Rows of heads of ``size``, each row of a head's first half followed by its partner's."""
    halves = rows.reshape(-1, 2, size // 2, rows.shape[1])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _quantise_matrix(layers: list[F32Array]) -> Matrix:
    """Panels of int8 levels, one scale for each row; elementwise IEEE operations only."""
    dense = np.stack(layers)
    count, rows, columns = dense.shape
    top = np.maximum(np.abs(dense).max(axis=2), np.float32(1e-20))
    scales = np.zeros((count, filled_up(rows)), np.float32)
    scales[:, :rows] = top / np.float32(WEIGHT_LEVELS)
    levels = np.zeros((count, filled_up(rows), columns), np.int8)
    levels[:, :rows] = np.rint(dense / scales[:, :rows, None])
    return Matrix(to_panels(levels), scales)
