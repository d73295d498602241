"""Training: from tokens on disk to weights, in an order and with rates that steps alone decide."""

import json
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.progress import Progress, TextColumn
from torch import Tensor, nn
from torch.nn import functional

from nczip.predictors.train.evaluate import loss_of
from nczip.predictors.train.model import (
    Shape,
    Transformer,
    load_weights,
    rotary_tables,
)
from nczip.predictors.train.optimiser import Optimiser
from nczip.predictors.train.runfolder import CHECKPOINT

_LONG_SHARE = 0.15  # of the steps, at the end, on sequences longer than the window
_LONG_TIMES = 2
_LOG_STEPS = 20
_VALID_TOKENS = 20_000  # of each collection, while training


class Data:
    """A stream of tokens cut into rows; a step's batch depends on the step's number alone."""

    def __init__(self, folder: Path) -> None:
        self._tokens = np.load(folder / "train.npy", mmap_mode="r")

    def batch(self, start: int, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """Rows and what follows each of their tokens, int64[rows, length]; it starts over."""
        size = rows * length
        at = np.arange(start, start + size + 1) % len(self._tokens)
        tokens = torch.from_numpy(self._tokens[at].astype(np.int64))
        return tokens[:-1].view(rows, length), tokens[1:].view(rows, length)


class _Loss(nn.Module):
    """The model and its loss as one graph, so that logits are not written out twice."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self._model = model

    def forward(self, inputs: Tensor, targets: Tensor, *tables: Tensor) -> Tensor:
        logits = self._model(inputs, *tables)
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


class Trainer:
    """A model, its optimiser and its data: a step is a batch, its gradients and an update."""

    def __init__(
        self,
        model: Transformer,
        data: Path,
        rates: tuple[float, float],
        *,
        compiled: bool,
        bfloat16: bool = True,
    ) -> None:
        """``rates`` of Muon and of AdamW; ``bfloat16``: matrix products of the forward pass."""
        self.model = model
        self.optimiser = Optimiser(model, *rates)
        self._stream = Data(data)
        self._bfloat16 = bfloat16
        self._loss: Any = _Loss(model)
        if compiled:
            self._loss = torch.compile(self._loss, dynamic=False)

    def step(self, start: int, tokens: int, length: int, factor: float) -> float:
        """Learn from ``tokens`` tokens of the data from ``start`` on, in rows of ``length``.

        Returns:
            Their loss before, nats per token.
        """
        inputs, targets = self._stream.batch(start, tokens // length, length)
        tables = rotary_tables(self.model.shape, length)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            loss = self._loss(inputs, targets, *tables)
        loss.backward()
        self.optimiser.step(factor)
        return float(loss.item())

    def restore(self, path: Path) -> dict[str, Any]:
        """Take weights and optimiser from a checkpoint; what else it holds is returned."""
        saved: dict[str, Any] = torch.load(path, weights_only=True)
        self.model.load_state_dict(saved.pop("weights"))
        self.optimiser.restore(saved.pop("optimiser"))
        return saved

    def save(self, path: Path, **more: Any) -> None:
        """Write a checkpoint (also read by ``load_weights``), replacing the last one whole."""
        part = path.with_suffix(".part")
        state = {"weights": self.model.state_dict(), "optimiser": self.optimiser.state()}
        torch.save({"shape": asdict(self.model.shape), **state, **more}, part)
        part.replace(path)


@dataclass(frozen=True)
class Schedule:
    """Batches and rates of a training with an end."""

    steps: int
    batch_tokens: int
    rates: tuple[float, float]  #: of Muon and AdamW, at their peak
    warmup: int  #: steps
    decay: float  #: share of the steps, at the end

    def factor(self, step: int) -> float:
        """Linear warm-up, a plateau, and linear decay to zero."""
        left = (self.steps - step) / max(self.decay * self.steps, 1.0)
        return min((step + 1) / self.warmup, 1.0, left)


def train(
    model: Transformer,
    data: Path,
    out: Path,
    schedule: Schedule,
    *,
    save_seconds: float,
    compiled: bool,
) -> None:
    """Train from OUT's checkpoint where there is one; write weights.pt and log.jsonl there.

    The last steps see sequences of twice the window, which slides as it does where the model
    runs, so that old context can drop out.
    """
    steps, batch_tokens = schedule.steps, schedule.batch_tokens
    trainer = Trainer(model, data, schedule.rates, compiled=compiled)
    step, seconds = _resume(out, trainer)
    window = model.shape.window
    long_from = int(steps * (1 - _LONG_SHARE))
    progress = Progress(*Progress.get_default_columns(), TextColumn("{task.fields[loss]}"))
    task = progress.add_task("training", total=steps, completed=step, loss="")
    saved = started = time.monotonic()
    recent: list[float] = []
    with progress, (out / "log.jsonl").open("a") as log:
        while step < steps:
            length = window * (_LONG_TIMES if step >= long_from else 1)
            factor = schedule.factor(step)
            recent.append(trainer.step(step * batch_tokens, batch_tokens, length, factor))
            step += 1
            if step % _LOG_STEPS == 0 or step == steps:
                entry: dict[str, Any] = {
                    "step": step,
                    "loss": round(sum(recent) / len(recent), 4),
                    "tokens": step * batch_tokens,
                    "seconds": round(seconds + time.monotonic() - started),
                }
                progress.update(task, completed=step, loss=f"{entry['loss']:.3f} nats")
                recent.clear()
                if time.monotonic() - saved > save_seconds or step == steps:
                    entry["valid"] = validate(model, data)
                    elapsed = seconds + time.monotonic() - started
                    trainer.save(out / CHECKPOINT, step=step, seconds=elapsed)
                    saved = time.monotonic()
                log.write(json.dumps(entry) + "\n")
                log.flush()


def validate(model: Transformer, data: Path) -> dict[str, float]:
    """Nats per token of the head of each validation collection."""
    return {
        path.stem.removeprefix("valid-"): round(
            loss_of(model, np.load(path, mmap_mode="r")[:_VALID_TOKENS])[0], 4
        )
        for path in sorted(data.glob("valid-*.npy"))
    }


def _resume(out: Path, trainer: Trainer) -> tuple[int, float]:
    """Steps done and seconds spent before."""
    path = out / CHECKPOINT
    if not path.is_file():
        return 0, 0.0
    saved = trainer.restore(path)
    return saved["step"], saved["seconds"]


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--init", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Go on from these weights: a checkpoint, or a GGUF.")  # fmt: skip
@click.option("--vocabulary", default=Shape.vocabulary, show_default=True)
@click.option("--width", default=Shape.width, show_default=True)
@click.option("--layers", default=Shape.layers, show_default=True)
@click.option("--heads", default=Shape.heads, show_default=True)
@click.option("--key-heads", default=Shape.key_heads, show_default=True)
@click.option("--hidden", default=Shape.hidden, show_default=True)
@click.option("--window", default=Shape.window, show_default=True)
@click.option("--steps", default=6000, show_default=True)
@click.option("--batch", "batch_tokens", default=8192, show_default=True, help="Tokens in a step.")
@click.option("--rates", type=(float, float), default=(0.02, 0.003), show_default=True,
              help="Learning rates of Muon and AdamW at their peak.")  # fmt: skip
@click.option("--warmup", default=100, show_default=True, help="Steps.")
@click.option("--decay", default=0.6, show_default=True, help="Share of the steps, at the end.")
@click.option("--save-seconds", default=240.0, show_default=True)
@click.option("--threads", default=0, help="0: all cores.")
@click.option("--seed", default=1, show_default=True)
@click.option("--compile/--no-compile", "compiled", default=True, show_default=True)
def model_command(
    data: Path,
    out: Path,
    init: Path | None,
    save_seconds: float,
    threads: int,
    seed: int,
    compiled: bool,
    **numbers: Any,
) -> None:
    """Train a transformer on DATA (see encode); OUT/checkpoint.pt is gone on from.

    Started again with other --steps, a run goes on under the new schedule.
    """
    if threads:
        torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    if init:
        model = load_weights(init)
    else:
        model = Transformer(Shape(**{field.name: numbers[field.name] for field in fields(Shape)}))
        model.initialise(seed)
    schedule = Schedule(**{field.name: numbers[field.name] for field in fields(Schedule)})
    recorded = {"shape": asdict(model.shape), "init": init and init.name, "seed": seed}
    recorded |= asdict(schedule)
    (out / "run.json").write_text(json.dumps(recorded, indent=1) + "\n")
    train(model, data, out, schedule, save_seconds=save_seconds, compiled=compiled)
