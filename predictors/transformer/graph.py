"""The llama graph in integers and fixed-order float32: kernels of the exact engine.

Weights are 8 bits with one scale for each row; activations 8 bits with a scale for each 64 columns,
so that an outlier spoils its neighbours alone. Products of a block sum exactly in an int32, and the
blocks' sums, scaled, are added in float32 from the first to the last. Keys and values are 8 bits
with a scale for each vector, the weights of the values 8 bits with a scale for each 64 cells.
Everything else is IEEE float32 in a written-down order (kernels_simd.py).

One step is a row of phases, each cut into pieces that are independent of each other: some rows of a
matrix, some tokens, a lane's heads. Every thread walks through all phases and takes pieces until
none is left; the next phase begins when all are done. Whoever computes a piece, its bits are the
same, and a thread that comes late or not at all only takes fewer.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.jit import kernel
from nczip.coder.simd import dot, largest_magnitude, round_levels
from nczip.predictors.transformer.engine import MAX_SINKS, F32Array
from nczip.predictors.transformer.kernels_simd import (
    BLOCK,
    LEVELS,
    PANEL_GROUP,
    ROWS,
    ZERO,
    exponentials,
    fetch_add,
    gate_block,
    give_way,
    largest,
    load_shared,
    product_2x8,
    product_4x1,
    product_4x2,
    product_4x3,
    product_4x4,
    quantise_block,
    quantise_shares,
)

I8Array = npt.NDArray[np.int8]
U8Array = npt.NDArray[np.uint8]
I32Array = npt.NDArray[np.int32]
I64Array = npt.NDArray[np.int64]

GROUP = 256  #: tokens evaluated at once: weights are read once for all of them
_ASKING = 8  # tokens of a lane that attend at once: its keys are read once for all of them
_KEYS_AHEAD = 16384
_VALUES_AHEAD = 2048  # bytes of a panel that are fetched before their use
_PIECE_TOKENS = 8  # of a phase that works token by token
_NOTHING = np.float32(-1e30)  # the score of a cell that is not seen
_PATIENCE = 2000  # looks at a counter before the thread gives way
_PHASES_OF_LAYER = 8
_APART = 8  # int64 of a cache line: counters that are written at once lie in lines of their own

_TWO_PI_HIGH = 6.28125  # 2 pi in two pieces: turns * high is exact
_TWO_PI_LOW = 0.0019353071795864769


class Matrix(NamedTuple):
    """One weight matrix of all layers, in panels of 16 rows.

    Element c of row r is ``(values[layer, r // 16, c // 4, r % 16, c % 4] - 128) *
    scales[layer, r]``. Rows and columns are filled up to multiples of 64.
    """

    values: U8Array  #: uint8[layers, rows / 16, columns / 4, 16, 4]
    scales: F32Array  #: float32[layers, rows]; 0 for rows that only fill up


class Weights(NamedTuple):
    """A llama of L layers, width d, h heads and k key-value heads of size s, hidden width f.

    d and f are filled up to multiples of 64 (D, F). Rotary embedding turns the first half of a head
    against the second; models that turn adjacent elements have their rows reordered.
    """

    embedding: I8Array  #: int8[V, D]
    embedding_scales: F32Array  #: float32[V, D / 64]
    qkv: Matrix  #: [L, (h + 2 k) s, D]
    qkv_bias: F32Array  #: float32[L, rows of qkv], or [0, 0]
    query_norm: F32Array  #: float32[L, s], or [0, 0]
    key_norm: F32Array  #: float32[L, s], or [0, 0]
    attention_out: Matrix  #: [L, d, h s]
    gate_up: Matrix  #: [L, 2 F, D]: 64 rows of the gate, 64 of the other part, the next 64 ...
    down: Matrix  #: [L, d, F]
    head: Matrix  #: [1, V, D]
    attention_norm: F32Array  #: float32[L, D]
    hidden_norm: F32Array  #: float32[L, D]
    final_norm: F32Array  #: float32[1, D]
    frequencies: npt.NDArray[np.float64]  #: float64[s / 2], rotary radians per position
    shape: I64Array  #: int64[5]: h, k, s, F, d
    epsilon: F32Array  #: float32[1]


class Cache(NamedTuple):
    """Keys and values of each lane's last tokens: L * lanes * k rings, counted in this order.

    The first S tokens of a lane stay for ever (attention sinks: Xiao et al., 2023, "Efficient
    Streaming Language Models with Attention Sinks"), in 64 cells of their own; later ones take
    turns in the others. There are more of these than the window of W sees, so that several tokens
    can be stored before the first of them attends. Both are stored as panels: to the keys, the
    cells are rows; to the values, the cells are columns.
    """

    keys: U8Array  #: uint8[rings, C / 16, s (filled up) / 4, 16, 4]
    key_scales: F32Array  #: float32[rings, C]
    values: I8Array  #: int8[rings, s (filled up) / 16, C / 4, 16, 4]
    value_scales: F32Array  #: float32[rings, C]
    positions: I64Array  #: int64[lanes], tokens seen
    window: I64Array  #: int64[2], W and S


class Scratch(NamedTuple):
    """What the threads of a session share for up to n tokens."""

    x: F32Array  #: float32[n, D], the residual stream
    wide: F32Array  #: float32[n, rows of qkv]
    levels: I8Array  #: int8[n, widest], the input of the next matrix
    scales: F32Array  #: float32[n, widest / 64]
    offsets: I32Array  #: int32[n, widest / 64]
    gated: I8Array  #: int8[n, F]
    gated_scales: F32Array  #: float32[n, F / 64]
    gated_offsets: I32Array  #: int32[n, F / 64]
    cosines: F32Array  #: float32[n, s / 2]
    sines: F32Array  #: float32[n, s / 2]
    sink_cosines: F32Array  #: float32[n, s / 2], of the position at which the sinks are met
    sink_sines: F32Array  #: float32[n, s / 2]
    pieces: I64Array  #: int64[phases, 2, 8]: pieces taken and done, the rest only keeps them apart


class Private(NamedTuple):
    """Working memory of one thread; v vectors attend at once."""

    rows: F32Array  #: float32[n, 128], outputs of a piece of a matrix
    normed: F32Array  #: float32[widest]
    turned: F32Array  #: float32[s (filled up)]
    level: I8Array  #: int8[s], a key or value before it is stored
    queries: I8Array  #: int8[v, s (filled up)]
    query_scales: F32Array  #: float32[v, s (filled up) / 64]
    query_offsets: I32Array  #: int32[v, s (filled up) / 64]
    scores: F32Array  #: float32[v, C]
    shares: U8Array  #: uint8[v, C], quantised weights of the values
    share_scales: F32Array  #: float32[v, C / 64]
    no_offsets: I32Array  #: int32[v, C / 64], 0
    mixed: F32Array  #: float32[v, s (filled up)]
    ones: F32Array  #: float32[s (filled up)]


class Batch(NamedTuple):
    """n tokens to evaluate at once; those of a lane stand together, in order."""

    tokens: I64Array  #: int64[n]
    positions: I64Array  #: int64[n]
    lanes: I64Array  #: int64[l], the lanes
    edges: I64Array  #: int64[l + 1], where each lane's tokens begin
    wanted: I64Array  #: int64[m], tokens whose logits are wanted, rising


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
def _take(pieces, phase, count):
    """The next piece of a phase of ``count`` pieces, -1 where all are taken."""
    piece = fetch_add(pieces, phase * 2 * _APART, 1)
    return piece if piece < count else -1


@kernel(inline=True)
def _next(pieces, phase, count):
    """Count a piece as done, and take the next."""
    fetch_add(pieces, phase * 2 * _APART + _APART, 1)
    return _take(pieces, phase, count)


@kernel(inline=True)
def _await(pieces, phase, count):
    """Wait until all pieces of a phase are done."""
    looks = 0
    while load_shared(pieces, phase * 2 * _APART + _APART) < count:
        looks += 1
        if looks > _PATIENCE:
            give_way()


class Panels(NamedTuple):
    """Some panels of a matrix, and what their products are scaled by."""

    values: U8Array  #: flat
    start: int  #: of the first panel
    stride: int  #: from one to the next
    ahead: int  #: bytes that are fetched before their use
    blocks: int  #: of 64 columns
    number: int
    scales: F32Array  #: flat, of the rows
    scale: int  #: place of the first row's


class Vectors(NamedTuple):
    """The first vectors of some, quantised by blocks."""

    levels: I8Array  #: int8[at least number, columns]
    scales: F32Array  #: float32[at least number, blocks]
    offsets: I32Array  #: int32[at least number, blocks]
    number: int


class Results(NamedTuple):
    """Where products go: of vector t and row r to ``start + t * stride + r``."""

    values: F32Array  #: flat
    start: int
    stride: int


@kernel()
def multiply_panels(panels, vectors, out):
    """The products of Panels and Vectors, as Results: float32."""
    matrix, row_scales = panels.values, panels.scales
    stride, ahead, blocks = panels.stride, panels.ahead, panels.blocks
    x, scales, offsets = vectors.levels, vectors.scales, vectors.offsets
    columns, places = x.shape[1], scales.shape[1]
    whole = vectors.number - vectors.number % 8
    for p in range(0, panels.number if whole else 0, 2):
        for t in range(0, whole, 8):
            product_2x8(
                matrix, panels.start + p * stride, stride, ahead, blocks, x, t * columns, columns,
                scales, offsets, t * places, places, row_scales, panels.scale + p * ROWS,
                out.values, out.start + t * out.stride + p * ROWS, out.stride,
            )  # fmt: skip
    t = whole
    while t < vectors.number:
        left = vectors.number - t
        for p in range(0, panels.number, 4):
            at, scale = panels.start + p * stride, panels.scale + p * ROWS
            to = out.start + t * out.stride + p * ROWS
            if left >= 4:
                product_4x4(
                    matrix, at, stride, ahead, blocks, x, t * columns, columns, scales, offsets,
                    t * places, places, row_scales, scale, out.values, to, out.stride,
                )  # fmt: skip
            elif left == 3:
                product_4x3(
                    matrix, at, stride, ahead, blocks, x, t * columns, columns, scales, offsets,
                    t * places, places, row_scales, scale, out.values, to, out.stride,
                )  # fmt: skip
            elif left == 2:
                product_4x2(
                    matrix, at, stride, ahead, blocks, x, t * columns, columns, scales, offsets,
                    t * places, places, row_scales, scale, out.values, to, out.stride,
                )  # fmt: skip
            else:
                product_4x1(
                    matrix, at, stride, ahead, blocks, x, t * columns, columns, scales, offsets,
                    t * places, places, row_scales, scale, out.values, to, out.stride,
                )  # fmt: skip
        t += min(left, 4)


@kernel()
def _multiply(matrix, layer, first, count, vectors, out, out_start):
    """``count`` panels of a matrix, from ``first`` on, by Vectors."""
    blocks = matrix.values.shape[2] * 4 // BLOCK
    stride = blocks * BLOCK * ROWS
    start = (layer * matrix.values.shape[1] + first) * stride
    scale = layer * matrix.scales.shape[1] + first * ROWS
    panels = Panels(
        matrix.values, start, stride, PANEL_GROUP * stride, blocks, count, matrix.scales, scale
    )
    multiply_panels(panels, vectors, Results(out, out_start, out.shape[1]))


@kernel(inline=True)
def _norm(x, t, width, weight, layer, epsilon, normed):
    """RMSNorm (Zhang and Sennrich, 2019) of row t of the residual stream, in ``normed``."""
    filled = x.shape[1]
    mean = dot(x, t * filled, x, t * filled, filled) / np.float32(width)
    factor = np.float32(1.0) / np.float32(np.sqrt(mean + epsilon))
    for i in range(np.uint64(filled)):
        normed[i] = x[t, i] * factor * weight[layer, i]


@kernel()
def _norm_and_quantise(weights, scratch, private, first, last, weight, layer):
    """The inputs of the next matrix for some tokens."""
    x = scratch.x
    for t in range(first, last):
        _norm(x, t, weights.shape[4], weight, layer, weights.epsilon[0], private.normed)
        for b in range(x.shape[1] // BLOCK):
            quantise_block(
                private.normed, b * BLOCK, scratch.levels, t * scratch.levels.shape[1] + b * BLOCK,
                scratch.scales, scratch.offsets, t * scratch.scales.shape[1] + b,
            )  # fmt: skip


@kernel()
def _quantise_heads(scratch, private, first, last, columns):
    """What the heads found, the first ``columns`` of ``scratch.wide``, as inputs of a matrix."""
    wide, normed = scratch.wide, private.normed
    for t in range(first, last):
        for i in range(np.uint64(columns)):
            normed[i] = wide[t, i]
        blocks = (columns + BLOCK - 1) // BLOCK
        for i in range(columns, blocks * BLOCK):
            normed[i] = np.float32(0.0)
        for b in range(blocks):
            quantise_block(
                normed, b * BLOCK, scratch.levels, t * scratch.levels.shape[1] + b * BLOCK,
                scratch.scales, scratch.offsets, t * scratch.scales.shape[1] + b,
            )  # fmt: skip


@kernel(inline=True)
def _normalise_head(wide, t, at, size, norm, layer, epsilon):
    """RMSNorm of one head (Qwen3), in place."""
    mean = dot(wide, t * wide.shape[1] + at, wide, t * wide.shape[1] + at, size) / np.float32(size)
    factor = np.float32(1.0) / np.float32(np.sqrt(mean + epsilon))
    for i in range(np.uint64(size)):
        wide[t, np.uint64(at) + i] = wide[t, np.uint64(at) + i] * factor * norm[layer, i]


@kernel(inline=True)
def _turn(wide, t, at, half, cosines, sines, turned):
    """Rotary embedding (Su et al., 2021) of a head, its first half against its second."""
    first, second = np.uint64(at), np.uint64(at + half)
    for i in range(np.uint64(half)):
        a, b = wide[t, first + i], wide[t, second + i]
        turned[i] = a * cosines[t, i] - b * sines[t, i]
        turned[np.uint64(half) + i] = a * sines[t, i] + b * cosines[t, i]


@kernel()
def _quantise_queries(scratch, private, t, at, heads, size, cosines, sines, row):
    """The queries of token t, from column ``at`` on, turned, as vectors from ``row`` on."""
    turned, places = private.turned, private.query_scales.shape[1]
    shrink = np.float32(1.0) / np.float32(np.sqrt(np.float32(size)))
    for h in range(heads):
        _turn(scratch.wide, t, at + h * size, size // 2, cosines, sines, turned)
        for b in range(places):
            quantise_block(
                turned, b * BLOCK, private.queries, ((row + h) * places + b) * BLOCK,
                private.query_scales, private.query_offsets, (row + h) * places + b,
            )  # fmt: skip
            private.query_scales[row + h, b] *= shrink


@kernel(inline=True)
def _quantise_vector(source, start, size, level):
    """Round ``source[start:start + size]`` (flat) to int8 levels; returns the scale of one."""
    top = max(largest_magnitude(source, start, size), np.float32(1e-20))
    factor = np.float32(LEVELS) / top
    round_levels(source, start, factor, np.int32(LEVELS), level, 0, size)
    return top / np.float32(LEVELS)


@kernel()
def _remember(cache, scratch, private, ring, cell, t, key, value, size):
    """Turn and quantise the key, quantise the value of token t, and store them in a cell."""
    level = private.level
    _turn(scratch.wide, t, key, size // 2, scratch.cosines, scratch.sines, private.turned)
    cache.key_scales[ring, cell] = _quantise_vector(private.turned, 0, size, level)
    for i in range(size):
        cache.keys[ring, cell >> 4, i >> 2, cell & 15, i & 3] = np.int64(level[i]) + ZERO
    start = t * scratch.wide.shape[1] + value
    cache.value_scales[ring, cell] = _quantise_vector(scratch.wide, start, size, level)
    for i in range(size):
        cache.values[ring, i >> 4, cell >> 2, i & 15, cell & 3] = level[i]


@kernel(inline=True)
def _cell_of(cache, position):
    """Where a position is stored in its ring."""
    kept = cache.window[1]
    first = MAX_SINKS if kept else 0
    if position < kept:
        return position
    return first + (position - kept) % (cache.key_scales.shape[1] - first)


@kernel(inline=True)
def _hide(scores, row, first, last):
    for j in range(first, last):
        scores[row, j] = _NOTHING


@kernel()
def _hide_unseen(cache, scores, row, position, cells):
    """Take those of the first ``cells`` cells out that a position does not see."""
    window, kept = cache.window[0], cache.window[1]
    first = MAX_SINKS if kept else 0
    if kept:
        _hide(scores, row, min(kept, position + 1), first)
    room = cache.key_scales.shape[1] - first
    oldest = max(position - (window - kept) + 1, kept) - kept
    newest = position - kept
    if newest < 0:
        _hide(scores, row, first, cells)
        return
    begin, end = oldest % room, newest % room + 1
    if begin < end:
        _hide(scores, row, first, first + begin)
        _hide(scores, row, first + end, cells)
    else:
        _hide(scores, row, first + end, min(first + begin, cells))


@kernel()
def _share_out(cache, private, ring, row, cells):
    """Softmax of a vector's scores, times the scales of the values, quantised."""
    scores, places = private.scores, private.share_scales.shape[1]
    at = row * scores.shape[1]
    whole = exponentials(scores, at, largest(scores, at, cells), cells)
    factor = np.float32(1.0) / whole
    for b in range(cells // BLOCK):
        quantise_shares(
            scores, at + b * BLOCK, cache.value_scales, ring * scores.shape[1] + b * BLOCK,
            private.shares, at + b * BLOCK, private.share_scales, row * places + b,
        )  # fmt: skip
        private.share_scales[row, b] *= factor


class Group(NamedTuple):
    """Query heads that share a key head; int64."""

    ring: int  #: all layers, lanes and key heads counted through
    at: int  #: column of the first head's queries
    heads: int
    size: int


@kernel()
def _attend(cache, scratch, private, batch, group, first, last):
    """A Group of query heads of a lane's tokens over the cells of their ring.

    Their outputs replace the queries in ``scratch.wide``. Once the window slides, the sinks seem to
    lie right before its other tokens: a query meets them as if it stood at position W - 1. Keys
    stay as they were stored.
    """
    ring, at, heads, size = group
    scores, mixed = private.scores, private.mixed
    room, kept = scores.shape[1], cache.window[1]
    blocks = private.query_scales.shape[1]
    sinks = MAX_SINKS if kept else 0
    newest = batch.positions[last - 1]
    cells = sinks + min(max(newest + 1 - kept, 1) + BLOCK - 1, room - sinks) // BLOCK * BLOCK
    vectors = (last - first) * heads
    stride = blocks * BLOCK * ROWS
    start = ring * room // ROWS * stride
    queries = Vectors(private.queries, private.query_scales, private.query_offsets, vectors)
    if kept:
        for t in range(first, last):
            row = (t - first) * heads
            _quantise_queries(
                scratch, private, t, at, heads, size, scratch.sink_cosines, scratch.sink_sines, row
            )
        kept_keys = Panels(
            cache.keys, start, stride, _KEYS_AHEAD, blocks, sinks // ROWS,
            cache.key_scales, ring * room,
        )  # fmt: skip
        multiply_panels(kept_keys, queries, Results(scores, 0, room))
    for t in range(first, last):
        row = (t - first) * heads
        _quantise_queries(scratch, private, t, at, heads, size, scratch.cosines, scratch.sines, row)
    keys = Panels(
        cache.keys, start + sinks // ROWS * stride, stride, _KEYS_AHEAD, blocks,
        (cells - sinks) // ROWS, cache.key_scales, ring * room + sinks,
    )  # fmt: skip
    multiply_panels(keys, queries, Results(scores, sinks, room))
    for v in range(vectors):
        _hide_unseen(cache, scores, v, batch.positions[first + v // heads], cells)
        _share_out(cache, private, ring, v, cells)
    count = cache.values.shape[1]
    values = Panels(
        cache.values, ring * count * room * ROWS, room * ROWS, _VALUES_AHEAD, cells // BLOCK, count,
        private.ones, 0,
    )  # fmt: skip
    shares = Vectors(private.shares, private.share_scales, private.no_offsets, vectors)
    multiply_panels(values, shares, Results(mixed, 0, mixed.shape[1]))
    for v in range(vectors):
        t, to = first + v // heads, at + v % heads * size
        for i in range(size):
            scratch.wide[t, to + i] = mixed[v, i]


@kernel()
def _attention(weights, cache, scratch, private, batch, piece, layer):
    """Causal attention of one lane's tokens to one key head."""
    heads, key_heads, size = weights.shape[0], weights.shape[1], weights.shape[2]
    group = heads // key_heads
    lane, head = piece // key_heads, piece % key_heads
    lane_count = cache.positions.shape[0]
    ring = (layer * lane_count + batch.lanes[lane]) * key_heads + head
    key = (heads + head) * size
    for first in range(batch.edges[lane], batch.edges[lane + 1], _ASKING):
        last = min(first + _ASKING, batch.edges[lane + 1])
        for t in range(first, last):
            if weights.query_norm.shape[0]:
                epsilon = weights.epsilon[0]
                for h in range(head * group, (head + 1) * group):
                    _normalise_head(
                        scratch.wide, t, h * size, size, weights.query_norm, layer, epsilon
                    )
                _normalise_head(scratch.wide, t, key, size, weights.key_norm, layer, epsilon)
            cell = _cell_of(cache, batch.positions[t])
            value = key + key_heads * size
            _remember(cache, scratch, private, ring, cell, t, key, value, size)
        queries = Group(ring, head * group * size, group, size)
        _attend(cache, scratch, private, batch, queries, first, last)


@kernel()
def _embed(weights, cache, scratch, batch, first, last):
    """The first residual stream of some tokens, and the rotations of their positions."""
    x, embedding, scales = scratch.x, weights.embedding, weights.embedding_scales
    for t in range(first, last):
        token, position = batch.tokens[t], batch.positions[t]
        for b in range(scales.shape[1]):
            scale = scales[token, b]
            for i in range(np.uint64(b * BLOCK), np.uint64((b + 1) * BLOCK)):
                x[t, i] = np.float32(embedding[token, i]) * scale
        _find_angles(weights.frequencies, position, scratch.cosines, scratch.sines, t)
        if cache.window[1]:
            met_at = min(position, cache.window[0] - 1)
            _find_angles(weights.frequencies, met_at, scratch.sink_cosines, scratch.sink_sines, t)


@kernel()
def _project(weights, scratch, n, piece, layer):
    """64 rows of queries, keys and values."""
    wide = scratch.wide
    first = piece * PANEL_GROUP
    vectors = Vectors(scratch.levels, scratch.scales, scratch.offsets, n)
    _multiply(weights.qkv, layer, first, PANEL_GROUP, vectors, wide, first * ROWS)
    if weights.qkv_bias.shape[0]:
        for t in range(n):
            for i in range(np.uint64(first * ROWS), np.uint64((first + PANEL_GROUP) * ROWS)):
                wide[t, i] += weights.qkv_bias[layer, i]


@kernel()
def _gate(weights, scratch, private, n, piece, layer):
    """64 hidden units, gated and quantised."""
    rows = private.rows
    vectors = Vectors(scratch.levels, scratch.scales, scratch.offsets, n)
    _multiply(weights.gate_up, layer, piece * 2 * PANEL_GROUP, 2 * PANEL_GROUP, vectors, rows, 0)
    for t in range(n):
        gate_block(rows, t * rows.shape[1])
        quantise_block(
            rows, t * rows.shape[1], scratch.gated, t * scratch.gated.shape[1] + piece * BLOCK,
            scratch.gated_scales, scratch.gated_offsets, t * scratch.gated_scales.shape[1] + piece,
        )  # fmt: skip


@kernel()
def _add_product(matrix, layer, scratch, private, vectors, piece):
    """64 rows of a matrix, added to the residual stream."""
    x, rows = scratch.x, private.rows
    first = piece * PANEL_GROUP
    _multiply(matrix, layer, first, PANEL_GROUP, vectors, rows, 0)
    for t in range(vectors.number):
        for i in range(np.uint64(PANEL_GROUP * ROWS)):
            x[t, np.uint64(first * ROWS) + i] += rows[t, i]


@kernel()
def _gather_wanted(weights, scratch, private, wanted, first, last):
    """The inputs of the head for some of the wanted tokens; they move to the front."""
    x = scratch.x
    for row in range(first, last):
        t = wanted[row]
        _norm(x, t, weights.shape[4], weights.final_norm, 0, weights.epsilon[0], private.normed)
        for b in range(x.shape[1] // BLOCK):
            quantise_block(
                private.normed, b * BLOCK, scratch.levels,
                row * scratch.levels.shape[1] + b * BLOCK,
                scratch.scales, scratch.offsets, row * scratch.scales.shape[1] + b,
            )  # fmt: skip


@kernel()
def _attention_half(weights, cache, scratch, private, batch, layer, phase):
    """A layer's attention: five phases from ``phase`` on, with whoever else takes pieces."""
    pieces = scratch.pieces
    n = batch.tokens.shape[0]
    spans = (n + _PIECE_TOKENS - 1) // _PIECE_TOKENS
    heads, size = weights.shape[0], weights.shape[2]

    piece = _take(pieces, phase, spans)
    while piece >= 0:
        first = piece * _PIECE_TOKENS
        last = min(first + _PIECE_TOKENS, n)
        _norm_and_quantise(weights, scratch, private, first, last, weights.attention_norm, layer)
        piece = _next(pieces, phase, spans)
    _await(pieces, phase, spans)

    count = weights.qkv.values.shape[1] // PANEL_GROUP
    piece = _take(pieces, phase + 1, count)
    while piece >= 0:
        _project(weights, scratch, n, piece, layer)
        piece = _next(pieces, phase + 1, count)
    _await(pieces, phase + 1, count)

    count = batch.lanes.shape[0] * weights.shape[1]
    piece = _take(pieces, phase + 2, count)
    while piece >= 0:
        _attention(weights, cache, scratch, private, batch, piece, layer)
        piece = _next(pieces, phase + 2, count)
    _await(pieces, phase + 2, count)

    piece = _take(pieces, phase + 3, spans)
    while piece >= 0:
        first = piece * _PIECE_TOKENS
        last = min(first + _PIECE_TOKENS, n)
        _quantise_heads(scratch, private, first, last, heads * size)
        piece = _next(pieces, phase + 3, spans)
    _await(pieces, phase + 3, spans)

    count = weights.attention_out.values.shape[1] // PANEL_GROUP
    piece = _take(pieces, phase + 4, count)
    while piece >= 0:
        vectors = Vectors(scratch.levels, scratch.scales, scratch.offsets, n)
        _add_product(weights.attention_out, layer, scratch, private, vectors, piece)
        piece = _next(pieces, phase + 4, count)
    _await(pieces, phase + 4, count)


@kernel()
def _hidden_half(weights, scratch, private, n, layer, phase):
    """A layer's gated hidden units: three phases."""
    pieces = scratch.pieces
    spans = (n + _PIECE_TOKENS - 1) // _PIECE_TOKENS

    piece = _take(pieces, phase, spans)
    while piece >= 0:
        first = piece * _PIECE_TOKENS
        last = min(first + _PIECE_TOKENS, n)
        _norm_and_quantise(weights, scratch, private, first, last, weights.hidden_norm, layer)
        piece = _next(pieces, phase, spans)
    _await(pieces, phase, spans)

    count = weights.shape[3] // BLOCK
    piece = _take(pieces, phase + 1, count)
    while piece >= 0:
        _gate(weights, scratch, private, n, piece, layer)
        piece = _next(pieces, phase + 1, count)
    _await(pieces, phase + 1, count)

    count = weights.down.values.shape[1] // PANEL_GROUP
    piece = _take(pieces, phase + 2, count)
    while piece >= 0:
        vectors = Vectors(scratch.gated, scratch.gated_scales, scratch.gated_offsets, n)
        _add_product(weights.down, layer, scratch, private, vectors, piece)
        piece = _next(pieces, phase + 2, count)
    _await(pieces, phase + 2, count)


@kernel()
def forward(weights, cache, scratch, private, batch, logits):
    """Evaluate a batch, with whatever other threads call this with the same shared arrays.

    Args:
        logits: float32[wanted, V (filled up)], the result.

    Returns:
        Whether all residual streams, and so all logits, are finite.
    """
    pieces = scratch.pieces
    n = batch.tokens.shape[0]
    spans = (n + _PIECE_TOKENS - 1) // _PIECE_TOKENS
    piece = _take(pieces, 0, spans)
    while piece >= 0:
        first = piece * _PIECE_TOKENS
        _embed(weights, cache, scratch, batch, first, min(first + _PIECE_TOKENS, n))
        piece = _next(pieces, 0, spans)
    _await(pieces, 0, spans)
    phase = 1
    for layer in range(weights.attention_norm.shape[0]):
        _attention_half(weights, cache, scratch, private, batch, layer, phase)
        _hidden_half(weights, scratch, private, n, layer, phase + 5)
        phase += _PHASES_OF_LAYER
    wanted = batch.wanted.shape[0]
    spans = (wanted + _PIECE_TOKENS - 1) // _PIECE_TOKENS
    piece = _take(pieces, phase, spans)
    while piece >= 0:
        first = piece * _PIECE_TOKENS
        last = min(first + _PIECE_TOKENS, wanted)
        _gather_wanted(weights, scratch, private, batch.wanted, first, last)
        piece = _next(pieces, phase, spans)
    _await(pieces, phase, spans)
    count = weights.head.values.shape[1] // PANEL_GROUP
    piece = _take(pieces, phase + 1, count)
    while piece >= 0:
        first = piece * PANEL_GROUP
        vectors = Vectors(scratch.levels, scratch.scales, scratch.offsets, wanted)
        _multiply(weights.head, 0, first, PANEL_GROUP, vectors, logits, first * ROWS)
        piece = _next(pieces, phase + 1, count)
    _await(pieces, phase + 1, count)
    x = scratch.x
    power = np.float32(0.0)
    for t in range(n):
        power += dot(x, t * x.shape[1], x, t * x.shape[1], x.shape[1])
    return power - power == np.float32(0.0)


def filled_up(count: int) -> int:
    """The next multiple of 64."""
    return -(-count // BLOCK) * BLOCK


def phase_count(weights: Weights) -> int:
    """Phases of one evaluation."""
    return 3 + _PHASES_OF_LAYER * len(weights.attention_norm)


def cells_of(window: int, sinks: int) -> int:
    """C: cells of a ring."""
    return (MAX_SINKS if sinks else 0) + filled_up(window - sinks + _ASKING - 1)


def new_cache(weights: Weights, lanes: int, window: int, sinks: int) -> Cache:
    """Empty rings."""
    _, key_heads, size, _, _ = weights.shape.tolist()
    rings, cells = len(weights.attention_norm) * lanes * key_heads, cells_of(window, sinks)
    columns = filled_up(size)
    return Cache(
        keys=np.zeros((rings, cells // ROWS, columns // 4, ROWS, 4), np.uint8),
        key_scales=np.zeros((rings, cells), np.float32),
        values=np.zeros((rings, columns // ROWS, cells // 4, ROWS, 4), np.int8),
        value_scales=np.zeros((rings, cells), np.float32),
        positions=np.zeros(lanes, np.int64),
        window=np.array([window, sinks], np.int64),
    )


def new_scratch(weights: Weights, tokens: int) -> Scratch:
    """What the threads of a session share."""
    heads, _, size, hidden, _ = weights.shape.tolist()
    width = weights.embedding.shape[1]
    widest = max(width, filled_up(heads * size))
    return Scratch(
        x=np.zeros((tokens, width), np.float32),
        wide=np.zeros((tokens, weights.qkv.scales.shape[1]), np.float32),
        levels=np.zeros((tokens, widest), np.int8),
        scales=np.zeros((tokens, widest // BLOCK), np.float32),
        offsets=np.zeros((tokens, widest // BLOCK), np.int32),
        gated=np.zeros((tokens, hidden), np.int8),
        gated_scales=np.zeros((tokens, hidden // BLOCK), np.float32),
        gated_offsets=np.zeros((tokens, hidden // BLOCK), np.int32),
        cosines=np.zeros((tokens, size // 2), np.float32),
        sines=np.zeros((tokens, size // 2), np.float32),
        sink_cosines=np.zeros((tokens, size // 2), np.float32),
        sink_sines=np.zeros((tokens, size // 2), np.float32),
        pieces=np.zeros((phase_count(weights), 2, _APART), np.int64),
    )


def new_private(weights: Weights, tokens: int, window: int, sinks: int) -> Private:
    """Working memory of one thread."""
    heads, key_heads, size, _, _ = weights.shape.tolist()
    vectors, columns, cells = (
        _ASKING * (heads // key_heads),
        filled_up(size),
        cells_of(window, sinks),
    )
    widest = max(weights.embedding.shape[1], filled_up(heads * size))
    return Private(
        rows=np.zeros((tokens, 2 * BLOCK), np.float32),
        normed=np.zeros(widest, np.float32),
        turned=np.zeros(columns, np.float32),
        level=np.zeros(size, np.int8),
        queries=np.zeros((vectors, columns), np.int8),
        query_scales=np.zeros((vectors, columns // BLOCK), np.float32),
        query_offsets=np.zeros((vectors, columns // BLOCK), np.int32),
        scores=np.zeros((vectors, cells), np.float32),
        shares=np.zeros((vectors, cells), np.uint8),
        share_scales=np.zeros((vectors, cells // BLOCK), np.float32),
        no_offsets=np.zeros((vectors, cells // BLOCK), np.int32),
        mixed=np.zeros((vectors, columns), np.float32),
        ones=np.ones(columns, np.float32),
    )
