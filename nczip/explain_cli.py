"""``nczip explain``."""

from pathlib import Path
from typing import Any

import click

from nczip.options import CompressKeywords
from nczip.presets import ENGINES, PRESETS, PresetName
from nczip.terminal import printable


@click.command("explain")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--html",
    "output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page that colours the text by its cost.",
)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="default", show_default=True)
@click.option("--model", help="Path or name of a GGUF model.")
@click.option("--engine", type=click.Choice(ENGINES), help="What evaluates the transformer.")
@click.option("--primer/--no-primer", default=True, help="Start from what the primer knows.")
@click.option(
    "--kilobytes",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="How much of the file, from its start: a page has some 40 times the size.",
)
@click.option(
    "-T",
    "--threads",
    type=click.IntRange(0),
    default=0,
    show_default="cores",
    help="Blocks worked on at once.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite the page.")
def explain_command(
    file: Path, output: Path | None, preset: PresetName, kilobytes: int, force: bool, **options: Any
) -> None:
    """Say what a text costs, and show which parts of it: what the model knew, what surprised it."""
    from nczip.evaluation import evaluate
    from nczip.explain import explain
    from nczip.progress import announcer
    from nczip.sinks import PartFile

    if output is not None and output.exists() and not force:
        raise click.ClickException(f"the output {printable(output)} exists: -f overwrites it")
    keywords: CompressKeywords = {**options, "announce": announcer(False)}  # type: ignore[typeddict-item]
    with file.open("rb") as source:
        data = source.read(kilobytes << 10)
    found = evaluate(data, preset, **keywords)
    name = printable(file.name)
    click.echo(f"{name}: {len(data):,} bytes, {found.bits_per_byte:.3f} bits per byte", nl=False)
    click.echo(f", {len(found.token_bits):,} tokens" if len(found.token_bits) else "")
    if output is None:
        return
    page = explain(data, found, name)
    part = PartFile(output)
    try:
        part.write(page.encode())
        part.publish(None, force)
    finally:
        part.discard()
