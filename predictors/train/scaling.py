"""Which shape learns most from the same text at about the same cost a byte: small runs, a table."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch

from nczip.predictors.train.encode import encode
from nczip.predictors.train.evaluate import bits_per_byte, read_text
from nczip.predictors.train.loop import Schedule, train
from nczip.predictors.train.model import Shape, Transformer
from nczip.predictors.train.tokeniser import load_tokeniser, sample, train_tokeniser

_SEED = 1
_BATCH = 8192
_WARMUP = 50
_DECAY = 0.6  # of the steps
_RATES = (0.02, 0.003)
_MIXTURE = "books=16,articles=4,docs=4,installed=3,wiki=2"
_VOCABULARY_BYTES = 20_000_000  # to count pairs in
_VALID_BYTES = 300_000
_PATIENCE = 300.0  # seconds between checkpoints
_RESULTS = "scaling.jsonl"


@dataclass(frozen=True)
class Candidate:
    """A model to be trained, and how fast."""

    name: str
    shape: Shape
    rates: tuple[float, float] = _RATES


#: The first is what the others are measured against; all cost 2 to 3 M multiply-adds a byte.
CANDIDATES = (
    Candidate("as shipped", Shape()),
    Candidate("half the rates", Shape(), (0.01, 0.0015)),
    Candidate("deeper", Shape(width=192, layers=10, heads=3, key_heads=1, hidden=640)),
    Candidate("wider", Shape(width=384, layers=3, heads=6, key_heads=2, hidden=704)),
    Candidate("one key head", Shape(key_heads=1, hidden=744)),
    Candidate("window 1024", Shape(window=1024, hidden=384)),
    Candidate("vocabulary 4096", Shape(vocabulary=4096, hidden=800)),
    Candidate("vocabulary 16384", Shape(vocabulary=16384, hidden=416)),
)


def prepare(
    text: Path, out: Path, vocabulary: int, keep_out: Path | None, installed: Path, mixture: str
) -> tuple[Path, Path]:
    """The tokeniser of a vocabulary and the data in its tokens, made once."""
    folder = out / f"vocabulary-{vocabulary}"
    tokeniser, done = folder / "bpe.json", folder / "data.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not tokeniser.is_file():
        train_tokeniser(sample(text, _VOCABULARY_BYTES), vocabulary).save(str(tokeniser))
    if not done.is_file():
        encode(text, folder, tokeniser, keep_out, installed, mixture)
    return folder, tokeniser


def measure(
    candidate: Candidate, data: Path, tokeniser_path: Path, valid: bytes, out: Path, compiled: bool
) -> dict[str, Any]:
    """Train a candidate on all of the data, once, and measure it; a line of the table.

    The processor time is that of this process: without what an interrupted one spent before.
    """
    counts = json.loads((data / "data.json").read_text())
    seen = [count for name, count in counts.items() if not name.startswith("valid-")]
    tokens, size = (sum(count[key] for count in seen) for key in ("tokens", "bytes"))
    model = Transformer(candidate.shape)
    model.initialise(_SEED)
    out.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    schedule = Schedule(max(tokens // _BATCH, 1), _BATCH, candidate.rates, _WARMUP, _DECAY)
    train(model, data, out, schedule, save_seconds=_PATIENCE, compiled=compiled)
    spent = time.process_time() - began
    bits, _ = bits_per_byte(model, load_tokeniser(tokeniser_path), valid)
    return {
        "name": candidate.name,
        "shape": asdict(candidate.shape),
        "rates": candidate.rates,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "multiplications": candidate.shape.multiplications() * tokens / size,
        "tokens": tokens,
        "megabytes": size / 1e6,
        "bits": bits,
        "seconds": spent,
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """The lines in Markdown."""
    lines = [
        "| model | parameters | multiply-adds a byte | MB read | bits a byte | processor minutes |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    lines += [
        f"| {r['name']} | {r['parameters'] / 1e6:.1f} M | {r['multiplications'] / 1e6:.2f} M | "
        f"{r['megabytes']:.1f} | {r['bits']:.4f} | {r['seconds'] / 60:.0f} |"
        for r in results
    ]
    return "\n".join(lines)


_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("text", type=_FOLDER)
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--keep-out", type=_FOLDER, help="Nothing that shares eight words with its files.")
@click.option("--installed", type=_FOLDER, default="/usr", show_default=True)
@click.option("--mixture", default=_MIXTURE, show_default=True,
              help="MB of each kind of text (see encode) that each model reads, once.")  # fmt: skip
@click.option("--only", multiple=True, type=click.Choice([c.name for c in CANDIDATES]))
@click.option("--threads", default=1, show_default=True)
@click.option("--compile/--no-compile", "compiled", default=True, show_default=True)
def scaling_command(
    text: Path, out: Path, keep_out: Path | None, installed: Path, mixture: str,
    only: tuple[str, ...], threads: int, compiled: bool,
) -> None:  # fmt: skip
    """Train small models of several shapes on the same text; print a table.

    Those that OUT has results of are not trained again; one that was interrupted goes on.
    """
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    path = out / _RESULTS
    lines = path.read_text().splitlines() if path.is_file() else []
    results = {result["name"]: result for result in map(json.loads, lines)}
    valid = read_text(text / "valid-books.txt.zst")[:_VALID_BYTES]
    for candidate in CANDIDATES:
        if candidate.name in results or (only and candidate.name not in only):
            continue
        size = candidate.shape.vocabulary
        data, tokeniser = prepare(text, out, size, keep_out, installed, mixture)
        folder = out / candidate.name.replace(" ", "-")
        result = measure(candidate, data, tokeniser, valid, folder, compiled)
        results[candidate.name] = result
        with path.open("a") as file:
            file.write(json.dumps(result) + "\n")
    click.echo(table(list(results.values())))
