"""A GGUF, read with every bound checked, before an engine sees it.

The format is ggml's (docs/gguf.md there). llama.cpp trusts much of what a file says, and a damaged
or hostile one may crash it; so nothing is handed on unless all of this holds: counts and lengths
lie within the file, names are unique, tensors have types, shapes and places that fit, the
vocabulary is one, and the numbers of the architecture agree with the shapes.
"""

import math
import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nczip.coder.errors import ModelError
from nczip.predictors.transformer.quants import block_of

U8Array = npt.NDArray[np.uint8]

_MAX_ENTRIES = 1 << 16  # of metadata, and of tensors
_MAX_NAME = 1 << 10  # bytes
_MAX_DIMENSIONS = 4
_MAX_DIMENSION = 1 << 31
_MAX_ARRAY = 1 << 21  # elements of a metadata array
_MAX_LAYERS = 1 << 10
_MAX_WIDTH = 1 << 18
_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4",
    10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_ALIGNMENT = 32


class Tensor(NamedTuple):
    """Where a tensor lies and how it is stored."""

    shape: tuple[int, ...]  #: rows last, as the file has it: (columns, rows, ...)
    kind: int  #: ggml's number for its kind, see quants.py
    data: U8Array  #: its bytes, mapped


class GgufFile(NamedTuple):
    """A GGUF whose structure holds."""

    path: Path
    values: dict[str, Any]  #: metadata: numbers, strings, lists of strings, arrays of numbers
    tensors: dict[str, Tensor]

    def number(self, key: str, default: float | None = None) -> float:
        """A number of the metadata.

        Raises:
            ModelError: it is missing, or none.
        """
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelError(f"{self.path}: '{key}' is not a number but {value!r:.60}")
        return value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number of the metadata, within bounds.

        Raises:
            ModelError: it is missing, or not such a number.
        """
        value = self.number(key, default)
        if not isinstance(value, int) or not low <= value <= high:
            raise ModelError(f"{self.path}: '{key}' is {value!r:.60}, not {low} to {high}")
        return value


class _DamageError(Exception):
    """What is wrong with a file, in words."""


class _Cursor:
    """Reads from the start of a file, and never beyond its end."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.at = 0

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self.view) - self.at:
            raise _DamageError("it ends early")
        self.at += count
        return self.view[self.at - count : self.at]

    def number(self, kind: int) -> Any:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()

    def count(self, limit: int, what: str) -> int:
        (value,) = struct.unpack("<Q", self.take(8))
        if value > limit:
            raise _DamageError(f"{value} {what} are too many")
        return int(value)

    def string(self, limit: int) -> str:
        return str(self.take(self.count(limit, "bytes of a string")), "utf-8")

    def value(self) -> Any:
        kind = self.number(4)
        if kind in _NUMBERS:
            return self.number(kind)
        if kind == _BOOL:
            return bool(self.number(0))
        if kind == _STRING:
            return self.string(len(self.view))
        if kind != _ARRAY:
            raise _DamageError(f"a value has the unknown type {kind}")
        inner = self.number(4)
        count = self.count(_MAX_ARRAY, "elements of an array")
        if inner == _STRING:
            return [self.string(len(self.view)) for _ in range(count)]
        if inner == _BOOL:
            return np.frombuffer(self.take(count), np.uint8) != 0
        if inner not in _NUMBERS:
            raise _DamageError(f"an array has elements of the type {inner}")
        dtype = np.dtype(_NUMBERS[inner])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)


