"""``nczip bench``: bits per byte of nczip and its peers, side by side."""

import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from nczip.bench.analyse import Row
from nczip.bench.compressors import COMPRESSORS, DEFAULT_TIMEOUT
from nczip.presets import PRESETS, PresetName

Inputs = list[tuple[str, Path]]  # label and path of each file

_PRESETS = click.Choice(list(PRESETS))


@click.command()
@click.argument("files", nargs=-1, metavar="FILE|CORPUS|CORPUS/FILE[:BYTES]...")
@click.option("-c", "--compressor", "names", multiple=True, help="Only this one; repeatable.")
@click.option("--list", "list_only", is_flag=True, help="List the compressors, then stop.")
@click.option("-n", "--repeat", type=click.IntRange(1), default=1, show_default=True,
              help="Repetitions, in alternating order; medians count.")  # fmt: skip
@click.option("--timeout", type=float, default=DEFAULT_TIMEOUT, show_default=True,
              help="Seconds for one direction of one file.")  # fmt: skip
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write JSON.")
@click.option("--markdown", "markdown_path", type=click.Path(dir_okay=False), help="Write tables.")
@click.option("--chart", "chart_prefix", type=click.Path(path_type=Path),
              help="Write PREFIX.png and PREFIX.svg: speed against bits per byte.")  # fmt: skip
@click.option("--preset", type=_PRESETS, default="fast", show_default=True,
              help="For --ablate and --curve.")  # fmt: skip
@click.option("--ablate", is_flag=True, help="What each predictor contributes.")
@click.option("--curve", is_flag=True, help="Bits per byte along each file.")
@click.option("--model", "models", multiple=True, help="Compare GGUF models, alone and mixed.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def bench(
    files: tuple[str, ...],
    names: tuple[str, ...],
    list_only: bool,
    repeat: int,
    timeout: float,
    json_path: str | None,
    markdown_path: str | None,
    chart_prefix: Path | None,
    preset: PresetName,
    ablate: bool,
    curve: bool,
    models: tuple[str, ...],
    quiet: bool,
) -> None:
    """Measure compressors on files: size, speed and memory, round trips verified.

    FILE is a path or, as in `nczip corpora`, a corpus or a file of one; FILE:BYTES is its head.
    Without -c everything runs that is found here.
    """
    if list_only:
        _list_compressors()
        return
    if not files:
        raise click.UsageError("name a file or a corpus, as in: nczip bench canterbury")

    def report(message: str) -> None:
        if not quiet:
            click.echo(message, err=True)

    with _inputs(files) as inputs:
        if ablate:
            _print_ablation(inputs, preset)
        elif curve:
            _print_curves(inputs, preset, chart_prefix)
        elif models:
            _print_models(inputs, models, report)
        else:
            _measure(inputs, names, repeat, timeout, json_path, markdown_path, chart_prefix, report)


def _list_compressors() -> None:
    for compressor in COMPRESSORS:
        state = "" if compressor.is_available else f"  (not here: {compressor.needs})"
        click.echo(f"{compressor.name}{state}")


@contextmanager
def _inputs(names: Sequence[str]) -> Iterator[Inputs]:
    """(label, path) of every file meant; heads of files lie in a folder for the while."""
    with tempfile.TemporaryDirectory(prefix="nczip-bench-") as folder:
        yield [entry for name in names for entry in _resolve(name, Path(folder))]


def _resolve(name: str, folder: Path) -> list[tuple[str, Path]]:
    from nczip.corpora import find, select
    from nczip.corpora.store import CorpusError, read

    base, _, size = name.rpartition(":")
    limit = int(size) if base and size.isdigit() else None
    base = base if limit is not None else name
    found: list[tuple[str, Path]] = []
    if Path(base).is_file():
        found = [(Path(base).name, Path(base))]
    else:
        try:
            chosen = select([base])
        except CorpusError as error:
            raise CorpusError(f"'{base}' is neither a file nor known: {error}") from error
        for file in chosen:
            path = find(file)
            if path is None and file.head_of:
                path = folder / file.name
                path.write_bytes(read(file))
            if path is None:
                raise CorpusError(f"{file.path} is not here: nczip corpora fetch {file.path}")
            found.append((file.path, path))
    if limit is None:
        return found
    return [_head(label, path, limit, folder) for label, path in found]


