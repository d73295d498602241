"""The llama graph in integers and fixed-order float32: kernels of the exact engine.

Matrices are int8 with one scale for each row, activations int16 with one scale for each vector (11
bits); a product of two is below 2^17, so an int32 holds the sum of 16,000 of them, and integer sums
have no order. Keys and values are int8, the weights of the values at most 15 bits. Wider weights
would cost more than they gain: one step reads them all, and memory is slower than arithmetic.
Everything else is IEEE float32 in a written-down order: elementwise loops that vectorise as they
stand, and the operations of predictors/simd.py.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.exactmath import exp32
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
from nczip.predictors.transformer.engine import MAX_SINKS, F32Array

I8Array = npt.NDArray[np.int8]
I16Array = npt.NDArray[np.int16]
I64Array = npt.NDArray[np.int64]

_LEVELS = 1023  # the largest quantised magnitude of activations
WEIGHT_LEVELS = 127
_CACHE_LEVELS = 127  # of keys and values
MAX_WIDTH = (1 << 31) // (_LEVELS * WEIGHT_LEVELS) - 1
_LEAST_SCORE = np.float32(-60.0)
_NOTHING = np.float32(-1e30)  # the score of a cell that is not there
GROUP = 64  # tokens evaluated at once: more would leave the cache

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

    A ring has C cells, of which the first W are used. The first tokens of a lane keep the first S
    cells for ever (attention sinks: Xiao et al., 2023, "Efficient Streaming Language Models with
    Attention Sinks"); the last W - S tokens take turns in the others. Both are stored as panels:
    to the keys, the cells are rows; to the values, the cells are columns.
    """

    keys: I8Array  #: int8[rings, C / 16, s / 2, 16, 2]
    key_scales: F32Array  #: float32[rings, C]
    values: I8Array  #: int8[rings, s / 16 (rounded up to PANEL_GROUP), C / 2, 16, 2]
    value_scales: F32Array  #: float32[rings, C]
    positions: I64Array  #: int64[lanes], tokens seen
    window: I64Array  #: int64[2], W and S


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
    sink_cosines: F32Array  #: float32[1, s / 2], of the last position in a window that is full
    sink_sines: F32Array  #: float32[1, s / 2]
    sink_wide: F32Array  #: float32[1, h k s], a token's queries as the sinks see them
    sink_queries: I16Array  #: int16[h, s]
    sink_query_scales: F32Array  #: float32[h]
    sink_scores: F32Array  #: float32[h, MAX_SINKS]


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
def _find_angles(frequencies, position, cosines, sines, row):
    """The rotations of a position, in a row of ``cosines`` and ``sines``, float32."""
    for i in range(frequencies.shape[0]):
        cosine, sine = _cosine_and_sine(np.float64(position) * frequencies[i])
        cosines[row, i], sines[row, i] = np.float32(cosine), np.float32(sine)


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


def _panel_loop(product, panels_at_once):
    """A kernel that takes a matrix through one of simd.py's products, from vector t on."""

    @kernel(inline=True)
    def loop(
        matrix, start, stride, columns, panels, x, x_stride, t, row_scales, row, scales, out
    ):  # fmt: skip
        out_stride = out.shape[1]
        for p in range(0, panels, panels_at_once):
            product(
                matrix, start + p * stride, stride, columns, x, t * x_stride, x_stride,
                row_scales, row + p * 16, scales, t, out, t * out_stride + p * 16, out_stride,
            )  # fmt: skip

    return loop


_eight_vectors = _panel_loop(product_1x8, 1)
_four_vectors = _panel_loop(product_2x4, 2)
_two_vectors = _panel_loop(product_4x2, 4)
_one_vector = _panel_loop(product_4x1, 4)


