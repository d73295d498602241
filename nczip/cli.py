"""The command line: ``nczip c``, ``d``, ``t`` and ``l``, with the habits of gzip, xz and zstd."""

import importlib
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import click

from nczip import __version__
from nczip.presets import ENGINES, PRESETS

_SUCCESS, _ERROR, _WARNING = range(3)
_SIZE = re.compile(r"([0-9]{1,18})([kmg]?)(?:i?b)?")
_SIZE_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, with an optional k, M or G (powers of 1024), as in ``4M``."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).lower())
        if found is None:
            self.fail(f"'{value}' is not a size, as 4M is", param, ctx)
        return int(found[1]) * _SIZE_UNITS[found[2]]


class Range(click.ParamType):  # type: ignore[type-arg]
    """Two positions as in ``1k:2k``; left out, they are the start and the end."""

    name = "range"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int | None]:
        start, colon, stop = str(value).partition(":")
        if not colon:
            self.fail(f"'{value}' is not a range, as 1k:2k is", param, ctx)
        first = Size().convert(start or "0", param, ctx)
        last = Size().convert(stop, param, ctx) if stop else None
        if last is not None and last < first:
            self.fail(f"'{value}' ends before it starts", param, ctx)
        return first, last


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
        {
            "bench": "nczip.bench.cli:bench",
            "corpora": "nczip.corpora.cli:corpora",
            "models": "nczip.assets.cli:models",
            "ray": "nczip.integrations.ray_cli:ray",
        }
    )

    def invoke(self, ctx: click.Context) -> Any:
        """Call a command; click would take a reader that has gone for any error, with code 1."""
        from nczip.errors import NczipError
        from nczip.interrupts import die_by
        from nczip.terminal import say

        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            die_by(signal.SIGPIPE)
        except (NczipError, OSError) as error:
            say(error)
            sys.exit(_ERROR)

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
@click.option("--block-size", type=Size(), help="Raw bytes of a block, as in 4M.")
@click.option(
    "--verify/--no-verify",
    default=None,
    help="Decode what was written before it gets its name; default with -R.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with what an interrupted run left; if interrupted, leave it.",
)
def compress_command(**options: Any) -> None:
    """Compress files to FILE.ncz."""
    from nczip.jobs import compress_job

    if options["verify"] is None:
        options["verify"] = not options["keep"]
    _run_all(options, compress_job)


@cli.command("d")
@_file_options
@_output_options
@click.option(
    "--range", type=Range(), metavar="A:B", help="Only these bytes, to standard output or -o."
)
@click.option("--salvage", is_flag=True, help="Every undamaged block of a damaged file.")
@_decoding_options
@click.option(
    "--fetch", is_flag=True, help="Get the model that the file needs, if the catalogue has it."
)
def decompress_command(**options: Any) -> None:
    """Decompress files."""
    from nczip.jobs import decompress_job

    if options["range"] is not None and options["salvage"]:
        raise click.UsageError("--range and --salvage exclude each other")
    if (options["range"] is not None or options["salvage"]) and not options["keep"]:
        raise click.UsageError("the input is not removed where not all of it is written")
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

    if sys.stdout is None:
        raise click.ClickException("standard output is closed")
    entries: list[Any] = []
    code = _each(files, lambda name: entries.append(describe(name)))
    (print_json if as_json else print_table)(entries)
    sys.stdout.flush()
    sys.exit(code)


def _run_all(options: dict[str, Any], job: Callable[..., None]) -> None:
    """Run a job on each file; exits with the worst of their codes."""
    from nczip.coder.rangecoder import abort_all
    from nczip.errors import CacheWarning
    from nczip.interrupts import run_until_signalled
    from nczip.jobs import Options
    from nczip.sources import STDIO
    from nczip.terminal import say

    files = options.pop("files") or (STDIO,)
    if options["output"] is not None and len(files) > 1:
        raise click.UsageError("-o takes one file")
    if options["output"] is not None and options["stdout"]:
        raise click.UsageError("-o and -c exclude each other")
    options["threads"] = options["threads"] or os.cpu_count() or 1
    settings = Options(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if settings.quiet else "always", CacheWarning)
        warnings.showwarning = lambda message, *_: say(message)
        try:
            code = run_until_signalled(lambda: _each(files, lambda name: job(name, settings)))
        except BaseException:
            abort_all()  # other threads would have Python wait for the end of their blocks
            raise
    if code != _SUCCESS:
        abort_all()
    sys.exit(code)


def _each(files: tuple[str, ...], action: Callable[[str], Any]) -> int:
    """Call ``action`` on each file; what goes wrong is one line on stderr each.

    Returns:
        The exit code, as gzip has it: 1 if there was an error, else 2 if there was a warning.
    """
    from nczip.errors import AbortedError, FileSkippedError, NczipError
    from nczip.sources import STDIO
    from nczip.terminal import printable, say

    code = _SUCCESS
    for name in files:
        try:
            action(name)
        except (BrokenPipeError, AbortedError):
            raise
        except (NczipError, OSError, ValueError, MemoryError) as error:
            label = "standard input" if name == STDIO else printable(name)
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            say(f"{label}: {reason}")
            if not isinstance(error, FileSkippedError):
                code = _ERROR
            elif code == _SUCCESS:
                code = _WARNING
    return code


def main() -> None:
    """Entry point: no traceback reaches a user."""
    from nczip.interrupts import die_by
    from nczip.terminal import say

    _fill_closed_descriptors()
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        say(error.format_message())
        sys.exit(_ERROR)
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        die_by(signal.SIGINT)


def _fill_closed_descriptors() -> None:
    """Have the descriptors of closed standard streams taken, by what serves neither of them.

    A file that is opened would get them, and messages would be written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free: this one.
            os.open(os.devnull, os.O_WRONLY if descriptor == 0 else os.O_RDONLY)
