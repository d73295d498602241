"""The weights of a GGUF as the exact engine wants them, and the file in which they are kept.

Requantising takes seconds for a model of a hundred million weights; the result is kept in the
user's cache folder, named by the model's SHA-256, and mapped into memory the next time, once its
own hash has been verified.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
import xxhash

from nczip.coder.errors import ModelError
from nczip.coder.exactmath import exp, log
from nczip.coder.folders import is_own_file, private_folder
from nczip.predictors.transformer.engine import F32Array, UnsupportedModelError
from nczip.predictors.transformer.gguf_file import DENSE, GgufFile, Sizes, architecture, dense_sizes
from nczip.predictors.transformer.graph import I8Array, Matrix, Weights, filled_up
from nczip.predictors.transformer.kernels_simd import BLOCK, LEVELS, ROWS, ZERO
from nczip.predictors.transformer.quants import dequantise

#: Architectures whose rotary embedding turns adjacent elements of a head, not its halves.
_TURNS_NEIGHBOURS = {"llama"}
_HEAD_STEP = 16  # a head's size is a multiple of this
_MAX_HEAD = 256

#: A change of the layout or of the quantisation takes the next number.
_LAYOUT = 1
_MAGIC = b"nczip panels\n"
_WORTH_KEEPING = 32 << 20  # bytes of weights; what is smaller is made again in no time


def load_weights(gguf: GgufFile, fingerprint: bytes) -> Weights:
    """The weights of a GGUF, requantised or from the cache.

    Raises:
        UnsupportedModelError: another architecture, or a feature that this engine does not have.
        ModelError: the file does not hold together.
    """
    sizes = _supported(gguf)
    if sum(tensor.data.nbytes for tensor in gguf.tensors.values()) < _WORTH_KEEPING:
        return _joined(_parts(_requantise(gguf, sizes)))
    path = cache_folder() / f"{fingerprint.hex()[:32]}-{_LAYOUT}.panels"
    arrays = _read_kept(path)
    if arrays is not None:
        return _joined(arrays)
    arrays = _parts(_requantise(gguf, sizes))
    _keep(path, arrays)
    return _joined(arrays)


def _supported(gguf: GgufFile) -> Sizes:
    """The numbers of a model that this engine evaluates.

    Raises:
        UnsupportedModelError: it is none.
    """

    def refuse(what: str) -> ModelError:
        return UnsupportedModelError(f"{gguf.path}: the exact engine {what}")

    kind = architecture(gguf)
    if kind not in DENSE:
        raise refuse(f"reads dense models ({', '.join(sorted(DENSE))}), not {kind}")
    if any("_exps." in name or "ffn_gate_inp" in name for name in gguf.tensors):
        raise refuse("has no mixtures of experts")
    sizes = dense_sizes(gguf)
    biases = {name.split(".", 2)[-1] for name in gguf.tensors if name.endswith(".bias")}
    if biases - {"attn_q.bias", "attn_k.bias", "attn_v.bias"}:
        raise refuse(f"has no biases but those of queries, keys and values, not {min(biases)}")
    for group in (("attn_q.bias", "attn_k.bias", "attn_v.bias"), _NORMS):
        _all_or_none(gguf, sizes, group)
    scaling = gguf.values.get(f"{kind}.rope.scaling.type", "none")
    if scaling not in ("none", "linear") or any("rope_factors" in name for name in gguf.tensors):
        raise refuse(f"has no rotary scaling of the kind {scaling!r:.40}")
    if gguf.number(f"{kind}.rope.dimension_count", sizes.size) != sizes.size:
        raise refuse("rotates whole heads only")
    if sizes.size % _HEAD_STEP or sizes.size > _MAX_HEAD:
        raise refuse(f"has heads of multiples of {_HEAD_STEP} up to {_MAX_HEAD}, not {sizes.size}")
    return sizes


_NORMS = ("attn_q_norm.weight", "attn_k_norm.weight")


def _all_or_none(gguf: GgufFile, sizes: Sizes, names: Iterable[str]) -> None:
    """Raise ModelError where only some layers have a group of tensors."""
    there = {f"blk.{i}.{name}" in gguf.tensors for i in range(sizes.layers) for name in names}
    if len(there) > 1:
        raise ModelError(f"{gguf.path}: only some layers have {', '.join(names)}")


def rotary_frequencies(size: int, base: float) -> npt.NDArray[np.float64]:
    """``base ** (-2 i / size)`` for i < size / 2, from exact operations."""
    ln_base = float(log(base))
    powers = [float(exp.py_func(-2.0 * i / size * ln_base)) for i in range(size // 2)]
    return np.array(powers)


def _frequencies(gguf: GgufFile, sizes: Sizes) -> npt.NDArray[np.float64]:
    """Rotary radians per position, scaled as Llama 3 (a factor for each) or linearly."""
    kind = architecture(gguf)
    frequencies = rotary_frequencies(sizes.size, sizes.base)
    if gguf.values.get(f"{kind}.rope.scaling.type") == "linear":
        frequencies /= float(gguf.number(f"{kind}.rope.scaling.factor", 1.0))
    if "rope_freqs.weight" in gguf.tensors:
        frequencies /= _dequantised(gguf, "rope_freqs.weight").astype(np.float64)
    if not (np.isfinite(frequencies).all() and 0.0 < frequencies.min() <= frequencies.max() < 8.0):
        raise ModelError(f"{gguf.path}: its rotary frequencies are absurd")
    return frequencies


def _dequantised(gguf: GgufFile, name: str) -> F32Array:
    """A tensor in float32, [rows, columns] or [elements].

    Raises:
        UnsupportedModelError: its type is unknown.
        ModelError: an element is not finite.
    """
    tensor = gguf.tensors[name]
    data = tensor.data.reshape(*tensor.shape[:0:-1], -1)
    try:
        values = np.ascontiguousarray(dequantise(data, tensor.kind))
    except (NotImplementedError, ValueError) as error:
        raise UnsupportedModelError(
            f"{gguf.path}: the exact engine cannot read '{name}': {error}"
        ) from error
    if not np.isfinite(values).all():
        raise ModelError(f"{gguf.path}: '{name}' holds what is not a number")
    return values.reshape(tensor.shape[::-1])


def _requantise(gguf: GgufFile, sizes: Sizes) -> Weights:
    neighbours = architecture(gguf) in _TURNS_NEIGHBOURS
    width, hidden = filled_up(sizes.width), filled_up(sizes.hidden)

    def dense(layer: int, name: str) -> F32Array:
        values = _dequantised(gguf, f"blk.{layer}.{name}")
        if neighbours and name.startswith(("attn_q.", "attn_k.")):
            return _halves(values, sizes.size)
        return values

    def stack(columns: int, rows: Callable[[int], F32Array]) -> Matrix:
        return _quantise_matrix(sizes.layers, columns, rows)

    def of_layers(name: str, columns: int) -> F32Array:
        return _filled_rows(sizes.layers, columns, lambda layer: dense(layer, name))

    def optional(name: str) -> F32Array:
        there = f"blk.0.{name}" in gguf.tensors
        return of_layers(name, sizes.size) if there else np.zeros((0, 0), np.float32)

    def gate_and_up(layer: int) -> F32Array:
        parts = np.zeros((2, hidden, sizes.width), np.float32)
        parts[:, : sizes.hidden] = dense(layer, "ffn_gate.weight"), dense(layer, "ffn_up.weight")
        return parts.reshape(2, -1, BLOCK, sizes.width).swapaxes(0, 1).reshape(2 * hidden, -1)

    def of_heads(layer: int, kind: str) -> F32Array:
        return np.concatenate([dense(layer, f"attn_{part}.{kind}") for part in "qkv"])

    def biases(columns: int) -> F32Array:
        if "blk.0.attn_q.bias" not in gguf.tensors:
            return np.zeros((0, 0), np.float32)
        return _filled_rows(sizes.layers, columns, lambda layer: of_heads(layer, "bias"))

    qkv = stack(width, lambda layer: of_heads(layer, "weight"))
    embedding = _dequantised(gguf, "token_embd.weight")
    head = "output.weight" if "output.weight" in gguf.tensors else "token_embd.weight"
    levels, scales = _quantise_embedding(embedding)
    final = np.zeros((1, width), np.float32)
    final[0, : sizes.width] = _dequantised(gguf, "output_norm.weight")
    return Weights(
        embedding=levels,
        embedding_scales=scales,
        qkv=qkv,
        qkv_bias=biases(qkv.scales.shape[1]),
        query_norm=optional("attn_q_norm.weight"),
        key_norm=optional("attn_k_norm.weight"),
        attention_out=stack(
            filled_up(sizes.heads * sizes.size), lambda i: dense(i, "attn_output.weight")
        ),
        gate_up=stack(width, gate_and_up),
        down=stack(hidden, lambda i: dense(i, "ffn_down.weight")),
        head=_quantise_matrix(1, width, lambda _: _dequantised(gguf, head)),
        attention_norm=of_layers("attn_norm.weight", width),
        hidden_norm=of_layers("ffn_norm.weight", width),
        final_norm=final,
        frequencies=_frequencies(gguf, sizes),
        shape=np.array([sizes.heads, sizes.key_heads, sizes.size, hidden, sizes.width], np.int64),
        epsilon=np.array([sizes.epsilon], np.float32),
    )


def _filled_rows(count: int, columns: int, row: Callable[[int], F32Array]) -> F32Array:
    """Rows, each filled up with zeros: float32[count, columns]."""
    found = np.zeros((count, columns), np.float32)
    for number in range(count):
        values = row(number)
        found[number, : len(values)] = values
    return found


def _halves(rows: F32Array, size: int) -> F32Array:
    """Rows of heads of ``size``, each head's even rows before its odd ones."""
    pairs = rows.reshape(-1, size // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _quantise_matrix(layers: int, columns: int, rows_of: Callable[[int], F32Array]) -> Matrix:
    """Panels of unsigned 8-bit levels, one scale for each row; elementwise IEEE operations only."""
    values, scales = None, None
    for layer in range(layers):
        dense = rows_of(layer)
        count, given = dense.shape
        rows = filled_up(count)
        if values is None or scales is None:
            values = np.empty((layers, rows // ROWS, columns // 4, ROWS, 4), np.uint8)
            scales = np.zeros((layers, rows), np.float32)
        top = np.maximum(np.abs(dense).max(axis=1), np.float32(1e-20))
        scales[layer, :count] = top / np.float32(LEVELS)
        levels = np.full((rows, columns), ZERO, np.uint8)
        dense = dense / scales[layer, :count, None]
        np.rint(dense, out=dense)
        dense += np.float32(ZERO)
        levels[:count, :given] = dense
        values[layer] = levels.reshape(rows // ROWS, ROWS, columns // 4, 4).swapaxes(1, 2)
    assert values is not None and scales is not None
    return Matrix(values, scales)


def _quantise_embedding(dense: F32Array) -> tuple[I8Array, F32Array]:
    """8-bit levels with a scale for each 64 columns, filled up."""
    rows, given = dense.shape
    blocks = filled_up(given) // BLOCK
    filled = np.zeros((rows, blocks * BLOCK), np.float32)
    filled[:, :given] = dense
    parts = filled.reshape(rows, blocks, BLOCK)
    top = np.maximum(np.abs(parts).max(axis=2), np.float32(1e-20))
    scales = top / np.float32(LEVELS)
    levels = np.rint(parts / scales[:, :, None]).astype(np.int8)
    return levels.reshape(rows, -1), scales


def cache_folder() -> Path:
    """Where requantised weights are kept."""
    return Path(platformdirs.user_cache_dir("nczip")) / "weights"


def _parts(weights: Weights) -> dict[str, npt.NDArray[Any]]:
    parts = {}
    for name, value in weights._asdict().items():
        if isinstance(value, Matrix):
            parts.update({f"{name}.{field}": part for field, part in value._asdict().items()})
        else:
            parts[name] = value
    return parts


def _joined(parts: dict[str, npt.NDArray[Any]]) -> Weights:
    fields: dict[str, Any] = {}
    for name, part in parts.items():
        # Kernels are compiled for arrays that can be written or for those that cannot.
        part.flags.writeable = False
        outer, _, inner = name.partition(".")
        if inner:
            fields.setdefault(outer, {})[inner] = part
        else:
            fields[outer] = part
    joined: dict[str, Any] = {
        name: Matrix(**field) if isinstance(field, dict) else field
        for name, field in fields.items()
    }
    return Weights(**joined)


def _keep(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write the arrays beside each other, if that can be done; two processes may do so at once.

    The file is the magic, a hash of what follows, the length of a directory in JSON, the
    directory, and the arrays at multiples of 64 bytes.
    """
    directory, size = {}, 0
    for name, array in arrays.items():
        directory[name] = array.dtype.str, array.shape, size
        size += filled_up(array.nbytes)
    listing = json.dumps(directory).encode()
    listing += b" " * (-(len(_MAGIC) + 16 + 8 + len(listing)) % BLOCK)
    with contextlib.suppress(OSError):
        private_folder(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        try:
            with os.fdopen(handle, "w+b") as file:
                head = len(listing).to_bytes(8, "little") + listing
                digest = xxhash.xxh3_128(head)
                file.write(_MAGIC + bytes(16) + head)
                for array in arrays.values():
                    raw = array.tobytes()
                    raw += bytes(-len(raw) % BLOCK)
                    digest.update(raw)
                    file.write(raw)
                file.seek(len(_MAGIC))
                file.write(digest.digest())
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink()
            raise


def _read_kept(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays of such a file, mapped; None where there is none or its hash differs."""
    try:
        private_folder(path.parent)
        with path.open("rb") as file:
            if not is_own_file(os.fstat(file.fileno())):
                return None
            mapped = np.memmap(file, np.uint8, "r")
    except (OSError, ValueError):
        return None
    start = len(_MAGIC) + 16
    if mapped[: len(_MAGIC)].tobytes() != _MAGIC:
        return None
    digest = mapped[len(_MAGIC) : start].tobytes()
    if xxhash.xxh3_128(mapped[start:].data).digest() != digest:
        return None
    length = int.from_bytes(mapped[start : start + 8].tobytes(), "little")
    start += 8
    directory = json.loads(mapped[start : start + length].tobytes())
    start += length
    arrays = {}
    for name, (kind, shape, offset) in directory.items():
        dtype = np.dtype(kind)
        count = int(np.prod(shape)) * dtype.itemsize
        part = mapped[start + offset : start + offset + count]
        arrays[name] = np.asarray(part).view(dtype).reshape(shape)
    return arrays
