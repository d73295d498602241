"""The ``exact`` engine: a llama-architecture GGUF evaluated with the same bits on every machine.

Matrices are int8 with one scale for each row (requantised from what the file holds), activations
int16 with one scale for each vector (11 bits); a product of two is below 2^17, so an int32 holds
the sum of 16,000 of them, and integer sums have no order. Keys and values are int8. Wider weights
would cost more than they gain: one step reads them all, and memory is slower than arithmetic.
Everything else is IEEE float32 in a written-down order: elementwise loops that vectorise as they
stand, and the operations of predictors/simd.py.

A token's logits depend on its lane's past alone, not on what is evaluated beside it, so lanes may
be spread over threads and many positions may be evaluated in one call.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from nczip.coder.errors import EngineError, ModelError
from nczip.coder.exactmath import exp, exp32, log
from nczip.coder.jit import kernel
from nczip.predictors.simd import (
    LANES,
    dot,
    dot_int16,
    largest_magnitude,
    round_levels,
    weighted_sum,
)
from nczip.predictors.transformer.engine import F32Array
from nczip.predictors.transformer.gguf_tokens import GgufVocabulary
from nczip.predictors.transformer.trie import maximum, total

I8Array = npt.NDArray[np.int8]
I16Array = npt.NDArray[np.int16]
I64Array = npt.NDArray[np.int64]

_LEVELS = 1023  # the largest quantised magnitude of activations
_WEIGHT_LEVELS = 127
_CACHE_LEVELS = 127  # of keys and values
_MAX_WIDTH = (1 << 31) // (_LEVELS * _WEIGHT_LEVELS) - 1
_LEAST_SCORE = np.float32(-60.0)
_GROUP = 64  # tokens evaluated at once: more would leave the cache

_TWO_PI_HIGH = 6.28125  # 2 pi in two pieces: turns * high is exact
_TWO_PI_LOW = 0.0019353071795864769


class Matrix(NamedTuple):
    """One weight matrix of all layers; row r of layer l is ``values[l, r] * scales[l, r]``."""

    values: I8Array  #: int8[layers, rows, columns], columns a multiple of 16
    scales: F32Array  #: float32[layers, rows]


class Weights(NamedTuple):
    """A llama of L layers, width d, h heads and k key-value heads of size s, hidden width f."""

    embedding: F32Array  #: float32[V, d]
    qkv: Matrix  #: [L, (h + 2 k) s, d]
    attention_out: Matrix  #: [L, d, h s]
    gate_up: Matrix  #: [L, 2 f, d]
    down: Matrix  #: [L, d, f]
    head: Matrix  #: [1, V, d]
    attention_norm: F32Array  #: float32[L, d]
    hidden_norm: F32Array  #: float32[L, d]
    final_norm: F32Array  #: float32[1, d]
    frequencies: npt.NDArray[np.float64]  #: float64[s / 2], rotary radians per position
    shape: I64Array  #: int64[4]: h, k, s, f
    epsilon: F32Array  #: float32[1]


class Cache(NamedTuple):
    """Keys and values of each lane's last W tokens: L * lanes * k rings, counted in this order."""

    keys: I8Array  #: int8[rings, W, s]
    key_scales: F32Array  #: float32[rings, W]
    values: I8Array  #: int8[rings, W, s]
    value_scales: F32Array  #: float32[rings, W]
    positions: I64Array  #: int64[lanes], tokens seen


class Scratch(NamedTuple):
    """Working memory of one thread for up to n tokens."""

    x: F32Array  #: float32[n, d], the residual stream
    normed: F32Array  #: float32[n, widest]
    wide: F32Array  #: float32[n, widest], outputs of a matrix
    quantised: I16Array  #: int16[n, widest]
    scales: F32Array  #: float32[n]
    scores: F32Array  #: float32[W]
    query: I16Array  #: int16[s]
    cosines: F32Array  #: float32[n, s / 2]
    sines: F32Array  #: float32[n, s / 2]


