"""A training that nobody planned the end of: it goes on at a constant rate until told to finish.

Warm-up, constant rate, linear decay (WSD: Hu et al., MiniCPM, 2024): the decay starts wherever the
training is when somebody asks for it, and lasts as many steps as they say.
"""

import json
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from nczip.predictors.train.loop import Trainer, validate
from nczip.predictors.train.model import load_weights, steps_before
from nczip.predictors.train.runfolder import CHECKPOINT, LOG, PLATEAU, Finish, Settings

_ROW_WINDOWS = 2  # in a row of tokens: old context drops out as it does where the model runs
_LOG_STEPS = 20
_VALID_STEPS = 500


def rate_factor(step: int, first: int, warmup: int, finish: Finish | None) -> float:
    """What the rates are multiplied by in a step: from 1 / warmup to 1, 1, and down to 0.

    Args:
        first: the step at which the optimiser knew nothing.
    """
    factor = min((step - first + 1) / warmup, 1.0)
    if finish and finish.start is not None and step >= finish.start:
        factor *= max(1 - (step - finish.start) / finish.steps, 0.0)
    return factor


class _Stopped:
    """Whether somebody has asked the process to end (SIGTERM, SIGINT)."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def run(folder: Path) -> None:
    """Train until the decay has ended, or until the process is told to end; then save and return.

    Raises:
        FloatingPointError: the loss is not a number; the last checkpoint stands.
    """
    stopped = _Stopped()
    settings = Settings.read(folder)
    torch.set_num_threads(settings.threads)
    data = Path(settings.data)
    init, last = Path(settings.init), folder / CHECKPOINT
    trainer = Trainer(
        load_weights(last if last.is_file() else init),
        data,
        settings.rates,
        compiled=settings.compiled,
        bfloat16=settings.bfloat16,
    )
    step, first, seconds = _resume(folder, trainer, init)
    length, batch = _ROW_WINDOWS * trainer.model.shape.window, settings.batch_tokens
    began, saved, recent = time.process_time() - seconds, time.monotonic(), list[float]()

    def save() -> None:
        elapsed = time.process_time() - began
        trainer.save(folder / CHECKPOINT, step=step, first=first, seconds=elapsed)

    with (folder / LOG).open("a") as log:
        while not stopped.asked:
            finish = Finish.read(folder)
            if finish and finish.start is None:
                save()
                shutil.copy(folder / CHECKPOINT, folder / PLATEAU)
                finish = replace(finish, start=step)
                finish.write(folder)
            factor = rate_factor(step, first, settings.warmup, finish)
            if factor == 0:
                break
            recent.append(trainer.step(step * batch, batch, length, factor))
            step += 1
            if step % _LOG_STEPS == 0:
                entry = _entry(recent, step, batch, time.process_time() - began)
                recent.clear()
                if step % _VALID_STEPS == 0:
                    entry["valid"] = validate(trainer.model, data)
                log.write(json.dumps(entry) + "\n")
                log.flush()
            if time.monotonic() - saved > settings.save_seconds:
                save()
                saved = time.monotonic()
        save()


def _resume(folder: Path, trainer: Trainer, init: Path) -> tuple[int, int, float]:
    """Steps done, the step at which the optimiser knew nothing, and processor seconds spent."""
    path = folder / CHECKPOINT
    if path.is_file():
        saved = trainer.restore(path)
        return saved["step"], saved["first"], saved["seconds"]
    step = steps_before(init)
    return step, step, 0.0


def _entry(losses: list[float], step: int, batch: int, seconds: float) -> dict[str, Any]:
    """A line of the log.

    Raises:
        FloatingPointError: the loss is not a number.
    """
    loss = sum(losses) / len(losses)
    if not loss < float("inf"):
        raise FloatingPointError(f"the loss is {loss} at step {step}; start with lower --rates")
    return {
        "step": step,
        "loss": round(loss, 4),
        "tokens": step * batch,
        "seconds": round(seconds),
        "time": round(time.time()),
    }