@kernel()
def multiply_panels(
    matrix, start, stride, columns, panels, x, x_stride, n, row_scales, row, scales, out
):
    """The products of ``panels`` panels and the first n vectors of x, in ``out[t]``, float32.

    Panel p starts at ``start + p * stride`` of ``matrix`` (flat); a result is scaled by
    ``row_scales[row + its row]`` (flat) and ``scales[t]``. Each panel is read once for up to eight
    vectors.
    """
    t = 0
    while n - t >= 8:
        _eight_vectors(
            matrix, start, stride, columns, panels, x, x_stride, t, row_scales, row, scales, out
        )
        t += 8
    if n - t >= 4:
        _four_vectors(
            matrix, start, stride, columns, panels, x, x_stride, t, row_scales, row, scales, out
        )
        t += 4
    if n - t >= 2:
        _two_vectors(
            matrix, start, stride, columns, panels, x, x_stride, t, row_scales, row, scales, out
        )
        t += 2
    if n - t == 1:
        _one_vector(
            matrix, start, stride, columns, panels, x, x_stride, t, row_scales, row, scales, out
        )


@kernel()
def _multiply(scratch, n, matrix, layer, out):
    """``out[t, r] = W[r] . x[t]`` for the n quantised vectors of ``scratch``, float32."""
    values, scales = matrix.values, matrix.scales
    panels, columns = values.shape[1], 2 * values.shape[2]
    multiply_panels(
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
def _rotate(wide, t, size, cosines, sines, heads, target, row):
    """Rotary embedding (Su et al., 2021) of ``heads`` heads, adjacent pairs as in llama's GGUF.

    Row t of ``wide``, turned by that row of the cosines and sines, is stored in ``target[row]``.
    """
    for h in range(heads):
        for i in range(size // 2):
            at = h * size + 2 * i
            a, b = wide[t, at], wide[t, at + 1]
            target[row, at] = a * cosines[i] - b * sines[i]
            target[row, at + 1] = a * sines[i] + b * cosines[i]


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


@kernel(inline=True)
def _quantise_queries(source, start, heads, size, queries, scales):
    """Quantise the heads from ``start`` (flat) on; their scales take in 1 / sqrt(size)."""
    for h in range(heads):
        scale = _quantise(source, start + h * size, size, queries, h * size, _LEVELS)
        scales[h] = scale / np.float32(np.sqrt(np.float32(size)))


@kernel()
def _score_sinks(cache, scratch, ring, first, heads, size, sinks):
    """Replace the scores of the sinks by those of the queries in ``scratch.sink_wide``."""
    queries, scales, found = scratch.sink_queries, scratch.sink_query_scales, scratch.sink_scores
    _quantise_queries(scratch.sink_wide, first, heads, size, queries, scales)
    room = scratch.scores.shape[1]
    multiply_panels(
        cache.keys, ring * room * size, size * LANES, size, PANEL_GROUP,
        queries, size, heads, cache.key_scales, ring * room, scales, found,
    )  # fmt: skip
    for h in range(heads):
        for j in range(sinks):
            scratch.scores[h, j] = found[h, j]


@kernel()
def _attend(cache, scratch, ring, t, first, heads, size, cells, sinks):
    """Some query heads, from ``first`` in row t, over the cells of their ring.

    Their outputs replace the queries in ``scratch.wide``. ``ring`` numbers the ring, all layers
    and lanes counted through. Cells are taken in the order of the ring; the first ``sinks`` are
    asked by the queries in ``scratch.sink_wide``.
    """
    wide, scores = scratch.wide, scratch.scores
    row = t * wide.shape[1] + first
    _quantise_queries(wide, row, heads, size, scratch.queries, scratch.query_scales)
    room = scores.shape[1]
    panels = (cells + 63) // 64 * PANEL_GROUP
    multiply_panels(
        cache.keys, ring * room * size, size * LANES, size, panels,
        scratch.queries, size, heads, cache.key_scales, ring * room, scratch.query_scales, scores,
    )  # fmt: skip
    if sinks:
        _score_sinks(cache, scratch, ring, first, heads, size, sinks)
    for h in range(heads):
        _share_out(cache, scratch, ring, h, cells)
    rows = cache.values.shape[1] * LANES
    multiply_panels(
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
    """Causal attention of n tokens, in order: each sees the W tokens in its lane's cells.

    Once the window slides, the sinks seem to lie right before its other tokens: a query meets them
    as if it stood at position W - 1. Keys stay as they were stored.
    """
    heads, key_heads, size = weights.shape[0], weights.shape[1], weights.shape[2]
    window, kept = cache.window[0], cache.window[1]
    lane_count = cache.positions.shape[0]
    group = heads // key_heads
    wide = scratch.wide
    for t in range(n):
        sliding = positions[t] >= window
        sinks = kept if sliding else 0
        if sinks:
            cosines, sines = scratch.sink_cosines[0], scratch.sink_sines[0]
            _rotate(wide, t, size, cosines, sines, heads, scratch.sink_wide, 0)
        cosines, sines = scratch.cosines[t], scratch.sines[t]
        _rotate(wide, t, size, cosines, sines, heads + key_heads, wide, t)
        rings = (layer * lane_count + lanes[t]) * key_heads
        cell = kept + (positions[t] - kept) % (window - kept) if sliding else positions[t]
        cells = min(positions[t] + 1, window)
        for h in range(key_heads):
            key = (heads + h) * size
            _remember(cache, scratch, rings + h, cell, t, key, key + key_heads * size, size)
            _attend(cache, scratch, rings + h, t, h * group * size, group, size, cells, sinks)


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
def forward(weights, cache, scratch, tokens, lanes, positions, rows, logits):
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
        _find_angles(weights.frequencies, positions[t], scratch.cosines, scratch.sines, t)
    last = cache.window[0] - 1
    _find_angles(weights.frequencies, last, scratch.sink_cosines, scratch.sink_sines, 0)
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


def filled_up(rows: int) -> int:
    """Rows with those that fill up the last group of panels."""
    return -(-rows // (LANES * PANEL_GROUP)) * LANES * PANEL_GROUP


def new_cache(weights: Weights, lanes: int, window: int, sinks: int) -> Cache:
    """Empty rings."""
    _, key_heads, size, _ = weights.shape.tolist()
    rings, cells = len(weights.attention_norm) * lanes * key_heads, filled_up(window)
    return Cache(
        keys=np.zeros((rings, cells // LANES, size // 2, LANES, 2), np.int8),
        key_scales=np.zeros((rings, cells), np.float32),
        values=np.zeros((rings, filled_up(size) // LANES, cells // 2, LANES, 2), np.int8),
        value_scales=np.zeros((rings, cells), np.float32),
        positions=np.zeros(lanes, np.int64),
        window=np.array([window, sinks], np.int64),
    )


def new_scratch(weights: Weights, window: int) -> Scratch:
    """Working memory for one thread."""
    heads, key_heads, size, _ = weights.shape.tolist()
    width = weights.embedding.shape[1]
    rows = (weights.qkv, weights.attention_out, weights.gate_up, weights.down)
    widest = max(heads * size, *(matrix.scales.shape[1] for matrix in rows))
    cells = filled_up(window)
    return Scratch(
        x=np.zeros((GROUP, width), np.float32),
        normed=np.zeros((GROUP, widest), np.float32),
        wide=np.zeros((GROUP, widest), np.float32),
        quantised=np.zeros((GROUP, widest), np.int16),
        scales=np.zeros(GROUP, np.float32),
        queries=np.zeros((heads // key_heads, size), np.int16),
        query_scales=np.zeros(heads // key_heads, np.float32),
        scores=np.zeros((heads // key_heads, cells), np.float32),
        shares=np.zeros((heads // key_heads, cells), np.int16),
        share_scales=np.zeros(heads // key_heads, np.float32),
        mixed=np.zeros((heads // key_heads, filled_up(size)), np.float32),
        level=np.zeros(size, np.int8),
        ones=np.ones(max(filled_up(size), cells), np.float32),
        cosines=np.zeros((GROUP, size // 2), np.float32),
        sines=np.zeros((GROUP, size // 2), np.float32),
        sink_cosines=np.zeros((1, size // 2), np.float32),
        sink_sines=np.zeros((1, size // 2), np.float32),
        sink_wide=np.zeros((1, heads * size), np.float32),
        sink_queries=np.zeros((heads // key_heads, size), np.int16),
        sink_query_scales=np.zeros(heads // key_heads, np.float32),
        sink_scores=np.zeros((heads // key_heads, MAX_SINKS), np.float32),
    )
