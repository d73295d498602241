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

_PRESET = click.option(
    "--preset", type=click.Choice(list(PRESETS)), default="fast", show_default=True
)
_FILES = click.argument(
    "files", nargs=-1, required=True, metavar="FILE|CORPUS|CORPUS/FILE[:BYTES]..."
)
_CHART = click.option(
    "--chart", "chart_prefix", type=click.Path(path_type=Path), help="Write PREFIX.png, PREFIX.svg."
)
_QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")


class _Bench(click.Group):
    """Commands, of which ``compare`` is meant where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args.insert(0, "compare")
        return super().parse_args(ctx, args)


@click.group(cls=_Bench)
def bench() -> None:
    """Measure nczip and its peers; without a command: compare.

    FILE is a path or, as in `nczip corpora`, a corpus or a file of one; FILE:BYTES is its head.
    """


@bench.command("list")
def list_command() -> None:
    """The compressors, and what is missing for those that are not here."""
    for compressor in COMPRESSORS:
        missing = compressor.missing
        state = "" if missing is None else f"  (not here: {missing})"
        click.echo(f"{compressor.name}{state}")


@bench.command("compare")
@_FILES
@click.option("-c", "--compressor", "names", multiple=True, help="Only this one; repeatable.")
@click.option("-n", "--repeat", type=click.IntRange(1), default=1, show_default=True,
              help="Repetitions, in alternating order; medians count.")  # fmt: skip
@click.option("--timeout", type=float, default=DEFAULT_TIMEOUT, show_default=True,
              help="Seconds for one direction of one file.")  # fmt: skip
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write JSON.")
@click.option("--markdown", "markdown_path", type=click.Path(dir_okay=False), help="Write tables.")
@_CHART
@_QUIET
def compare_command(
    files: tuple[str, ...],
    names: tuple[str, ...],
    repeat: int,
    timeout: float,
    json_path: str | None,
    markdown_path: str | None,
    chart_prefix: Path | None,
    quiet: bool,
) -> None:
    """Compressors side by side: size, speed and memory, round trips verified.

    Without -c everything runs that is found here.
    """
    with _inputs(files) as inputs:
        report = _report(quiet)
        _measure(inputs, names, repeat, timeout, json_path, markdown_path, chart_prefix, report)


@bench.command("sizes")
@click.argument("name", metavar="SET", required=False)
@click.option("--against", "reference", metavar="REF",
              help="A row to compare with: last, a number, or how its commit begins.")  # fmt: skip
@_PRESET
@click.option("--primer/--no-primer", default=True, help="Start text from what the primer knows.")
@click.option("--model", help="Another GGUF than the preset's.")
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, show_default=True,
              help="Files encoded at once.")  # fmt: skip
@click.option("--note", default="", help="What was tried, for the row.")
@click.option("--log", "log_path", type=click.Path(dir_okay=False, path_type=Path),
              help="Where rows are kept, instead of bench/experiments.jsonl.")  # fmt: skip
def sizes_command(
    name: str | None,
    reference: str | None,
    preset: PresetName,
    primer: bool,
    model: str | None,
    jobs: int,
    note: str,
    log_path: Path | None,
) -> None:
    """Encode the heads of a SET and note their sizes; without SET: the sets there are.

    Appends one row to bench/experiments.jsonl.
    """
    from nczip.bench import sizes

    if name is None:
        for known, entry in sizes.read_sets().items():
            click.echo(f"{known}: {entry['what']}")
        return
    options = ({} if primer else {"primer": False}) | ({} if model is None else {"model": model})
    path = log_path or sizes.default_log()
    earlier = sizes.read_log(path)
    other = None
    if reference is not None:
        other = sizes.find_row(reference, earlier, (name, preset, options))
    heads = sizes.load_set(name)
    row = sizes.run(name, heads, preset, options, jobs, note)
    click.echo(sizes.to_markdown(row, {head.path: head.kind for head in heads}, other))
    number = sizes.append(row, path)
    click.echo(f"row {number} of {path.name}: {row.seconds:.1f} s of process time", err=True)


@bench.command("ablate")
@_FILES
@_PRESET
def ablate_command(files: tuple[str, ...], preset: PresetName) -> None:
    """What each predictor contributes: sizes without it."""
    with _inputs(files) as inputs:
        _print_ablation(inputs, preset)


@bench.command("curve")
@_FILES
@_PRESET
@_CHART
def curve_command(files: tuple[str, ...], preset: PresetName, chart_prefix: Path | None) -> None:
    """Bits per byte along each file."""
    with _inputs(files) as inputs:
        _print_curves(inputs, preset, chart_prefix)


@bench.command("models")
@_FILES
@click.option("--model", "models", multiple=True, required=True, help="A GGUF; repeatable.")
@_QUIET
def models_command(files: tuple[str, ...], models: tuple[str, ...], quiet: bool) -> None:
    """Language models, each alone and in the ensemble."""
    with _inputs(files) as inputs:
        _print_models(inputs, models, _report(quiet))


def _report(quiet: bool) -> Callable[[str], None]:
    """What progress goes to."""

    def report(message: str) -> None:
        if not quiet:
            click.echo(message, err=True)

    return report


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
