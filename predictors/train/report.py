"""What a training was and what came of it: a page in Markdown and the loss curve."""

import json
import platform
from pathlib import Path
from typing import Any

import click
import numpy as np

from nczip.predictors.train.evaluate import bits_per_byte, read_text
from nczip.predictors.train.export import differences
from nczip.predictors.train.model import Transformer, load_weights
from nczip.predictors.train.runfolder import Finish, read_log
from nczip.predictors.train.tokeniser import load_tokeniser


def training_flops(model: Transformer, tokens: int) -> float:
    """Floating-point operations: two for each multiply-add, backward twice the work of forward."""
    return 6.0 * model.shape.multiplications() * tokens


def draw(log: list[dict[str, Any]], path: Path) -> None:
    """The loss of the batches and of the validation texts over the tokens seen, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    tokens = [entry["tokens"] / 1e6 for entry in log]
    axes.plot(tokens, [entry["loss"] for entry in log], lw=0.8, color="0.6", label="training")
    checked = [entry for entry in log if "valid" in entry]
    for name in checked[-1]["valid"] if checked else ():
        points = [(entry["tokens"] / 1e6, entry["valid"][name]) for entry in checked]
        axes.plot(*np.array(points).T, marker=".", label=f"validation: {name}")
    axes.set(xlabel="million tokens", ylabel="nats per token")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def processor() -> str:
    """The processor's name, as well as this system tells."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _decay(run: Path, settings: dict[str, Any]) -> str:
    """How the rate fell: as planned, or when somebody asked."""
    if "decay" in settings:
        return f"decay over {settings['decay']:.0%}"
    finish = Finish.read(run)
    return f"decay over {finish.steps} steps" if finish else "no decay yet"


def page(run: Path, data: Path, gguf: Path, files: tuple[Path, ...], picture: str) -> str:
    """The report, Markdown."""
    settings = json.loads((run / "run.json").read_text())
    counts = json.loads((data / "data.json").read_text())
    log = read_log(run)
    model = load_weights(run / "checkpoint.pt")
    shape = model.shape
    tokeniser = load_tokeniser(gguf)
    parameters = sum(weight.numel() for weight in model.parameters())
    seen = log[-1]["tokens"]
    bytes_per_token = sum(c["bytes"] for c in counts.values()) / sum(
        c["tokens"] for c in counts.values()
    )
    lines = [
        f"# {gguf.stem}",
        "",
        f"A llama of {parameters / 1e6:.1f} M parameters: width {shape.width}, {shape.layers} "
        f"layers, {shape.heads} heads, {shape.key_heads} key-value heads, hidden {shape.hidden}, "
        f"{shape.vocabulary} tokens, window {shape.window}. {gguf.stat().st_size:,} bytes. "
        f"{shape.multiplications() / 1e6:.1f} M multiply-adds a token, "
        f"{shape.multiplications() / bytes_per_token / 1e6:.2f} M a byte.",
        "",
        f"Trained on {seen / 1e6:.1f} M tokens in {log[-1]['seconds'] / 60:.0f} minutes on "
        f"{processor()} ({platform.machine()}): {training_flops(model, seen):.2e} floating-point "
        f"operations. Started from {Path(settings['init'] or 'random weights').name}; "
        f"{log[-1]['step']} steps of {settings['batch_tokens']} tokens, rates {settings['rates']}, "
        f"warm-up {settings['warmup']}, {_decay(run, settings)}.",
        "",
        f"![loss]({picture})",
        "",
        "| data | pieces | MB | M tokens | dropped (shingles shared with what is kept out) |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {c['pieces']:,} | {c['bytes'] / 1e6:.1f} | {c['tokens'] / 1e6:.2f} | "
        f"{c.get('dropped', '')} |"
        for name, c in counts.items()
    ]
    lines += [
        "",
        "| alone, window sliding | bits per byte | nats per token |",
        "| --- | ---: | ---: |",
    ]
    for path in files:
        bits, nats = bits_per_byte(model, tokeniser, read_text(path)[:1_000_000])
        lines.append(f"| {path.name} (first MB) | {bits:.4f} | {nats:.4f} |")
    lines += ["", "Mean difference of a log-probability from torch, nats: " + ", ".join(
        f"{name} {value:.4f}" for name, value in differences(model, gguf).items()
    ) + "."]  # fmt: skip
    return "\n".join(lines) + "\n"


_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("run", type=_FOLDER)
@click.argument("data", type=_FOLDER)
@click.argument("gguf", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def report_command(run: Path, data: Path, gguf: Path, files: tuple[Path, ...]) -> None:
    """Write GGUF's .md and .png next to it, with bits per byte of FILES."""
    picture = gguf.with_suffix(".png")
    draw(read_log(run), picture)
    gguf.with_suffix(".md").write_text(page(run, data, gguf, files, picture.name))
    click.echo(gguf.with_suffix(".md"))
