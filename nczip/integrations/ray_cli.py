"""``nczip ray``: files and folders, compressed and back on a Ray cluster."""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from nczip.cli import Size
from nczip.presets import ENGINES, PRESETS

if TYPE_CHECKING:
    from nczip.integrations.ray import Summary


@click.group("ray")
def ray() -> None:
    """Compress many files, or a huge one, on a Ray cluster.

    SOURCE is a file, a folder or a pattern, as a path or as a URL that fsspec knows (s3://,
    gs://, https://). TARGET is a file where SOURCE is one, else a folder. The bytes are those that
    'nczip c' makes on one machine. The same command again goes on with what was interrupted.
    """


def _cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--address", help="Of the cluster; default: RAY_ADDRESS, else one that runs "
                                       "here, else this machine alone."),
        click.option("--workers", type=click.IntRange(1), help="Actors; default: one for a CPU."),
        click.option("--cpus", type=click.FloatRange(0, min_open=True), default=1.0,
                     show_default=True, help="CPUs of each worker."),
        click.option("--gpus", type=click.FloatRange(0),
                     help="GPUs of each worker; default: 1 with --engine llama, where they are."),
        click.option("--model", help="Path or name of a GGUF model, as the workers know it."),
        click.option("--memory", "memory_limit", type=Size(),
                     help="Memory that decoding may need, as in 1G."),
        click.option("--json", "as_json", is_flag=True, help="Say in JSON what was done."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        click.option("-v", "--verbose", is_flag=True, help="Report every file."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


_SOURCE = click.argument("source")
_TARGET = click.argument("target")
_FORCE = click.option("-f", "--force", is_flag=True, help="Replace what is there.")


@ray.command("c")
@_SOURCE
@_TARGET
@_FORCE
@click.option("--preset", type=click.Choice(list(PRESETS)), default="default", show_default=True)
@click.option("--engine", type=click.Choice(ENGINES), help="What evaluates the transformer.")
@click.option("--lanes", type=click.IntRange(1, 256), help="Pieces of a block side by side.")
@click.option("--primer/--no-primer", default=True, help="Start text from what the primer knows.")
@click.option("--block-size", type=Size(), help="Raw bytes of a block, as in 4M.")
@_cluster_options
def compress_command(source: str, target: str, **options: Any) -> None:
    """Compress SOURCE to TARGET, or each of its files to TARGET/FILE.ncz."""
    force = options.pop("force")
    _run(options, lambda **common: _api().compress(source, target, replace=force, **common))


@ray.command("d")
@_SOURCE
@_TARGET
@_FORCE
@_cluster_options
def decompress_command(source: str, target: str, force: bool, **options: Any) -> None:
    """Decompress SOURCE to TARGET, or each of its .ncz files to TARGET/FILE."""
    _run(options, lambda **common: _api().decompress(source, target, replace=force, **common))


@ray.command("t")
@_SOURCE
@_cluster_options
def test_command(source: str, **options: Any) -> None:
    """Verify SOURCE, or each of its .ncz files: decompress, and compare every check."""
    _run(options, lambda **common: _api().test(source, **common))


def _api() -> Any:
    """nczip.integrations.ray.

    Raises:
        NczipError: the extra is not installed.
    """
    from nczip.errors import NczipError

    try:
        return importlib.import_module("nczip.integrations.ray")
    except ImportError as error:
        raise NczipError(f"this needs the extra: pip install 'nczip[ray]' ({error})") from error


@dataclass(frozen=True)
class _Verbosity:
    quiet: bool
    verbose: bool


def _run(options: dict[str, Any], action: Callable[..., "Summary"]) -> None:
    """Do a job with a bar; exits with 1 where a file failed, 2 where one was skipped."""
    from nczip.interrupts import Signalled, die_by, raising_signals
    from nczip.progress import Progress
    from nczip.terminal import say

    api = _api()
    as_json = options.pop("as_json")
    verbosity = _Verbosity(options.pop("quiet"), options.pop("verbose"))
    names = ("address", "workers", "cpus", "gpus")
    resources = api.Resources(**{name: options.pop(name) for name in names})
    latest = api.Counts()

    def report(counts: Any) -> None:
        nonlocal latest
        latest = counts
        progress.raw, progress.compressed = counts.read, counts.written

    progress = Progress("nczip ray", None, lambda: latest.read, verbosity)
    try:
        with raising_signals(), progress:
            summary = action(resources=resources, report=report, **options)
    except Signalled as signalled:
        say("interrupted: the same command goes on")
        die_by(signalled.number)
    except ValueError as error:  # options that the workers refuse
        raise click.UsageError(str(error)) from error
    _tell(summary, verbosity)
    if as_json:
        click.echo(json.dumps(asdict(summary), indent=1))
    sys.exit(1 if summary.failed else 2 if summary.skipped else 0)


def _tell(summary: "Summary", verbosity: _Verbosity) -> None:
    from nczip.terminal import say

    for result in summary.files:
        if result.error is not None:
            prefix = "" if result.error.startswith(result.source) else f"{result.source}: "
            say(prefix + result.error)
        elif verbosity.verbose:
            say(f"{result.source}: {result.read} -> {result.written} bytes, {result.blocks} blocks")
    if verbosity.quiet:
        return
    for target in summary.skipped:
        say(f"{target} exists: -f replaces it")
    done = len(summary.files) - len(summary.failed)
    counted = [f"{done} files", f"{len(summary.failed)} failed" if summary.failed else ""]
    counted += [
        f"{count} {what}"
        for count, what in (
            (summary.finished_before, "done before"),
            (summary.passed_over, "of other kinds"),
            (len(summary.skipped), "skipped"),
        )
        if count
    ]
    speed = summary.read / max(summary.seconds, 1e-6) / 1000
    say(
        f"{', '.join(filter(None, counted))}: {summary.read} -> {summary.written} bytes, "
        f"{summary.blocks} blocks ({summary.kept_blocks} of an earlier run), {summary.workers} "
        f"workers, {summary.seconds:.1f} s, {speed:.0f} kB/s"
    )