def read_gguf(path: Path) -> GgufFile:
    """The metadata of a GGUF and its tensors, mapped, the structure of both checked.

    Raises:
        ModelError: the file is missing, no GGUF, or damaged.
    """
    if not path.is_file():
        raise ModelError(f"no model file at {path}")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF model")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return _parse(path, memoryview(mapped))
    except (_DamageError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error


def _parse(path: Path, view: memoryview) -> GgufFile:
    cursor = _Cursor(view)
    cursor.take(4)
    version = cursor.number(4)
    if version not in (2, 3):
        raise _DamageError(f"GGUF version {version} is unknown (big-endian files are not read)")
    tensor_count = cursor.count(_MAX_ENTRIES, "tensors")
    value_count = cursor.count(_MAX_ENTRIES, "metadata entries")
    values: dict[str, Any] = {}
    for _ in range(value_count):
        key = cursor.string(_MAX_NAME)
        if key in values:
            raise _DamageError(f"the key '{key}' comes twice")
        values[key] = cursor.value()
    places = {}
    for _ in range(tensor_count):
        name = cursor.string(_MAX_NAME)
        if name in places:
            raise _DamageError(f"the tensor '{name}' comes twice")
        dimensions = cursor.number(4)
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise _DamageError(f"the tensor '{name}' has {dimensions} dimensions")
        shape = tuple(
            cursor.count(_MAX_DIMENSION, "elements of a dimension") for _ in range(dimensions)
        )
        places[name] = shape, cursor.number(4), cursor.count(len(view), "bytes of an offset")
    alignment = values.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 16 or alignment % 8:
        raise _DamageError(f"the alignment {alignment!r:.60} is not supported")
    start = -(-cursor.at // alignment) * alignment
    data = np.frombuffer(view, np.uint8)[start:]
    tensors = {
        name: Tensor(shape, kind, _bytes_of(data, name, shape, kind, offset, alignment))
        for name, (shape, kind, offset) in places.items()
    }
    return GgufFile(path, values, tensors)


def _bytes_of(
    data: U8Array, name: str, shape: tuple[int, ...], kind: int, offset: int, alignment: int
) -> U8Array:
    """The part of the data that a tensor takes."""
    try:
        block, size = block_of(kind)
    except KeyError:
        raise _DamageError(f"the tensor '{name}' has the unknown type {kind}") from None
    if min(shape) < 1 or shape[0] % block:
        raise _DamageError(f"the tensor '{name}' has the shape {shape}")
    count = math.prod(shape) // block * size
    if offset % alignment or offset + count > len(data):
        raise _DamageError(f"the tensor '{name}' lies outside the file")
    return data[offset : offset + count]


def check_vocabulary(gguf: GgufFile, limit: int) -> None:
    """Raise ModelError where the metadata of the tokeniser do not fit each other."""

    def refuse(what: str) -> ModelError:
        return ModelError(f"{gguf.path}: {what}")

    pieces = gguf.values.get("tokenizer.ggml.tokens")
    if not isinstance(pieces, list) or not 0 < len(pieces) <= limit:
        raise refuse("the vocabulary is missing, or too large")
    kinds = gguf.values.get("tokenizer.ggml.token_type")
    if kinds is not None and (
        not isinstance(kinds, np.ndarray)
        or kinds.shape != (len(pieces),)
        or kinds.dtype.kind not in "ui"
    ):
        raise refuse("there is not one type for each token")
    scores = gguf.values.get("tokenizer.ggml.scores")
    if scores is not None and (
        not isinstance(scores, np.ndarray)
        or scores.shape != (len(pieces),)
        or scores.dtype.kind != "f"
        or not np.isfinite(scores).all()
    ):
        raise refuse("there is not one score for each token")
    for key in gguf.values:
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            gguf.integer(key, 0, len(pieces) - 1)
    if gguf.values.get("tokenizer.ggml.model") == "gpt2":
        _check_merges(gguf, pieces, refuse)
    embedding = gguf.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2 or embedding.shape[1] != len(pieces):
        raise refuse("there is not one embedding for each token")


def _check_merges(gguf: GgufFile, pieces: list[str], refuse: Callable[[str], ModelError]) -> None:
    """Both parts of a merge and what they make are tokens."""
    merges = gguf.values.get("tokenizer.ggml.merges", [])
    if not isinstance(merges, list):
        raise refuse("its merges are no list of strings")
    known = set(pieces)
    for merge in merges:
        left, _, right = merge.partition(" ")
        if not (left and right and {left, right, left + right} <= known):
            raise refuse(f"the merge {merge!r:.60} is not one of tokens")


#: Tensors of a dense transformer layer: columns and rows as functions of the model's sizes.
_LAYER_SHAPES: dict[str, Callable[[dict[str, int]], tuple[int, ...]]] = {
    "attn_norm.weight": lambda m: (m["width"],),
    "attn_q.weight": lambda m: (m["width"], m["heads"] * m["size"]),
    "attn_q.bias": lambda m: (m["heads"] * m["size"],),
    "attn_k.weight": lambda m: (m["width"], m["key_heads"] * m["size"]),
    "attn_k.bias": lambda m: (m["key_heads"] * m["size"],),
    "attn_v.weight": lambda m: (m["width"], m["key_heads"] * m["size"]),
    "attn_v.bias": lambda m: (m["key_heads"] * m["size"],),
    "attn_q_norm.weight": lambda m: (m["size"],),
    "attn_k_norm.weight": lambda m: (m["size"],),
    "attn_output.weight": lambda m: (m["heads"] * m["size"], m["width"]),
    "ffn_norm.weight": lambda m: (m["width"],),
    "ffn_gate.weight": lambda m: (m["width"], m["hidden"]),
    "ffn_up.weight": lambda m: (m["width"], m["hidden"]),
    "ffn_down.weight": lambda m: (m["hidden"], m["width"]),
}
_OPTIONAL = {
    "attn_q.bias",
    "attn_k.bias",
    "attn_v.bias",
    "attn_q_norm.weight",
    "attn_k_norm.weight",
}

#: Architectures whose layers look so.
DENSE = frozenset({"llama", "exaone", "qwen2", "qwen3"})


class Sizes(NamedTuple):
    """The numbers of a dense model."""

    layers: int
    heads: int
    key_heads: int
    size: int  #: of a head
    width: int
    hidden: int
    base: float  #: of the rotary frequencies
    epsilon: float


def architecture(gguf: GgufFile) -> str:
    """What the file says it is.

    Raises:
        ModelError: it says nothing.
    """
    kind = gguf.values.get("general.architecture")
    if not isinstance(kind, str):
        raise ModelError(f"{gguf.path} names no architecture")
    return kind


def dense_sizes(gguf: GgufFile) -> Sizes:
    """The numbers of a dense model, checked against the shapes of its tensors.

    Raises:
        ModelError: they do not fit.
    """
    kind = architecture(gguf)
    heads = gguf.integer(f"{kind}.attention.head_count", 1, _MAX_WIDTH)
    width = gguf.integer(f"{kind}.embedding_length", 1, _MAX_WIDTH)
    key_heads = gguf.integer(f"{kind}.attention.head_count_kv", 1, heads, heads)
    size = gguf.integer(f"{kind}.attention.key_length", 1, _MAX_WIDTH, max(width // heads, 1))
    gguf.integer(f"{kind}.attention.value_length", size, size, size)
    sizes = Sizes(
        layers=gguf.integer(f"{kind}.block_count", 1, _MAX_LAYERS),
        heads=heads,
        key_heads=key_heads,
        size=size,
        width=width,
        hidden=gguf.integer(f"{kind}.feed_forward_length", 1, 4 * _MAX_WIDTH),
        base=float(gguf.number(f"{kind}.rope.freq_base", 10000.0)),
        epsilon=float(gguf.number(f"{kind}.attention.layer_norm_rms_epsilon")),
    )
    if heads % key_heads or size % 2:
        raise ModelError(f"{gguf.path}: {heads} heads of {size} do not share {key_heads} keys")
    if not 1.0 < sizes.base < 1e12 or not 0.0 < sizes.epsilon < 1.0:
        raise ModelError(f"{gguf.path}: base {sizes.base} or epsilon {sizes.epsilon} is absurd")
    _check_shapes(gguf, sizes)
    return sizes


def _check_shapes(gguf: GgufFile, sizes: Sizes) -> None:
    """Raise ModelError where a tensor of a dense model is missing or has another shape."""
    wanted = {
        f"blk.{layer}.{name}": (shape(sizes._asdict()), name in _OPTIONAL)
        for layer in range(sizes.layers)
        for name, shape in _LAYER_SHAPES.items()
    }
    rows = gguf.tensors["token_embd.weight"].shape[1] if "token_embd.weight" in gguf.tensors else 0
    wanted["token_embd.weight"] = (sizes.width, rows), False
    wanted["output.weight"] = (sizes.width, rows), True
    wanted["output_norm.weight"] = (sizes.width,), False
    wanted["rope_freqs.weight"] = (sizes.size // 2,), True
    for name, (shape, optional) in wanted.items():
        tensor = gguf.tensors.get(name)
        if tensor is None and not optional:
            raise ModelError(f"{gguf.path} lacks the tensor '{name}'")
        if tensor is not None and tensor.shape != shape:
            raise ModelError(f"{gguf.path}: '{name}' is {tensor.shape}, not {shape}")


def check_gguf(path: Path, limit: int) -> GgufFile:
    """Read a GGUF and check all that can be checked without evaluating it.

    Args:
        limit: the most tokens that a vocabulary may have.

    Raises:
        ModelError: the file is missing, damaged, or does not fit together.
    """
    gguf = read_gguf(path)
    kind = architecture(gguf)
    check_vocabulary(gguf, limit)
    if kind in DENSE and "blk.0.ffn_gate_inp.weight" not in gguf.tensors:
        dense_sizes(gguf)
    return gguf
