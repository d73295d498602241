"""Small random GGUFs of the dense architectures, and what they should answer, in float64 NumPy."""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from nczip.predictors.transformer.gguf_tokens import _byte_letters

VOCABULARY = 257  # the bytes and one pair
BASE = 10_000.0
EPSILON = 1e-5


@dataclass(frozen=True)
class Shape:
    """A dense model; ``factors`` are Llama 3's divisors of the rotary frequencies."""

    architecture: str = "llama"
    layers: int = 2
    width: int = 96
    heads: int = 4
    key_heads: int = 2
    size: int = 64
    hidden: int = 144
    tied: bool = False
    biases: bool = False
    norms: bool = False
    factors: bool = False


def tensors_of(shape, seed=1):
    """Random float32 tensors by name."""
    rng = np.random.default_rng(seed)
    queries, keys = shape.heads * shape.size, shape.key_heads * shape.size

    def matrix(rows, columns):
        return rng.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)

    def norm(count):
        return rng.uniform(0.5, 1.5, count).astype(np.float32)

    tensors = {
        "token_embd.weight": matrix(VOCABULARY, shape.width) * 8,
        "output_norm.weight": norm(shape.width),
    }
    if not shape.tied:
        tensors["output.weight"] = matrix(VOCABULARY, shape.width) * 2
    if shape.factors:
        tensors["rope_freqs.weight"] = np.linspace(1, 8, shape.size // 2, dtype=np.float32)
    for i in range(shape.layers):
        layer = {
            "attn_norm.weight": norm(shape.width),
            "attn_q.weight": matrix(queries, shape.width),
            "attn_k.weight": matrix(keys, shape.width),
            "attn_v.weight": matrix(keys, shape.width),
            "attn_output.weight": matrix(shape.width, queries),
            "ffn_norm.weight": norm(shape.width),
            "ffn_gate.weight": matrix(shape.hidden, shape.width),
            "ffn_up.weight": matrix(shape.hidden, shape.width),
            "ffn_down.weight": matrix(shape.width, shape.hidden),
        }
        if shape.biases:
            for name, count in (("q", queries), ("k", keys), ("v", keys)):
                layer[f"attn_{name}.bias"] = rng.normal(0, 0.5, count).astype(np.float32)
        if shape.norms:
            layer |= {f"attn_{name}_norm.weight": norm(shape.size) for name in "qk"}
        tensors |= {f"blk.{i}.{name}": tensor for name, tensor in layer.items()}
    return tensors


def write_model(path: Path, shape: Shape, seed: int = 1) -> Path:
    """The model as a GGUF in float32, its tokens the bytes and 'ab'."""
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_context_length(512)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_heads)
    writer.add_key_length(shape.size)
    writer.add_value_length(shape.size)
    writer.add_rope_dimension_count(shape.size)
    writer.add_rope_freq_base(BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*sorted(_byte_letters(), key=_byte_letters().__getitem__), "ab"])
    writer.add_token_types([gguf.TokenType.NORMAL] * VOCABULARY)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    for name, tensor in tensors_of(shape, seed).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _normed(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight


def _turned(heads, positions, shape, factors):
    """Rotary embedding of [tokens, heads, size]: llama's adjacent pairs, the others' halves."""
    angles = (
        positions[:, None] * (BASE ** (-2.0 * np.arange(shape.size // 2) / shape.size)) / factors
    )
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    pairs = shape.architecture == "llama"
    parts = (slice(0, None, 2), slice(1, None, 2)) if pairs else (
        slice(0, shape.size // 2), slice(shape.size // 2, None)
    )  # fmt: skip
    a, b = (heads[..., part] for part in parts)
    turned = np.empty_like(heads)
    turned[..., parts[0]], turned[..., parts[1]] = a * cosine - b * sine, a * sine + b * cosine
    return turned


def reference(shape, tokens, window, sinks=0, seed=1):
    """Logits after each token, float64[tokens, V]."""
    tensors = {name: tensor.astype(np.float64) for name, tensor in tensors_of(shape, seed).items()}
    n = len(tokens)
    positions = np.arange(n)
    factors = tensors.get("rope_freqs.weight", 1.0)
    i, j = positions[:, None], positions[None, :]
    seen = (j <= i) & ((j < sinks) | (j > i - (window - sinks)))
    x = tensors["token_embd.weight"][tokens]
    for layer in range(shape.layers):
        t = {
            name.split(".", 2)[2]: v
            for name, v in tensors.items()
            if name.startswith(f"blk.{layer}.")
        }
        y = _normed(x, t["attn_norm.weight"])
        q, k, v = (
            (y @ t[f"attn_{name}.weight"].T + t.get(f"attn_{name}.bias", 0.0)).reshape(
                n, -1, shape.size
            )
            for name in "qkv"
        )
        if shape.norms:
            q, k = _normed(q, t["attn_q_norm.weight"]), _normed(k, t["attn_k_norm.weight"])
        to_sinks = _turned(q, np.minimum(positions, window - 1), shape, factors)
        q, k = (_turned(part, positions, shape, factors) for part in (q, k))
        k, v = (part.repeat(shape.heads // shape.key_heads, 1) for part in (k, v))
        scores, to_sinks = (np.einsum("ihs,jhs->hij", part, k) for part in (q, to_sinks))
        scores = np.where(j < sinks, to_sinks, scores) / np.sqrt(shape.size)
        shares = np.where(seen, np.exp(scores - scores.max(-1, keepdims=True)), 0.0)
        shares /= shares.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhs->ihs", shares, v).reshape(n, -1) @ t["attn_output.weight"].T
        y = _normed(x, t["ffn_norm.weight"])
        gate = y @ t["ffn_gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ t["ffn_up.weight"].T)) @ t["ffn_down.weight"].T
    head = tensors.get("output.weight", tensors["token_embd.weight"])
    return _normed(x, tensors["output_norm.weight"]) @ head.T
