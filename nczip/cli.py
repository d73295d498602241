"""The command line: ``nczip c``, ``d``, ``t`` and ``l``, with the habits of gzip, xz and zstd."""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from nczip import __version__
from nczip.presets import ENGINES, PRESETS

SUFFIX = ".ncz"
STDIO = "-"

_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, with an optional k, M or G (powers of 1024), as in ``4M``."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        text = str(value).lower().removesuffix("b").removesuffix("i")
        unit = text[-1:] if text[-1:] in "kmg" else ""
        digits = text.removesuffix(unit)
        if not digits.isdigit():
            self.fail(f"'{value}' is not a size", param, ctx)
        return int(digits) * _SIZE_UNITS[unit]


def _file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that every command shares."""
    options = [
        click.argument("files", nargs=-1, metavar="[FILE]..."),
        click.option("-T", "--threads", type=click.IntRange(0), default=0, show_default="cores",
                     help="Blocks worked on at once; the output does not depend on it."),
        click.option("--model", help="Path or name of a GGUF model."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        click.option("-v", "--verbose", is_flag=True, help="Report every file."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("-o", "--output", type=click.Path(dir_okay=False), help="Where to write."),
        click.option("-c", "--stdout", is_flag=True, help="Write to standard output."),
        click.option("-f", "--force", is_flag=True, help="Overwrite; write to a terminal."),
        click.option("-k/-R", "--keep/--remove", default=True,
                     help="Keep the input (default), or remove it after success."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _decoding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--memory", "memory_limit", type=Size(),
                     help="Memory that decoding may need, as in 4G."),
        click.option("--max-output", type=Size(),
                     help="Refuse files that hold more bytes than this, as in 10G."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


class _Commands(click.Group):
    """The commands, of which some are imported only when they are called."""

    _elsewhere = MappingProxyType(
        {"bench": "nczip.bench.cli:bench", "corpora": "nczip.corpora.cli:corpora"}
    )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self._elsewhere]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._elsewhere:
            return super().get_command(ctx, cmd_name)
        module, name = self._elsewhere[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nczip")
def cli() -> None:
    """Lossless compression driven by language models.

    Without FILE, or where FILE is -, standard input is read and standard output written.
    """


@cli.command("c")
@_file_options
@_output_options
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="default",
    show_default=True,
    help="fast: no transformer. max: most memory, slowest.",
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="What evaluates the transformer; files of exact (default where it can) open everywhere.",
)
@click.option(
    "--lanes",
    type=click.IntRange(1, 256),
    help="Pieces of a block that the transformer evaluates side by side.",
)
@click.option("--primer/--no-primer", default=True, help="Start text from what the primer knows.")
@click.option(
    "--memory", "memory_limit", type=Size(), help="Memory that decoding may need, as in 1G."
)
@click.option("--block-size", type=Size(), help="Raw bytes of a block, as in 4M.")  # fmt: skip
def compress_command(**options: Any) -> None:
    """Compress files to FILE.ncz."""
    from nczip.jobs import compress_job

    _run_all(options, compress_job)


@cli.command("d")
@_file_options
@_output_options
@_decoding_options
def decompress_command(**options: Any) -> None:
    """Decompress files."""
    from nczip.jobs import decompress_job

    _run_all(options, decompress_job)


@cli.command("t")
@_file_options
@_decoding_options
def test_command(**options: Any) -> None:
    """Verify files: decompress them and compare every check."""
    from nczip.jobs import test_job

    _run_all(options | {"output": None, "stdout": False}, test_job)


@cli.command("l")
@click.argument("files", nargs=-1, metavar="FILE...", required=True)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def list_command(files: tuple[str, ...], as_json: bool) -> None:
    """List what files hold: sizes, ratio, blocks, model, engine."""
    from nczip.listing import describe, print_json, print_table

    entries: list[Any] = []
    _each(files, lambda name: entries.append(describe(Path(name))))
    (print_json if as_json else print_table)(entries)
    sys.exit(0 if len(entries) == len(files) else 1)


def _run_all(options: dict[str, Any], job: Callable[..., None]) -> None:
    """Run a job on each file; exits with 1 if one failed, after trying the others."""
    from nczip.jobs import Options

    files = options.pop("files") or (STDIO,)
    if options["output"] is not None and len(files) > 1:
        raise click.UsageError("-o takes one file")
    if options["output"] is not None and options["stdout"]:
        raise click.UsageError("-o and -c exclude each other")
    options["threads"] = options["threads"] or os.cpu_count() or 1
    settings = Options(**options)
    sys.exit(0 if _each(files, lambda name: job(name, settings)) else 1)


def _each(files: tuple[str, ...], action: Callable[[str], Any]) -> bool:
    """Call ``action`` on each file; errors become one line on stderr each."""
    from nczip.errors import NczipError

    succeeded = True
    for name in files:
        try:
            action(name)
        except BrokenPipeError:
            raise
        except (NczipError, OSError, ValueError, MemoryError) as error:
            label = "standard input" if name == STDIO else name
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            click.echo(f"nczip: {label}: {' '.join(reason.split())}", err=True)
            succeeded = False
    return succeeded


def main() -> None:
    """Entry point: no traceback reaches a user."""
    from nczip.errors import NczipError

    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"nczip: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("nczip: interrupted", err=True)
        sys.exit(130)
    except NczipError as error:
        click.echo(f"nczip: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader has gone; silence Python's own complaint at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
