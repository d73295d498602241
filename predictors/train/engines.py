"""The exact engine against llama.cpp, and against itself.

Tokens per second of both engines in one run, one after the other and again; multiply-adds per
second against what the integer units could do; and, on files, the bits per byte of both, lane by
lane, alone.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from nczip.predictors.transformer.engine import Engine

_REPEATS = 3


def _rate(step: Callable[[], Any], tokens: int, seconds: float) -> float:
    """Tokens per second, the best of some rounds of ``seconds``."""
    step()
    best = 0.0
    for _ in range(_REPEATS):
        start = time.perf_counter()
        steps = 0
        while time.perf_counter() - start < seconds:
            step()
            steps += 1
        best = max(best, steps * tokens / (time.perf_counter() - start))
    return best


def step_rate(engine: Engine, lanes: int, threads: int, window: int, seconds: float) -> float:
    """Tokens per second of one token for each lane at a time, the window being full."""
    session = engine.open_session(lanes, window, threads)
    numbers = list(range(lanes))
    for position in range(window):
        session.evaluate(numbers, [[(7 * position + 13 * lane) % 999 + 1] for lane in numbers])
    rate = _rate(lambda: session.evaluate(numbers, [[17]] * lanes), lanes, seconds)
    session.close()
    return rate


def ahead_rate(engine: Any, lanes: int, threads: int, window: int, seconds: float) -> float:
    """Tokens per second where all tokens are known, as the encoder evaluates them."""
    session = engine.open_session(lanes, window, threads)
    numbers, count = list(range(lanes)), max(1, session.ahead_tokens // lanes)
    tokens = [[17] * count] * lanes
    for _ in range(window // count):
        session.evaluate_all(numbers, tokens)
    rate = _rate(lambda: session.evaluate_all(numbers, tokens), lanes * count, seconds)
    session.close()
    return rate


def nats_per_token(engine: Engine, text: bytes, lanes: int, window: int) -> tuple[float, int]:
    """Mean cost of the engine's own tokens of a text in lanes, and their number."""
    tokens = engine.tokenise(text)
    rows = [tokens[len(tokens) * i // lanes : len(tokens) * (i + 1) // lanes] for i in range(lanes)]
    session = engine.open_session(lanes, window, 2)
    fed = [engine.start_token] * lanes
    total = 0.0
    for position in range(max(map(len, rows))):
        active = [lane for lane in range(lanes) if position < len(rows[lane])]
        logits = session.evaluate(active, [[fed[lane]] for lane in active]).astype(np.float64)
        top = logits.max(axis=1)
        norm = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        for row, lane in enumerate(active):
            fed[lane] = rows[lane][position]
            total += float(norm[row] - logits[row, fed[lane]])
    session.close()
    return total / len(tokens), len(tokens)


def integer_peak(seconds: float = 0.5) -> float:
    """Multiply-adds per second of one core on 8-bit panels that stay in the first-level cache."""
    from nczip.predictors.transformer.graph import Panels, Results, Vectors, multiply_panels

    columns, count, blocks, stride = 256, 4, 4, 16 * 256
    values = np.ones((count, columns // 4, 16, 4), np.uint8)
    panels = Panels(values, 0, stride, stride, blocks, count, np.ones(64, np.float32), 0)
    scales, offsets = np.ones((8, blocks), np.float32), np.zeros((8, blocks), np.int32)
    vectors = Vectors(np.ones((8, columns), np.int8), scales, offsets, 8)
    out = Results(np.zeros((8, 64), np.float32), 0, 64)
    rounds = 200

    def step() -> None:
        for _ in range(rounds):
            multiply_panels(panels, vectors, out)

    return _rate(step, rounds * count * 16 * columns * 8, seconds)


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--reference", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A finer GGUF of the model, to compare the bits with.")  # fmt: skip
@click.option("--window", default=512, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Of each measurement.")
@click.option("--megabytes", default=1.0, show_default=True, help="Of each file, at most.")
def engines_command(
    model: Path, files: Sequence[Path], reference: Path | None, window: int, seconds: float,
    megabytes: float,
) -> None:  # fmt: skip
    """Compare the engines on MODEL (a GGUF), and their bits on FILES."""
    from nczip.predictors.transformer.exact import ExactEngine
    from nczip.predictors.transformer.llama import LlamaEngine

    exact, llama = ExactEngine(model), LlamaEngine(model)
    engines: tuple[Engine, Engine] = (exact, llama)
    work = exact.multiplications(window)
    peak = integer_peak()
    click.echo(
        f"{work / 1e6:.1f} M multiply-adds a token; one core {peak / 1e9:.0f} G a second at most"
    )
    for lanes, threads in ((1, 1), (8, 1), (8, 2)):
        rates: list[list[float]] = [[], []]
        for _ in range(2):
            for rate, engine in zip(rates, engines, strict=True):
                rate.append(step_rate(engine, lanes, threads, window, seconds))
        ours, theirs = map(max, rates)
        ahead = ahead_rate(exact, lanes, threads, window, seconds)
        click.echo(
            f"{lanes} lanes, {threads} threads: exact {ours:,.0f} tokens/s "
            f"({ours * work / 1e9:.0f} GMAC/s), ahead {ahead:,.0f} ({ahead * work / 1e9:.0f}); "
            f"llama {theirs:,.0f}: {ours / theirs:.2f} times, ahead {ahead / theirs:.2f}"
        )
    compared: tuple[Engine, Engine] = (exact, LlamaEngine(reference or model))
    for path in files:
        text = path.read_bytes()[: int(megabytes * 1e6)]
        (ours, count), (theirs, _) = (nats_per_token(e, text, 8, window) for e in compared)
        bits = [nats * count / math.log(2) / len(text) for nats in (ours, theirs)]
        click.echo(
            f"{path.name}: exact {bits[0]:.4f} bits per byte, {(reference or model).stem} under "
            f"llama.cpp {bits[1]:.4f}: {100 * (bits[0] / bits[1] - 1):+.2f} %"
        )