@kernel(inline=True)
def _cosine_and_sine(angle):
    """cos and sin of a float64 angle >= 0 (radians), to 1e-9: Taylor on [-pi / 4, pi / 4]."""
    turns = np.float64(np.int64(angle / 6.283185307179586 + 0.5))
    x = ((angle - turns * _TWO_PI_HIGH) - turns * _TWO_PI_LOW) * 0.25
    y = x * x
    s = x * (1.0 - y / 6.0 * (1.0 - y / 20.0 * (1.0 - y / 42.0 * (1.0 - y / 72.0))))
    c = 1.0 - y / 2.0 * (1.0 - y / 12.0 * (1.0 - y / 30.0 * (1.0 - y / 56.0 * (1.0 - y / 90.0))))
    s, c = 2.0 * s * c, c * c - s * s
    return c * c - s * s, 2.0 * s * c


@kernel(inline=True)
def _quantise(source, offset, size, target, target_offset, levels):
    """Round ``source[offset:offset + size]`` (flat) to integer levels; returns the scale of one."""
    top = max(largest_magnitude(source, offset, size), np.float32(1e-20))
    factor = np.float32(levels) / top
    round_levels(source, offset, factor, np.int32(levels), target, target_offset, size)
    return top / np.float32(levels)


@kernel(inline=True)
def _quantise_rows(source, n, size, scratch):
    """Quantise the first ``size`` elements of n rows, for the matrix that comes next."""
    for t in range(n):
        scratch.scales[t] = _quantise(
            source,
            t * source.shape[1],
            size,
            scratch.quantised,
            t * scratch.quantised.shape[1],
            _LEVELS,
        )


@kernel()
def _multiply(quantised, scales, n, values, row_scales, layer, out):
    """``out[t, r] = W[r] . x[t]`` for n quantised vectors, float32; each row is read once."""
    rows, columns = values.shape[1], values.shape[2]
    stride = quantised.shape[1]
    for r in range(rows):
        row_scale = row_scales[layer, r]
        start = (layer * rows + r) * columns
        for t in range(n):
            total = dot_int16(quantised, t * stride, values, start, columns)
            out[t, r] = np.float32(total) * (row_scale * scales[t])


@kernel()
def _norm_and_quantise(scratch, n, weight, layer, epsilon):
    """RMSNorm (Zhang and Sennrich, 2019) of the residual stream, quantised."""
    x, normed = scratch.x, scratch.normed
    d = x.shape[1]
    for t in range(n):
        mean = dot(x, t * d, x, t * d, d) / np.float32(d)
        factor = np.float32(1.0) / np.float32(np.sqrt(mean + epsilon))
        for i in range(d):
            normed[t, i] = x[t, i] * factor * weight[layer, i]
    _quantise_rows(normed, n, d, scratch)


