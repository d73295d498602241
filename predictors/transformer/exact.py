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
    PANEL_GROUP,
    dot,
    largest_magnitude,
    product_1x8,
    product_2x4,
    product_4x1,
    product_4x2,
    round_levels,
)
from nczip.predictors.transformer.engine import F32Array
from nczip.predictors.transformer.gguf_tokens import GgufVocabulary

I8Array = npt.NDArray[np.int8]
I16Array = npt.NDArray[np.int16]
I64Array = npt.NDArray[np.int64]

_LEVELS = 1023  # the largest quantised magnitude of activations
_WEIGHT_LEVELS = 127
_CACHE_LEVELS = 127  # of keys and values
_MAX_WIDTH = (1 << 31) // (_LEVELS * _WEIGHT_LEVELS) - 1
_LEAST_SCORE = np.float32(-60.0)
_NOTHING = np.float32(-1e30)  # the score of a cell that is not there
_GROUP = 64  # tokens evaluated at once: more would leave the cache

_TWO_PI_HIGH = 6.28125  # 2 pi in two pieces: turns * high is exact
_TWO_PI_LOW = 0.0019353071795864769


class Matrix(NamedTuple):
    """One weight matrix of all layers, in panels of 16 rows (see predictors/simd.py).

    Element c of row r is ``values[layer, r // 16, c // 2, r % 16, c % 2] * scales[layer, r]``.
    """

    values: I8Array  #: int8[layers, rows / 16, columns / 2, 16, 2]; rows a multiple of 64
    scales: F32Array  #: float32[layers, rows]; 0 for rows that only fill up


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
    """Keys and values of each lane's last tokens: L * lanes * k rings, counted in this order.

    A ring has C cells, of which the first W are used. Both are stored as panels: to the keys, the
    cells are rows; to the values, the cells are columns.
    """

    keys: I8Array  #: int8[rings, C / 16, s / 2, 16, 2]
    key_scales: F32Array  #: float32[rings, C]
    values: I8Array  #: int8[rings, s / 16 (rounded up to PANEL_GROUP), C / 2, 16, 2]
    value_scales: F32Array  #: float32[rings, C]
    positions: I64Array  #: int64[lanes], tokens seen
    window: I64Array  #: int64[1], W


class Scratch(NamedTuple):
    """Working memory of one thread for up to n tokens; h heads share one key head."""

    x: F32Array  #: float32[n, d], the residual stream
    normed: F32Array  #: float32[n, widest]
    wide: F32Array  #: float32[n, widest], outputs of a matrix
    quantised: I16Array  #: int16[n, widest]
    scales: F32Array  #: float32[n]
    queries: I16Array  #: int16[h, s]
    query_scales: F32Array  #: float32[h]
    scores: F32Array  #: float32[h, C]
    shares: I16Array  #: int16[h, C], quantised weights of the values
    share_scales: F32Array  #: float32[h]
    mixed: F32Array  #: float32[h, s (filled up)]
    level: I8Array  #: int8[s], a key or value before it is stored
    ones: F32Array  #: float32[largest of s (filled up) and C]
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
def _multiply_panels(
    matrix, start, stride, columns, panels, x, x_stride, n, row_scales, row, scales, out
):
    """The products of ``panels`` panels and the first n vectors of x, in ``out[t]``, float32.

    Panel p starts at ``start + p * stride`` of ``matrix`` (flat); a result is scaled by
    ``row_scales[row + its row]`` (flat) and ``scales[t]``. Each panel is read once for up to eight
    vectors.
    """
    out_stride = out.shape[1]
    t = 0
    while n - t >= 8:
        for p in range(panels):
            product_1x8(
                matrix, start + p * stride, stride, columns, x, t * x_stride, x_stride,
                row_scales, row + p * 16, scales, t, out, t * out_stride + p * 16, out_stride,
            )  # fmt: skip
        t += 8
    if n - t >= 4:
        for p in range(0, panels, 2):
            product_2x4(
                matrix, start + p * stride, stride, columns, x, t * x_stride, x_stride,
                row_scales, row + p * 16, scales, t, out, t * out_stride + p * 16, out_stride,
            )  # fmt: skip
        t += 4
    if n - t >= 2:
        for p in range(0, panels, 4):
            product_4x2(
                matrix, start + p * stride, stride, columns, x, t * x_stride, x_stride,
                row_scales, row + p * 16, scales, t, out, t * out_stride + p * 16, out_stride,
            )  # fmt: skip
        t += 2
    if n - t == 1:
        for p in range(0, panels, 4):
            product_4x1(
                matrix, start + p * stride, stride, columns, x, t * x_stride, x_stride,
                row_scales, row + p * 16, scales, t, out, t * out_stride + p * 16, out_stride,
            )  # fmt: skip