def _head(label: str, path: Path, limit: int, folder: Path) -> tuple[str, Path]:
    target = folder / f"{label.replace('/', '-')}-{limit}"
    with path.open("rb") as file:
        target.write_bytes(file.read(limit))
    return f"{label}:{limit}", target


def _measure(
    inputs: Inputs,
    names: tuple[str, ...],
    repeat: int,
    timeout: float,
    json_path: str | None,
    markdown_path: str | None,
    chart_prefix: Path | None,
    report: Callable[[str], None],
) -> None:
    from nczip.bench.chart import draw_speeds
    from nczip.bench.compressors import choose
    from nczip.bench.measure import describe_machine, measure_all
    from nczip.bench.report import print_table, sizes_markdown, to_json, to_markdown

    try:
        compressors = choose(names)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    results = measure_all(compressors, inputs, repeat, timeout, report)
    print_table(results)
    command = shlex.join(["nczip", *sys.argv[1:]])
    machine = describe_machine()
    if json_path:
        Path(json_path).write_text(to_json(results, machine, command) + "\n")
    if markdown_path:
        described = ", ".join(f"{key} {value}" for key, value in machine.items())
        head = f"    {command}\n\n{described}\n\n{sizes_markdown(results)}\n"
        Path(markdown_path).write_text(head + to_markdown(results))
    if chart_prefix:
        for path in draw_speeds(results, chart_prefix):
            report(f"wrote {path}")
    if any(result.error for result in results):
        sys.exit(1)


def _load(inputs: Inputs) -> list[tuple[str, bytes]]:
    return [(label, path.read_bytes()) for label, path in inputs]


def _print_ablation(inputs: Inputs, preset: PresetName) -> None:
    from nczip.bench.analyse import ablate

    files = _load(inputs)
    click.echo("| without | " + " | ".join(label for label, _ in files) + " |")
    click.echo("| --- |" + " --: |" * len(files))
    whole: Row | None = None
    for row in ablate(files, preset):
        whole = whole or row
        cells = [f"{s:,} ({s / w - 1:+.1%})" for s, w in zip(row.sizes, whole.sizes, strict=True)]
        click.echo(f"| {row.name} | " + " | ".join(cells) + " |")


def _print_curves(inputs: Inputs, preset: PresetName, chart_prefix: Path | None) -> None:
    from nczip.bench.analyse import curve
    from nczip.bench.chart import draw_curves

    curves = {}
    for label, data in _load(inputs):
        curves[label] = curve(data, preset)
        click.echo(f"{label} ({preset})")
        for end, bpb in curves[label]:
            click.echo(f"{end:>12,}  {bpb:.3f}")
    if chart_prefix:
        draw_curves(curves, chart_prefix)


def _print_models(inputs: Inputs, models: tuple[str, ...], report: Callable[[str], None]) -> None:
    from nczip.bench.analyse import compare_models

    files = _load(inputs)
    click.echo("| model | " + " | ".join(label for label, _ in files) + " | all |")
    click.echo("| --- |" + " --: |" * (len(files) + 1))
    raw = [len(data) for _, data in files]
    for model, *rows in compare_models(files, models, report):
        for row in rows:
            bits = [8 * size / max(n, 1) for size, n in zip(row.sizes, raw, strict=True)]
            bits.append(8 * sum(row.sizes) / max(sum(raw), 1))
            cells = " | ".join(f"{value:.3f}" for value in bits)
            click.echo(f"| {Path(model).stem}, {row.name} | {cells} |")