@kernel()
def _rotate(wide, t, size, cosines, sines, heads):
    """Rotary embedding (Su et al., 2021) of ``heads`` heads, adjacent pairs as in llama's GGUF."""
    for h in range(heads):
        for i in range(size // 2):
            at = h * size + 2 * i
            a, b = wide[t, at], wide[t, at + 1]
            wide[t, at] = a * cosines[t, i] - b * sines[t, i]
            wide[t, at + 1] = a * sines[t, i] + b * cosines[t, i]


@kernel()
def _attend(cache, scratch, ring, t, start, size, cells):
    """One query head over its lane's cells; its output replaces the query in ``scratch.wide``.

    ``ring`` numbers the head's ring, all layers and lanes counted through; ``start`` is where the
    query starts in row t. The softmax is not normalised until the values are summed. Cells are
    taken in the order of the ring.
    """
    wide, scores, query = scratch.wide, scratch.scores, scratch.query
    window = scores.shape[0]
    offset = t * wide.shape[1] + start
    query_scale = _quantise(wide, offset, size, query, 0, _LEVELS)
    factor = query_scale / np.float32(np.sqrt(np.float32(size)))
    first = ring * window
    for j in range(cells):
        product = dot_int16(query, 0, cache.keys, (first + j) * size, size)
        scores[j] = np.float32(product) * factor
    for j in range(cells):
        scores[j] *= cache.key_scales[ring, j]
    top = maximum(scores, cells)
    for j in range(cells):
        x = scores[j] - top
        scores[j] = exp32(x if x > _LEAST_SCORE else _LEAST_SCORE)
    inverse = np.float32(1.0 / total(scores, cells))
    for j in range(cells):
        scores[j] *= cache.value_scales[ring, j] * inverse
    for i in range(0, size, LANES):
        weighted_sum(scores, cells, cache.values, first * size + i, size, wide, offset + i)


@kernel()
def _attention(weights, cache, scratch, n, lanes, positions, layer):
    """Causal attention of n tokens, in order: each sees its lane's last W tokens and itself."""
    heads, key_heads, size = weights.shape[0], weights.shape[1], weights.shape[2]
    window = scratch.scores.shape[0]
    lane_count = cache.positions.shape[0]
    wide = scratch.wide
    for t in range(n):
        _rotate(wide, t, size, scratch.cosines, scratch.sines, heads + key_heads)
        rings = (layer * lane_count + lanes[t]) * key_heads
        cell = positions[t] % window
        for h in range(key_heads):
            target = ((rings + h) * window + cell) * size
            key = t * wide.shape[1] + (heads + h) * size
            value = key + key_heads * size
            cache.key_scales[rings + h, cell] = _quantise(
                wide, key, size, cache.keys, target, _CACHE_LEVELS
            )
            cache.value_scales[rings + h, cell] = _quantise(
                wide, value, size, cache.values, target, _CACHE_LEVELS
            )
        cells = min(positions[t] + 1, window)
        for h in range(heads):
            _attend(cache, scratch, rings + h * key_heads // heads, t, h * size, size, cells)


@kernel()
def _add_product(scratch, n, matrix, layer):
    """Multiply what is quantised, and add the result to the residual stream."""
    x, wide = scratch.x, scratch.wide
    _multiply(scratch.quantised, scratch.scales, n, matrix.values, matrix.scales, layer, wide)
    for t in range(n):
        for i in range(x.shape[1]):
            x[t, i] += wide[t, i]


@kernel()
def _gate(scratch, n, hidden):
    """SwiGLU (Shazeer, 2020): silu(gate) * up, quantised."""
    wide, normed = scratch.wide, scratch.normed
    for t in range(n):
        for i in range(hidden):
            g = wide[t, i]
            x = -g if g > np.float32(0.0) else g
            e = exp32(x if x > _LEAST_SCORE else _LEAST_SCORE)
            # sigmoid(g) is 1 / (1 + e^-|g|) on the positive side, e^-|g| / (1 + e^-|g|) beside it.
            numerator = np.float32(1.0) if g > np.float32(0.0) else e
            normed[t, i] = g * (numerator / (np.float32(1.0) + e))
        # An unsigned index, for Numba guards signed sums against negative values.
        for k in range(np.uint64(hidden)):
            normed[t, k] *= wide[t, k + np.uint64(hidden)]
    _quantise_rows(normed, n, hidden, scratch)


@kernel()
def _forward(weights, cache, scratch, tokens, lanes, positions, rows, logits):
    """Evaluate n tokens.

    Args:
        tokens, lanes, positions: int64[n]; a lane's tokens rise in position.
        rows: int64[n], the row of ``logits`` that a token's logits go to, -1 for none.
        logits: float32[rows, V].
    """
    n = tokens.shape[0]
    heads, size, hidden = weights.shape[0], weights.shape[2], weights.shape[3]
    epsilon = weights.epsilon[0]
    x, wide = scratch.x, scratch.wide
    for t in range(n):
        for i in range(x.shape[1]):
            x[t, i] = weights.embedding[tokens[t], i]
        for i in range(size // 2):
            cosine, sine = _cosine_and_sine(np.float64(positions[t]) * weights.frequencies[i])
            scratch.cosines[t, i], scratch.sines[t, i] = np.float32(cosine), np.float32(sine)
    for layer in range(weights.attention_norm.shape[0]):
        _norm_and_quantise(scratch, n, weights.attention_norm, layer, epsilon)
        matrix = weights.qkv
        _multiply(scratch.quantised, scratch.scales, n, matrix.values, matrix.scales, layer, wide)
        _attention(weights, cache, scratch, n, lanes, positions, layer)
        _quantise_rows(wide, n, heads * size, scratch)
        _add_product(scratch, n, weights.attention_out, layer)
        _norm_and_quantise(scratch, n, weights.hidden_norm, layer, epsilon)
        matrix = weights.gate_up
        _multiply(scratch.quantised, scratch.scales, n, matrix.values, matrix.scales, layer, wide)
        _gate(scratch, n, hidden)
        _add_product(scratch, n, weights.down, layer)
    _norm_and_quantise(scratch, n, weights.final_norm, 0, epsilon)
    _gather_wanted(scratch, n, rows)
    wanted = 0
    for t in range(n):
        if rows[t] >= 0:
            wanted += 1
    matrix = weights.head
    _multiply(scratch.quantised, scratch.scales, wanted, matrix.values, matrix.scales, 0, logits)


@kernel()
def _gather_wanted(scratch, n, rows):
    """Move the quantised vectors whose logits are wanted to the front, in order of their rows."""
    for t in range(n):
        row = rows[t]
        if row >= 0 and row != t:
            scratch.scales[row] = scratch.scales[t]
            for i in range(scratch.x.shape[1]):
                scratch.quantised[row, i] = scratch.quantised[t, i]


def rotary_frequencies(size: int, base: float) -> npt.NDArray[np.float64]:
    """``base ** (-2 i / size)`` for i < size / 2, from exact operations."""
    ln_base = float(log(base))
    powers = [float(exp.py_func(-2.0 * i / size * ln_base)) for i in range(size // 2)]
    return np.array(powers)


class ExactEngine:
    """A llama-architecture GGUF (F32, F16, BF16 or any quantisation that gguf can unpack).

    Raises:
        ModelError: the file is missing, not a GGUF, or of another architecture.
    """

    name = "exact"

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

    def probe(self, lanes: int, window: int, threads: int) -> int:
        """0: the same on every machine."""
        del lanes, window, threads
        return 0


class ExactSession:
    """The caches of all lanes, and threads that each evaluate some of the lanes."""

    def __init__(self, weights: Weights, lanes: int, window: int, threads: int) -> None:
        layers = len(weights.attention_norm)
        _, key_heads, size, _ = weights.shape.tolist()
        shape = (layers * lanes * key_heads, window)
        self._weights = weights
        self._cache = Cache(
            keys=np.zeros((*shape, size), np.int8),
            key_scales=np.zeros(shape, np.float32),
            values=np.zeros((*shape, size), np.int8),
            value_scales=np.zeros(shape, np.float32),
            positions=np.zeros(lanes, np.int64),
        )
        self._logits = np.zeros((lanes, len(weights.embedding)), np.float32)
        workers = max(1, min(threads, lanes))
        self._scratches = [_new_scratch(weights, window) for _ in range(workers)]
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def evaluate(self, lanes: Sequence[int], tokens: Sequence[Sequence[int]]) -> F32Array:
        logits = self._logits[: len(lanes)]
        share = -(-len(lanes) // len(self._scratches))
        calls = []
        for worker, first in enumerate(range(0, len(lanes), share)):
            part = slice(first, first + share)
            calls.append((worker, lanes[part], tokens[part], logits[part]))
        if self._pool is None or len(calls) == 1:
            for call in calls:
                self._evaluate_part(*call)
        else:
            futures = [self._pool.submit(self._evaluate_part, *call) for call in calls[1:]]
            self._evaluate_part(*calls[0])
            for future in futures:
                future.result()
        if not np.isfinite(logits).all():
            raise EngineError("the model's logits are not finite")
        return logits

    def _evaluate_part(
        self, worker: int, lanes: Sequence[int], tokens: Sequence[Sequence[int]], logits: F32Array
    ) -> None:
        """Evaluate some lanes in groups that fit the scratch memory."""
        flat = [token for new in tokens for token in new]
        lane_of = [lane for lane, new in zip(lanes, tokens, strict=True) for _ in new]
        row_of = [-1] * len(flat)
        end = 0
        for row, new in enumerate(tokens):
            end += len(new)
            row_of[end - 1] = row
        positions = []
        for lane in lane_of:
            positions.append(int(self._cache.positions[lane]))
            self._cache.positions[lane] += 1
        for start in range(0, len(flat), _GROUP):
            part = slice(start, start + _GROUP)
            rows = np.array(row_of[part], np.int64)
            wanted = rows[rows >= 0]
            first = int(wanted[0]) if len(wanted) else 0
            rows[rows >= 0] -= first
            _forward(
                self._weights,
                self._cache,
                self._scratches[worker],
                np.array(flat[part], np.int64),
                np.array(lane_of[part], np.int64),
                np.array(positions[part], np.int64),
                rows,
                logits[first : first + len(wanted)],
            )

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _new_scratch(weights: Weights, window: int) -> Scratch:
    heads, _, size, hidden = weights.shape.tolist()
    width = weights.embedding.shape[1]
    widest = max(weights.qkv.values.shape[1], 2 * hidden, heads * size, width)
    return Scratch(
        x=np.zeros((_GROUP, width), np.float32),
        normed=np.zeros((_GROUP, widest), np.float32),
        wide=np.zeros((_GROUP, widest), np.float32),
        quantised=np.zeros((_GROUP, widest), np.int16),
        scales=np.zeros(_GROUP, np.float32),
        scores=np.zeros(window, np.float32),
        query=np.zeros(size, np.int16),
        cosines=np.zeros((_GROUP, size // 2), np.float32),
        sines=np.zeros((_GROUP, size // 2), np.float32),
    )


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
    architecture = value("general.architecture")
    if architecture != "llama" or "blk.0.ffn_gate_inp.weight" in tensors:
        raise ModelError(f"{path}: the exact engine reads dense llama models, not {architecture}")
    if value("llama.rope.scaling.type", "none") != "none" or "rope_freqs.weight" in tensors:
        raise ModelError(f"{path}: the exact engine has no rotary scaling")
    try:
        layers = range(value("llama.block_count"))
        heads = value("llama.attention.head_count")
        key_heads = value("llama.attention.head_count_kv", heads)
        width = value("llama.embedding_length")
        hidden = value("llama.feed_forward_length")
        size = value("llama.attention.key_length", width // heads)

        def dense(name: str) -> F32Array:
            return _dequantise(tensors[name])

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
            frequencies=rotary_frequencies(size, value("llama.rope.freq_base", 10000.0)),
            shape=np.array([heads, key_heads, size, hidden], np.int64),
            epsilon=np.array([value("llama.attention.layer_norm_rms_epsilon")], np.float32),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} lacks something that a llama model has: {error}") from error
    if width % LANES or hidden % LANES or max(width, hidden, heads * size) > _MAX_WIDTH:
        raise ModelError(f"{path}: widths must be multiples of {LANES} up to {_MAX_WIDTH}")
    if value("llama.rope.dimension_count", size) != size:
        raise ModelError(f"{path}: the exact engine rotates whole heads only")
    return weights


def _dequantise(tensor: Any) -> F32Array:
    from gguf.quants import dequantize

    values: F32Array = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
    return values


def _quantise_matrix(layers: list[F32Array]) -> Matrix:
    """Rows of int8 levels with one scale each; elementwise IEEE operations only."""
    dense = np.stack(layers)
    top = np.maximum(np.abs(dense).max(axis=2), np.float32(1e-20))
    scales = (top / np.float32(_WEIGHT_LEVELS)).astype(np.float32)
    levels = np.rint(dense / scales[:, :, None]).astype(np.int8)
    return Matrix(np.ascontiguousarray(levels), np.ascontiguousarray(scales))
