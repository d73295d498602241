"""The transformer as torch trains it: what llama.cpp's ``llama`` graph can express, no more.

RMSNorm before each part, rotary embedding of adjacent pairs, grouped key-value heads, SwiGLU,
attention to the last ``window`` tokens.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5
ROTARY_BASE = 10_000.0

_BLOCK = 256  # queries that attend together
_ALIGNMENT = 64  # of the first key of a block: matrix products like round sizes


@dataclass(frozen=True)
class Shape:
    """What a model is made of."""

    vocabulary: int = 8192
    width: int = 256
    layers: int = 6
    heads: int = 4
    key_heads: int = 2
    hidden: int = 704
    window: int = 512

    @property
    def head_size(self) -> int:
        return self.width // self.heads

    def multiplications(self) -> int:
        """Multiply-adds of matrices for one token, and of attention with a full window."""
        qkv = self.width * (self.heads + 2 * self.key_heads) * self.head_size
        layer = qkv + self.width * self.width + 3 * self.width * self.hidden
        attention = 2 * self.window * self.width
        return self.layers * (layer + attention) + self.vocabulary * self.width


class Layer(nn.Module):
    """Attention and SwiGLU, each added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        s, d, size = shape, shape.width, shape.head_size
        self.shape = shape
        self.attention_norm = nn.Parameter(torch.ones(d))
        self.qkv = nn.Linear(d, (s.heads + 2 * s.key_heads) * size, bias=False)
        self.attention_out = nn.Linear(d, d, bias=False)
        self.hidden_norm = nn.Parameter(torch.ones(d))
        self.gate_up = nn.Linear(d, 2 * s.hidden, bias=False)
        self.down = nn.Linear(s.hidden, d, bias=False)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        s, (batch, length, width) = self.shape, x.shape
        size = s.head_size
        qkv = self.qkv(functional.rms_norm(x, (width,), self.attention_norm, EPSILON))
        q, k, v = qkv.split([s.heads * size, s.key_heads * size, s.key_heads * size], -1)
        q = rotate(q.view(batch, length, s.heads, size), cosines, sines).transpose(1, 2)
        k = rotate(k.view(batch, length, s.key_heads, size), cosines, sines).transpose(1, 2)
        v = v.view(batch, length, s.key_heads, size).transpose(1, 2)
        groups = s.heads // s.key_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        mixed = attend(q, k, v, s.window)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(functional.rms_norm(x, (width,), self.hidden_norm, EPSILON)).chunk(
            2, -1
        )
        down: Tensor = self.down(functional.silu(gate) * up)
        return x + down


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary embedding of [batch, length, heads, size] by [length, size / 2]."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cosines[None, :, None].to(x.dtype), sines[None, :, None].to(x.dtype)
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


def rotary_tables(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin of all angles, float32[length, size / 2]."""
    half = shape.head_size // 2
    angles = torch.arange(length)[:, None] * ROTARY_BASE ** (-torch.arange(half) / half)
    return angles.cos(), angles.sin()


def attend(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Softmax attention of each position to the last ``window`` up to it.

    In blocks of queries, with no more keys than a block sees: on processors faster than torch's
    kernel, which computes what a mask then hides.

    Args:
        q, k, v: float[batch, heads, length, size].
    """
    length, scale = q.shape[2], q.shape[3] ** -0.5
    mixed = []
    for start in range(0, length, _BLOCK):
        stop, first = min(start + _BLOCK, length), max(start - window + 1, 0)
        first -= first % _ALIGNMENT
        scores = (q[:, :, start:stop] @ k[:, :, first:stop].mT).float() * scale
        distance = torch.arange(start, stop)[:, None] - torch.arange(first, stop)
        seen = (distance >= 0) & (distance < window)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        mixed.append(weights.to(v.dtype) @ v[:, :, first:stop])
    return torch.cat(mixed, 2)


class Transformer(nn.Module):
    """Logits (nats) of what follows each token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.final_norm = nn.Parameter(torch.ones(shape.width))
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)

    def initialise(self, seed: int) -> None:
        """Small random weights; what adds to the residual stream starts at nothing."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                scale = 0.02 if "embedding" in name or "head" in name else weight.shape[1] ** -0.5
                nn.init.normal_(weight, 0.0, scale, generator=generator)
                if "attention_out" in name or "down" in name:
                    nn.init.zeros_(weight)

    def forward(self, tokens: Tensor, cosines: Tensor, sines: Tensor) -> Any:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, cosines, sines)
        x = functional.rms_norm(x, (self.shape.width,), self.final_norm, EPSILON)
        return self.head(x)