@kernel()
def _multiply(scratch, n, matrix, layer, out):
    """``out[t, r] = W[r] . x[t]`` for the n quantised vectors of ``scratch``, float32."""
    values, scales = matrix.values, matrix.scales
    panels, columns = values.shape[1], 2 * values.shape[2]
    _multiply_panels(
        values,
        layer * panels * columns * LANES,
        columns * LANES,
        columns,
        panels,
        scratch.quantised,
        scratch.quantised.shape[1],
        n,
        scales,
        layer * scales.shape[1],
        scratch.scales,
        out,
    )


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
def _remember(cache, scratch, ring, cell, t, key, value, size):
    """Quantise the key and the value that start there in row t, and store them in a cell."""
    wide, level = scratch.wide, scratch.level
    row = t * wide.shape[1]
    cache.key_scales[ring, cell] = _quantise(wide, row + key, size, level, 0, _CACHE_LEVELS)
    for i in range(size):
        cache.keys[ring, cell >> 4, i >> 1, cell & 15, i & 1] = level[i]
    cache.value_scales[ring, cell] = _quantise(wide, row + value, size, level, 0, _CACHE_LEVELS)
    for i in range(size):
        cache.values[ring, i >> 4, cell >> 1, i & 15, cell & 1] = level[i]


@kernel()
def _attend(cache, scratch, ring, t, first, heads, size, cells):
    """Some query heads, from ``first`` in row t, over the cells of their ring.

    Their outputs replace the queries in ``scratch.wide``. ``ring`` numbers the ring, all layers
    and lanes counted through. Cells are taken in the order of the ring.
    """
    wide, scores = scratch.wide, scratch.scores
    row = t * wide.shape[1] + first
    for h in range(heads):
        scale = _quantise(wide, row + h * size, size, scratch.queries, h * size, _LEVELS)
        scratch.query_scales[h] = scale / np.float32(np.sqrt(np.float32(size)))
    room = scores.shape[1]
    panels = (cells + 63) // 64 * PANEL_GROUP
    _multiply_panels(
        cache.keys, ring * room * size, size * LANES, size, panels,
        scratch.queries, size, heads, cache.key_scales, ring * room, scratch.query_scales, scores,
    )  # fmt: skip
    for h in range(heads):
        _share_out(cache, scratch, ring, h, cells)
    rows = cache.values.shape[1] * LANES
    _multiply_panels(
        cache.values, ring * rows * room, room * LANES, (cells + 1) // 2 * 2, rows // LANES,
        scratch.shares, room, heads, scratch.ones, 0, scratch.share_scales, scratch.mixed,
    )  # fmt: skip
    for h in range(heads):
        for i in range(size):
            wide[t, first + h * size + i] = scratch.mixed[h, i]


