"""``nczip warm``."""

import warnings
from typing import TYPE_CHECKING

import click

from nczip.errors import CacheWarning, ModelError
from nczip.presets import PRESETS, PresetName
from nczip.terminal import say

if TYPE_CHECKING:
    from nczip.warm import Made


@click.command("warm")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="default", show_default=True)
@click.option("--all", "every", is_flag=True, help="All presets whose models are here.")
def warm_command(preset: PresetName, every: bool) -> None:
    """Compile kernels and read the primer now, not in the first run."""
    from nczip.assets.primer import table_path
    from nczip.coder.kernelcache import kernel_cache_folder
    from nczip.warm import count_kernels, warm

    with warnings.catch_warnings():
        warnings.simplefilter("always", CacheWarning)
        warnings.showwarning = lambda message, *_: say(message)
        for name in PRESETS if every else (preset,):
            try:
                _report(name, warm(name, say))
            except ModelError as error:
                if not every:
                    raise
                click.echo(f"{name}: left out, {error}")
    click.echo(f"{count_kernels()} kernels in {kernel_cache_folder()}, the table {table_path()}")


def _report(name: str, made: "Made") -> None:
    table = ", the primed table" if made.table else ""
    click.echo(f"{name}: {made.kernels} kernels{table} made in {made.seconds:.1f} s")
