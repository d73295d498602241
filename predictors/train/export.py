"""Weights as a GGUF of llama's architecture, and proof that others read from it what we wrote."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch

from nczip.predictors.train.model import (
    EPSILON,
    GGUF_LAYER,
    ROTARY_BASE,
    Transformer,
    layer_rows,
    load_weights,
    run,
)
from nczip.predictors.train.tokeniser import SEPARATOR_TOKEN, load_tokeniser

_CONTROL, _NORMAL = 3, 1
_FORMATS = {"f32": 0, "f16": 1, "q8_0": 7}  # and their numbers as GGUF file types
_LEAST_LIKELY = -10.0
_CHECK_TEXT = (
    "It was a bright cold day, and the clocks of the town were striking thirteen when the\n"
    'stranger asked: "Does the code in main.c return 0 on success, or -1?" Nobody knew.\n'
)


def write_gguf(model: Transformer, tokeniser: Any, path: Path, name: str, kind: str) -> None:
    """Write a model with its vocabulary; ``kind`` is how matrices are stored."""
    from gguf import GGUFWriter

    shape = model.shape
    writer = GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(shape.window)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_heads)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(ROTARY_BASE)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(_FORMATS[kind])
    _add_vocabulary(writer, tokeniser, shape.vocabulary)
    for tensor, weight in gguf_tensors(model):
        _add_tensor(writer, tensor, weight, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: Any, tokeniser: Any, size: int) -> None:
    pieces = sorted(tokeniser.get_vocab().items(), key=lambda item: item[1])
    if [number for _, number in pieces] != list(range(size)):
        raise click.ClickException(f"the tokeniser has {len(pieces)} tokens, the model {size}")
    merges = json.loads(tokeniser.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([piece for piece, _ in pieces])
    kinds = [_CONTROL if number == SEPARATOR_TOKEN else _NORMAL for _, number in pieces]
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(SEPARATOR_TOKEN)
    writer.add_eos_token_id(SEPARATOR_TOKEN)
    writer.add_add_bos_token(False)


def gguf_tensors(model: Transformer) -> list[tuple[str, npt.NDArray[np.float32]]]:
    """Names and values, float32, of all tensors; a head equal to the embedding is left out."""
    state = {name: weight.detach().float().numpy() for name, weight in model.state_dict().items()}
    tensors = [("token_embd.weight", state["embedding.weight"])]
    if not np.array_equal(state["head.weight"], state["embedding.weight"]):
        tensors.append(("output.weight", state["head.weight"]))
    tensors.append(("output_norm.weight", state["final_norm"]))
    for i in range(model.shape.layers):
        for ours, theirs in GGUF_LAYER.items():
            weight = state[f"layers.{i}.{ours}"]
            edges = np.cumsum(layer_rows(model.shape, ours))[:-1]
            for part, rows in zip(theirs, np.split(weight, edges), strict=True):
                tensors.append((f"blk.{i}.{part}.weight", rows))
    return tensors


def _add_tensor(writer: Any, name: str, weight: npt.NDArray[np.float32], kind: str) -> None:
    from gguf import GGMLQuantizationType, quants

    if weight.ndim == 1 or kind == "f32":
        writer.add_tensor(name, np.ascontiguousarray(weight))
    elif kind == "f16":
        writer.add_tensor(name, weight.astype(np.float16))
    else:
        packed = quants.quantize(np.ascontiguousarray(weight), GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)


def differences(model: Transformer, gguf: Path) -> dict[str, float]:
    """Mean difference of a log-probability (nats) between torch and each engine that is here.

    Of all tokens above e^-10 after every token of a text.
    """
    from nczip.coder.errors import EngineError
    from nczip.predictors.transformer.exact import ExactEngine
    from nczip.predictors.transformer.llama import LlamaEngine

    tokens = load_tokeniser(gguf).encode(_CHECK_TEXT, add_special_tokens=False).ids
    tokens = [SEPARATOR_TOKEN, *tokens]
    with torch.no_grad():
        expected = run(model.float(), torch.tensor([tokens]))[0].log_softmax(-1)
    means: dict[str, float] = {}
    for engine_class in (ExactEngine, LlamaEngine):
        try:
            engine = engine_class(gguf)
        except EngineError:  # without the extra 'llama'
            continue
        session = engine.open_session(1, model.shape.window, 1)
        steps = [session.evaluate([0], [[token]]).copy() for token in tokens]
        session.close()
        logits = torch.from_numpy(np.concatenate(steps)).log_softmax(-1)
        # Tokens of next to no probability are rounded more coarsely, and matter to nobody.
        likely = expected > _LEAST_LIKELY
        means[engine.name] = float((logits - expected)[likely].abs().mean())
    return means


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("weights", type=_FILE)
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--tokeniser", "tokeniser_path", type=_FILE, required=True)
@click.option(
    "--format", "kind", type=click.Choice(list(_FORMATS)), default="q8_0", show_default=True
)
def export_command(weights: Path, out: Path, tokeniser_path: Path, kind: str) -> None:
    """Write WEIGHTS (a checkpoint) as the GGUF OUT."""
    write_gguf(load_weights(weights), load_tokeniser(tokeniser_path), out, out.stem, kind)
    click.echo(f"{out}: {out.stat().st_size:,} bytes")


@click.command()
@click.argument("weights", type=_FILE)
@click.argument("gguf", type=_FILE)
@click.option("--tolerance", default=0.06, show_default=True, help="Nats.")
def check_command(weights: Path, gguf: Path, tolerance: float) -> None:
    """Compare the logits of WEIGHTS in torch with those of GGUF in the engines that are here."""
    means = differences(load_weights(weights), gguf)
    for name, mean in means.items():
        click.echo(f"{name}: mean difference of a log-probability {mean:.4f} nats")
    if max(means.values()) > tolerance:
        raise click.ClickException(f"more than {tolerance} nats apart")