def run(model: Transformer, tokens: Tensor) -> Tensor:
    """Logits of a batch of token rows under the model's window."""
    logits: Tensor = model(tokens, *rotary_tables(model.shape, tokens.shape[1]))
    return logits


def save_half(model: Transformer, path: Path, step: int) -> None:
    """Write the weights as float16, and the training's step: half a model's size, no optimiser.

    Raises:
        ValueError: a weight is not finite, or too large for float16.
    """
    arrays = {name: weight.half().numpy() for name, weight in model.state_dict().items()}
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} cannot be written as float16")
    about = np.array(json.dumps({"shape": asdict(model.shape), "step": step}))
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, about=about, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def load_weights(path: Path) -> Transformer:
    """A model from a training's checkpoint, from :func:`save_half`'s NPZ, or from a llama GGUF."""
    if path.suffix == ".gguf":
        return _from_gguf(path)
    if path.suffix == ".npz":
        return _from_half(path)
    saved = torch.load(path, weights_only=True)
    model = Transformer(Shape(**saved["shape"]))
    model.load_state_dict(saved["weights"])
    return model


def steps_before(path: Path) -> int:
    """How many steps a training had done when it wrote a checkpoint; of a GGUF, unknown: none."""
    if path.suffix == ".gguf":
        return 0
    if path.suffix == ".npz":
        with np.load(path) as file:
            return int(json.loads(str(file["about"]))["step"])
    return int(torch.load(path, weights_only=True).get("step", 0))


def _from_half(path: Path) -> Transformer:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    model = Transformer(Shape(**json.loads(str(arrays.pop("about")))["shape"]))
    weights = {name: torch.from_numpy(values).float() for name, values in arrays.items()}
    model.load_state_dict(weights)
    return model


def _from_gguf(path: Path) -> Transformer:
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)

    def value(key: str) -> int:
        field = reader.get_field(f"llama.{key}")
        if field is None:
            raise ValueError(f"{path} does not say its {key}")
        return int(field.contents())

    tensors = {t.name: torch.tensor(dequantize(t.data, t.tensor_type)) for t in reader.tensors}
    shape = Shape(
        vocabulary=len(tensors["token_embd.weight"]),
        width=value("embedding_length"),
        layers=value("block_count"),
        heads=value("attention.head_count"),
        key_heads=value("attention.head_count_kv"),
        hidden=value("feed_forward_length"),
        window=value("context_length"),
    )
    embedding = tensors["token_embd.weight"]
    weights = {
        "embedding.weight": embedding,
        "final_norm": tensors["output_norm.weight"],
        "head.weight": tensors.get("output.weight", embedding.clone()),
    }
    for i in range(shape.layers):
        for name, parts in GGUF_LAYER.items():
            found = [tensors[f"blk.{i}.{part}.weight"] for part in parts]
            weights[f"layers.{i}.{name}"] = torch.cat(found)
    model = Transformer(shape)
    model.load_state_dict(weights)
    return model


#: Tensors of a GGUF's layer that make up each of ours, row after row.
GGUF_LAYER = {
    "attention_norm": ("attn_norm",),
    "qkv.weight": ("attn_q", "attn_k", "attn_v"),
    "attention_out.weight": ("attn_output",),
    "hidden_norm": ("ffn_norm",),
    "gate_up.weight": ("ffn_gate", "ffn_up"),
    "down.weight": ("ffn_down",),
}


def layer_rows(shape: Shape, name: str) -> list[int]:
    """How many rows each GGUF tensor has of one of our matrices."""
    if name == "qkv.weight":
        keys = shape.key_heads * shape.head_size
        return [shape.width, keys, keys]
    if name == "gate_up.weight":
        return [shape.hidden, shape.hidden]
    return [shape.width]