@kernel()
def _share_out(cache, scratch, ring, h, cells):
    """Softmax of a head's scores, times the scales of the values, quantised to 16 bits.

    Rounded up to whole vectors; what lies beyond ``cells`` weighs nothing.
    """
    scores, room = scratch.scores, scratch.scores.shape[1]
    n = (cells + 15) // LANES * LANES
    top = scores[h, 0]
    for j in range(cells):
        top = max(top, scores[h, j])
    for j in range(cells, n):
        scores[h, j] = _NOTHING
    for j in range(np.uint64(n)):
        x = scores[h, j] - top
        scores[h, j] = exp32(x if x > _LEAST_SCORE else _LEAST_SCORE)
    whole = dot(scores, h * room, scratch.ones, 0, n)
    for j in range(np.uint64(n)):
        scores[h, j] *= cache.value_scales[ring, j]
    levels = min((1 << 15) - 1, ((1 << 31) - 1) // (_CACHE_LEVELS * room))
    scale = _quantise(scores, h * room, n, scratch.shares, h * room, levels)
    scratch.share_scales[h] = scale / whole


@kernel()
def _attention(weights, cache, scratch, n, lanes, positions, layer):
    """Causal attention of n tokens, in order: each sees its lane's last W tokens and itself."""
    heads, key_heads, size = weights.shape[0], weights.shape[1], weights.shape[2]
    window = cache.window[0]
    lane_count = cache.positions.shape[0]
    group = heads // key_heads
    for t in range(n):
        _rotate(scratch.wide, t, size, scratch.cosines, scratch.sines, heads + key_heads)
        rings = (layer * lane_count + lanes[t]) * key_heads
        cell = positions[t] % window
        cells = min(positions[t] + 1, window)
        for h in range(key_heads):
            key = (heads + h) * size
            _remember(cache, scratch, rings + h, cell, t, key, key + key_heads * size, size)
            _attend(cache, scratch, rings + h, t, h * group * size, group, size, cells)


@kernel()
def _add_product(scratch, n, matrix, layer):
    """Multiply what is quantised, and add the result to the residual stream."""
    x, wide = scratch.x, scratch.wide
    _multiply(scratch, n, matrix, layer, wide)
    for t in range(n):
        for i in range(np.uint64(x.shape[1])):
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
        rows: int64[n], the row of ``logits`` that a token's logits go to, -1 for none; rising.
        logits: float32[rows, V (filled up)].

    Returns:
        Whether all logits are finite.
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
        _multiply(scratch, n, weights.qkv, layer, wide)
        _attention(weights, cache, scratch, n, lanes, positions, layer)
        _quantise_rows(wide, n, heads * size, scratch)
        _add_product(scratch, n, weights.attention_out, layer)
        _norm_and_quantise(scratch, n, weights.hidden_norm, layer, epsilon)
        _multiply(scratch, n, weights.gate_up, layer, wide)
        _gate(scratch, n, hidden)
        _add_product(scratch, n, weights.down, layer)
    _norm_and_quantise(scratch, n, weights.final_norm, 0, epsilon)
    _multiply(scratch, _gather_wanted(scratch, n, rows), weights.head, 0, logits)
    power = np.float32(0.0)
    for t in range(n):
        power += dot(x, t * x.shape[1], x, t * x.shape[1], x.shape[1])
    return power - power == np.float32(0.0)


@kernel()
def _gather_wanted(scratch, n, rows):
    """Move the quantised vectors whose logits are wanted to the front; returns their number."""
    wanted = 0
    for t in range(n):
        row = rows[t]
        if row >= 0:
            wanted += 1
            if row != t:
                scratch.scales[row] = scratch.scales[t]
                for i in range(scratch.x.shape[1]):
                    scratch.quantised[row, i] = scratch.quantised[t, i]
    return wanted


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
    batches_alike = True

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
        rings, cells = layers * lanes * key_heads, _filled_up(window)
        self._weights = weights
        self._cache = Cache(
            keys=np.zeros((rings, cells // LANES, size // 2, LANES, 2), np.int8),
            key_scales=np.zeros((rings, cells), np.float32),
            values=np.zeros((rings, _filled_up(size) // LANES, cells // 2, LANES, 2), np.int8),
            value_scales=np.zeros((rings, cells), np.float32),
            positions=np.zeros(lanes, np.int64),
            window=np.array([window], np.int64),
        )
        workers = max(1, min(threads, lanes))
        self._scratches = [_new_scratch(weights, window) for _ in range(workers)]
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
        for first in range(0, len(flat), _GROUP):
            part = slice(first, first + _GROUP)
            rows = np.array(row_of[part], np.int64)
            wanted = np.flatnonzero(rows == 0)
            rows[wanted] = np.arange(len(wanted))
            finite &= _forward(
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


def _filled_up(rows: int) -> int:
    """Rows with those that fill up the last group of panels."""
    return -(-rows // (LANES * PANEL_GROUP)) * LANES * PANEL_GROUP


def _new_scratch(weights: Weights, window: int) -> Scratch:
    heads, key_heads, size, _ = weights.shape.tolist()
    width = weights.embedding.shape[1]
    rows = (weights.qkv, weights.attention_out, weights.gate_up, weights.down)
    widest = max(heads * size, *(matrix.scales.shape[1] for matrix in rows))
    cells = _filled_up(window)
    return Scratch(
        x=np.zeros((_GROUP, width), np.float32),
        normed=np.zeros((_GROUP, widest), np.float32),
        wide=np.zeros((_GROUP, widest), np.float32),
        quantised=np.zeros((_GROUP, widest), np.int16),
        scales=np.zeros(_GROUP, np.float32),
        queries=np.zeros((heads // key_heads, size), np.int16),
        query_scales=np.zeros(heads // key_heads, np.float32),
        scores=np.zeros((heads // key_heads, cells), np.float32),
        shares=np.zeros((heads // key_heads, cells), np.int16),
        share_scales=np.zeros(heads // key_heads, np.float32),
        mixed=np.zeros((heads // key_heads, _filled_up(size)), np.float32),
        level=np.zeros(size, np.int8),
        ones=np.ones(max(_filled_up(size), cells), np.float32),
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
    if width % LANES or hidden % LANES or size % LANES:
        raise ModelError(f"{path}: widths must be multiples of {LANES}")
    if max(width, hidden, heads * size) > _MAX_WIDTH:
        raise ModelError(f"{path}: widths must be at most {_MAX_WIDTH}")
    if value("llama.rope.dimension_count", size) != size:
        raise ModelError(f"{path}: the exact engine rotates whole heads only")
    return weights


def _dequantise(tensor: Any) -> F32Array:
    from gguf.quants import dequantize

    values: F32Array = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
    return values


def _quantise_matrix(layers: list[F32Array]) -> Matrix:
    """Panels of int8 levels, one scale for each row; elementwise IEEE operations only."""
    dense = np.stack(layers)
    count, rows, columns = dense.shape
    top = np.maximum(np.abs(dense).max(axis=2), np.float32(1e-20))
    scales = np.zeros((count, _filled_up(rows)), np.float32)
    scales[:, :rows] = top / np.float32(_WEIGHT_LEVELS)
    levels = np.zeros((count, _filled_up(rows), columns), np.int8)
    levels[:, :rows] = np.rint(dense / scales[:, :rows, None])
    panels = levels.reshape(count, -1, LANES, columns // 2, 2).swapaxes(2, 3)
    return Matrix(np.ascontiguousarray(panels), scales)
