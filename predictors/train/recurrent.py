"""Trains the recurrent network (predictors/recurrent.py) on the primer's text."""

import bz2
from pathlib import Path

import click
import numpy as np
import torch
import zstandard
from rich.progress import Progress, TextColumn
from torch import Tensor, nn
from torch.nn import functional

from nczip.predictors.recurrent import pack_weights

_EMBEDDING = 48
_ROWS, _LENGTH = 128, 64  # of a batch; gradients go back so many bytes
_WARMUP = 200
_LAST_RATE = 0.01  # of the highest
_CLIP = 1.0
_SAVE_STEPS = 1000

#: int64[256, 8] and float[256, 8]: the nodes of the bit tree that a byte passes, and its bits.
_NODES = torch.tensor([[1 << bit | byte >> (8 - bit) for bit in range(8)] for byte in range(256)])
_BITS = torch.tensor([[float(byte >> (7 - bit) & 1) for bit in range(8)] for byte in range(256)])


class Network(nn.Module):
    """A gated recurrent unit over bytes; its outputs are the logits of the bit tree's nodes."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, _EMBEDDING)
        self.unit = nn.GRU(_EMBEDDING, units, batch_first=True)
        self.head = nn.Linear(units, 256)
        # One bias is enough.
        nn.init.zeros_(self.unit.get_parameter("bias_hh_l0")).requires_grad_(False)

    def forward(self, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits float[rows, length, 256] (node 0 does not exist), and the state after them."""
        outputs, state = self.unit(self.embedding(inputs), state)
        return self.head(outputs), state.detach()


def bits_per_byte(logits: Tensor, targets: Tensor) -> Tensor:
    """What coding ``targets`` costs: the sum over the nodes on each byte's path."""
    chosen = logits.float().flatten(0, -2).gather(1, _NODES[targets.flatten()])
    losses = functional.binary_cross_entropy_with_logits(
        chosen, _BITS[targets.flatten()], reduction="sum"
    )
    return losses / (targets.numel() * 0.6931472)


def train(network: Network, text: bytes, out: Path, steps: int, rate: float) -> None:
    """Train on ``text``, cut into rows that are read in step, again and again; write OUT."""
    size = len(text) // _ROWS
    rows = torch.from_numpy(np.frombuffer(text, np.uint8, size * _ROWS).copy()).view(_ROWS, size)
    weights = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, rate, betas=(0.9, 0.98), weight_decay=0.01)
    progress = Progress(*Progress.get_default_columns(), TextColumn("{task.fields[loss]}"))
    task = progress.add_task("training", total=steps, loss="")
    state, at, recent = None, 0, 0.0
    with progress:
        for step in range(steps):
            if at + _LENGTH >= size:
                state, at = None, 0
            piece = rows[:, at : at + _LENGTH + 1].long()
            at += _LENGTH
            factor = min(1.0, (step + 1) / _WARMUP, _LAST_RATE + 1 - step / steps)
            optimiser.param_groups[0]["lr"] = rate * factor
            with torch.autocast("cpu", torch.bfloat16):
                logits, state = network(piece[:, :-1], state)
            loss = bits_per_byte(logits, piece[:, 1:])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, _CLIP)
            optimiser.step()
            recent += 0.01 * (loss.item() - recent) if step else loss.item()
            progress.update(task, completed=step + 1, loss=f"{recent:.3f} bits per byte")
            if (step + 1) % _SAVE_STEPS == 0 or step + 1 == steps:
                progress.console.print(f"step {step + 1}: {recent:.4f} bits per byte")
                torch.save(network.state_dict(), out)


@click.command()
@click.argument("primer", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--init", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Go on from the weights of this checkpoint.")  # fmt: skip
@click.option("--units", default=256, show_default=True)
@click.option("--steps", default=30_000, show_default=True)
@click.option("--rate", default=3e-3, show_default=True, help="Learning rate at its peak.")
@click.option("--threads", default=0, help="0: all cores.")
@click.option("--seed", default=1, show_default=True)
def recurrent_command(
    primer: Path,
    out: Path,
    init: Path | None,
    units: int,
    steps: int,
    rate: float,
    threads: int,
    seed: int,
) -> None:
    """Train the recurrent network on PRIMER (primer.txt.bz2); write the checkpoint OUT."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    network = Network(units)
    if init:
        network.load_state_dict(torch.load(init, weights_only=True))
    train(network, bz2.decompress(primer.read_bytes()), out, steps, rate)


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
def recurrent_export_command(checkpoint: Path, out: Path) -> None:
    """Write the weights of CHECKPOINT as nczip reads them to OUT (recurrent.npz.zst)."""
    saved = torch.load(checkpoint, weights_only=True)
    embedding, bias = saved["embedding.weight"], saved["unit.bias_ih_l0"]
    inputs = embedding @ saved["unit.weight_ih_l0"].T + bias
    # Before the first byte comes a line end; text has no NUL.
    inputs[0] = inputs[ord("\n")]
    matrix, nodes, biases = (
        saved[name].numpy() for name in ("unit.weight_hh_l0", "head.weight", "head.bias")
    )
    packed = pack_weights(inputs.numpy(), matrix, nodes, biases)
    out.write_bytes(zstandard.compress(packed, 22))
