"""Bits per byte of a model alone, as it will run: a sliding window over one long text."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nczip.predictors.train import sources
from nczip.predictors.train.encode import tokens_of
from nczip.predictors.train.model import Transformer, load_weights, run
from nczip.predictors.train.tokeniser import load_tokeniser

_TIMES = 4  # windows in a row: positions past the first see a full window in every layer


def _rows(tokens: Any, length: int, stride: int) -> Iterator[tuple[Tensor, int]]:
    """Rows of tokens, and how many of their first predictions an earlier row has made."""
    start = 0
    while start == 0 or start + length - stride < len(tokens) - 1:
        row = torch.from_numpy(np.asarray(tokens[start : start + length + 1]).astype(np.int64))
        yield row, length - stride if start else 0
        start += stride


@torch.no_grad()
def loss_of(model: Transformer, tokens: Any) -> tuple[float, int]:
    """Mean nats of each token after the first under the model's sliding window, and their number.

    Every prediction after the first window has a full window of context in every layer that the
    row reaches; the row is four windows, of which three are counted.
    """
    window = model.shape.window
    total, count = 0.0, 0
    for row, known in _rows(tokens, _TIMES * window, (_TIMES - 1) * window):
        with torch.autocast("cpu", torch.bfloat16):
            logits = run(model, row[None, :-1])[0]
        losses = functional.cross_entropy(logits[known:].float(), row[known + 1 :], reduction="sum")
        total += losses.item()
        count += len(row) - 1 - known
    return total / count, count


def bits_per_byte(model: Transformer, tokeniser: Any, text: bytes) -> tuple[float, float]:
    """Bits per byte of a text that is fed after a separator, and nats per token."""
    tokens = tokens_of(tokeniser, [text])[0]
    nats, count = loss_of(model, tokens)
    return nats * count / math.log(2) / len(text), nats


def read_text(path: Path) -> bytes:
    """A file, or the documents of a collection (*.txt.zst) one after another."""
    if path.name.endswith(".txt.zst"):
        return b"\n".join(sources.documents(path))
    return path.read_bytes()


@click.command()
@click.argument("weights", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tokeniser", "tokeniser_path", type=click.Path(exists=True, path_type=Path),
              help="A JSON, or a GGUF; by default WEIGHTS itself.")  # fmt: skip
@click.option("--megabytes", default=1.0, show_default=True, help="Of each file, at most.")
def evaluate_command(
    weights: Path, files: tuple[Path, ...], tokeniser_path: Path | None, megabytes: float
) -> None:
    """Bits per byte of WEIGHTS (a checkpoint or GGUF) alone on FILES (also *.txt.zst)."""
    model = load_weights(weights)
    tokeniser = load_tokeniser(tokeniser_path or weights)
    for path in files:
        text = read_text(path)[: int(megabytes * 1e6)]
        bits, nats = bits_per_byte(model, tokeniser, text)
        click.echo(f"{path.name}: {bits:.4f} bits per byte, {nats:.4f} nats per token")
