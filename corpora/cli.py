"""``nczip corpora``: list, fetch, find and verify the files that compressors are measured on."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from nczip.corpora.fetch import fetch
from nczip.corpora.manifest import CorpusFile
from nczip.corpora.store import CorpusError, find, is_intact, select

_FOLDER = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Look here first, and fetch to here instead of the cache.",
)
_NAMES = click.argument("names", nargs=-1, metavar="[CORPUS|CORPUS/FILE]...")


@click.group()
def corpora() -> None:
    """The standard corpora of lossless compression."""


@corpora.command("list")
@_NAMES
@_FOLDER
def list_command(names: tuple[str, ...], folder: Path | None) -> None:
    """What there is: size, source, licence, and whether it is here."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from nczip.corpora.manifest import load_manifest

    table = Table(box=box.SIMPLE)
    table.add_column("file")
    table.add_column("bytes", justify="right")
    table.add_column("here")
    table.add_column("licence")
    known = load_manifest().corpora
    for file in select(names):
        here = "yes" if find(file, folder) else "-"
        table.add_row(file.path, f"{file.size:,}", here, known[file.corpus].licence)
    console = Console()
    if not console.is_terminal:
        console.width = 120
    console.print(table)


@corpora.command("fetch")
@_NAMES
@_FOLDER
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def fetch_command(names: tuple[str, ...], folder: Path | None, quiet: bool) -> None:
    """Download what is not here yet, and verify it."""
    if not names:
        raise click.UsageError("name a corpus or a file; nczip corpora list shows them")
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    failed = False
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(label: str, done: int, total: int | None) -> None:
            bar.update(task, description=label.strip("."), completed=done, total=total)

        for file in select(names):
            try:
                path = fetch(file, folder=folder, report=report)
            except (CorpusError, OSError) as error:
                click.echo(f"nczip: {file.path}: {error}", err=True)
                failed = True
            else:
                if not quiet:
                    click.echo(path)
    sys.exit(1 if failed else 0)


@corpora.command("path")
@_NAMES
@_FOLDER
def path_command(names: tuple[str, ...], folder: Path | None) -> None:
    """Where files lie, one line each; fails where one is not here."""
    _each(names, folder, lambda file, path: click.echo(path))


@corpora.command("verify")
@_NAMES
@_FOLDER
def verify_command(names: tuple[str, ...], folder: Path | None) -> None:
    """Compare the named files, or all that are here, with the manifest."""

    def check(file: CorpusFile, path: Path) -> None:
        if not is_intact(file, path):
            raise CorpusError(f"{path} is not what the manifest says")
        click.echo(f"{file.path}: OK")

    _each(names, folder, check, skip_missing=not names)


def _each(
    names: tuple[str, ...],
    folder: Path | None,
    action: Callable[[CorpusFile, Path], None],
    skip_missing: bool = False,
) -> None:
    """Call ``action`` on each file that is here; exits with 1 if it or finding one failed."""
    failed = False
    for file in select(names):
        path = find(file, folder)
        try:
            if path is not None:
                action(file, path)
            elif not skip_missing:
                raise CorpusError(f"not here: nczip corpora fetch {file.path}")
        except CorpusError as error:
            click.echo(f"nczip: {file.path}: {error}", err=True)
            failed = True
    sys.exit(1 if failed else 0)
