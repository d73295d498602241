"""The command line: ``nczip c``, ``d``, ``t`` and ``l``; without a command it is nczip.habits'."""

import functools
import gc
import importlib
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from glob import escape, iglob
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from nczip import habits
from nczip.presets import ENGINES

if TYPE_CHECKING:  # imported where it is needed: nczip --help is quick
    from nczip.jobs import Options, Outcome

_SUCCESS, _ERROR, _WARNING = range(3)
_SIZE = re.compile(r"([0-9]{1,18})([kmg]?)(?:i?b)?")
_DEVICES = re.compile(r"[0-9]{1,3}(,[0-9]{1,3})*")
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


class Devices(click.ParamType):  # type: ignore[type-arg]
    """Numbers of GPUs as in ``0,1``."""

    name = "devices"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        if _DEVICES.fullmatch(str(value)) is None:
            self.fail(f"'{value}' names no GPUs, as 0,1 does", param, ctx)
        return tuple(map(int, str(value).split(",")))


_Command = Callable[..., Any]


def _with(options: Sequence[Callable[[_Command], _Command]]) -> Callable[[_Command], _Command]:
    """A decorator that gives a command all these options, in this order."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _complete_files(ctx: Any, param: Any, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


_choosing = _with(
    [
        click.argument("files", nargs=-1, metavar="[FILE]...", shell_complete=_complete_files),
        click.option("-r", "--recursive", is_flag=True, help="Take all files in folders."),
        click.option("--filelist", metavar="LIST", shell_complete=_complete_files,
                     help="Take the files whose names are the lines of LIST, too."),
        click.option("-S", "--suffix", default=".ncz", show_default=True, metavar=".SUF",
                     help="What compressed files' names end in."),
        click.option("--json", "as_json", is_flag=True, help="Machine-readable output."),
    ]
)  # fmt: skip
_working = _with(
    [
        click.option("-T", "--threads", type=click.IntRange(0), default=0, show_default="cores",
                     help="Blocks worked on at once; the output does not depend on it."),
        click.option("--model", help="Path or name of a GGUF model."),
        click.option("--gpu-layers", type=click.IntRange(0), metavar="N", show_default="all",
                     help="Layers that --engine llama evaluates on GPUs, where llama.cpp has any."),
        click.option("--devices", type=Devices(), default=(), metavar="0,1,...",
                     help="GPUs that share the blocks of --engine llama."),
        click.option("-q", "--quiet", "--silent", is_flag=True, help="Say nothing but errors."),
        click.option("-v", "--verbose", is_flag=True,
                     help="Report every file, and how long it will take."),
    ]
)  # fmt: skip
_writing = _with(
    [
        click.option("-o", "--output", type=click.Path(dir_okay=False), help="Where to write."),
        click.option("-c", "--stdout", "--to-stdout", is_flag=True,
                     help="Write to standard output."),
        click.option("--output-dir-flat", metavar="DIR", help="Write into this folder."),
        click.option("--output-dir-mirror", metavar="DIR",
                     help="Write into folders in this one, as the inputs' are."),
        click.option("-f", "--force", is_flag=True, help="Overwrite; write to a terminal."),
        click.option("-k/-R", "--keep/--remove", " /--rm", default=True,
                     help="Keep the input (default), or remove it after success."),
    ]
)  # fmt: skip
_decoding = _with(
    [
        click.option("--memory", "memory_limit", type=Size(),
                     help="Memory that decoding may need, as in 4G."),
        click.option("--max-output", type=Size(),
                     help="Refuse files that hold more bytes than this, as in 10G."),
    ]
)  # fmt: skip


class _Commands(click.Group):
    """The commands, of which some are imported only when they are called.

    What starts otherwise is a call without one, whose options are shown as the group's.
    """

    _elsewhere = MappingProxyType(
        {
            "bench": "nczip.bench.cli:bench",
            "corpora": "nczip.corpora.cli:corpora",
            "explain": "nczip.explain_cli:explain_command",
            "models": "nczip.assets.cli:models",
            "ray": "nczip.integrations.ray_cli:ray",
            "warm": "nczip.warm_cli:warm_command",
        }
    )

    @functools.cached_property
    def without_command(self) -> click.Command:
        return habits.without_command({letter: self.commands[letter] for letter in "cdtl"})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_unfinished = ctx.resilient_parsing and not args  # its first word is being completed
        asks_help = any(word in ctx.help_option_names for word in args)
        is_command = bool(args) and self.get_command(ctx, args[0]) is not None
        if not is_command and asks_help:
            args = [ctx.help_option_names[0]]
        elif not is_command and not is_unfinished:
            args = [habits.WITHOUT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[OPTION]... [FILE]...")
        formatter.write_usage(ctx.command_path, "COMMAND [OPTION]... [FILE]...")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [*self.without_command.params, *self.get_params(ctx)]
        records = [option.get_help_record(ctx) for option in options if option.name != "files"]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])
        self.format_commands(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        inner = click.Context(self.without_command, parent=ctx, info_name=ctx.info_name)
        words = super().shell_complete(ctx, incomplete)
        words += self.without_command.shell_complete(inner, incomplete)
        # Last: click's bash script forgets what comes before files.
        is_file = (
            incomplete and not incomplete.startswith("-") and any(iglob(f"{escape(incomplete)}*"))
        )
        return words + (_complete_files(ctx, None, incomplete) if is_file else [])

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
        if cmd_name == habits.WITHOUT_COMMAND:
            return self.without_command
        if cmd_name not in self._elsewhere:
            return super().get_command(ctx, cmd_name)
        module, name = self._elsewhere[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Lossless compression driven by language models.

    Without FILE, or where FILE is -, standard input is read and standard output written. Inputs
    are kept unless -R or --rm is given. A file whose name is a command's is ./NAME.
    """


@cli.command("c")
@_choosing
@_working
@_writing
@click.option(
    "--preset",
    cls=habits.PresetOption,
    type=habits.PresetType(),
    metavar="NAME",
    default="default",
    show_default=True,
    help="fast, default, smollm2, max or a level. fast: no transformer; max: most memory, slowest; "
    "smollm2: smallest text, with a public model.",
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
@click.option(
    "--tar", is_flag=True, help="Make one archive of all that is in a folder: FOLDER.tar.ncz."
)
def compress_command(**options: Any) -> None:
    """Compress files to FILE.ncz."""
    from nczip.jobs import compress_job

    if options["tar"] and (options["recursive"] or not options["keep"]):
        other = "-r" if options["recursive"] else "-R"
        raise click.UsageError(f"--tar and {other} exclude each other")
    _run_all(options, compress_job, decoding=False)


@cli.command("d")
@_choosing
@_working
@_writing
@click.option(
    "--range", type=Range(), metavar="A:B", help="Only these bytes, to standard output or -o."
)
@click.option("--salvage", is_flag=True, help="Every undamaged block of a damaged file.")
@_decoding
@click.option(
    "--fetch", is_flag=True, help="Get the model that the file needs, if the catalogue has it."
)
@click.option("--untar", is_flag=True, help="Unpack the tar archive that the file holds.")
def decompress_command(**options: Any) -> None:
    """Decompress files."""
    from nczip.jobs import decompress_job

    if options["range"] is not None and options["salvage"]:
        raise click.UsageError("--range and --salvage exclude each other")
    if (options["range"] is not None or options["salvage"]) and not options["keep"]:
        raise click.UsageError("the input is not removed where not all of it is written")
    if options["untar"] and any(options[name] for name in ("output", "stdout", "range", "salvage")):
        raise click.UsageError(
            "--untar writes files: it goes without -o, -c, --range and --salvage"
        )
    _run_all(options, decompress_job, decoding=True)


@cli.command("t")
@_choosing
@_working
@_decoding
def test_command(**options: Any) -> None:
    """Verify files: decompress them and compare every check."""
    from nczip.jobs import test_job

    _run_all(options, test_job, decoding=True)


@cli.command("l")
@_choosing
def list_command(files: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """List what files hold: sizes, ratio, blocks, model, engine."""
    from nczip.listing import describe, print_json, print_table

    if not files and options["filelist"] is None:
        raise click.UsageError("which FILE?")
    if sys.stdout is None:
        raise click.ClickException("standard output is closed")
    entries: list[Any] = []
    chosen = _choose(files, decoding=True, **options)
    code = _each(chosen, lambda name: entries.append(describe(name)))
    (print_json if as_json else print_table)(entries)
    sys.stdout.flush()
    sys.exit(code)


def _choose(
    files: Iterable[str], *, decoding: bool, filelist: str | None, suffix: str, recursive: bool
) -> tuple[str, ...]:
    from nczip.selection import Selection

    if not suffix or os.sep in suffix:
        raise click.UsageError(f"'{suffix}' is no suffix, as .ncz is")
    return Selection(suffix, decoding, recursive).files(files, filelist)


def _run_all(options: dict[str, Any], job: Callable[..., "Outcome"], *, decoding: bool) -> None:
    """Run a job on each file; exits with the worst of their codes."""
    gc.disable()  # what is imported stays: looking for garbage meanwhile takes a tenth of a start
    from nczip.coder.rangecoder import abort_all
    from nczip.errors import CacheWarning
    from nczip.interrupts import run_until_signalled
    from nczip.jobs import Options
    from nczip.terminal import say

    gc.freeze()
    gc.enable()
    how = {name: options[name] for name in ("suffix", "recursive")}
    named, filelist = options.pop("files"), options.pop("filelist")
    files = _choose(named, decoding=decoding, filelist=filelist, **how)
    options["threads"] = options["threads"] or os.cpu_count() or 1
    settings = Options(**options)
    _check_outputs(files, settings, writes="output" in options)
    results: list[dict[str, Any]] = []

    def run(name: str) -> None:
        results.append(asdict(job(name, settings)) | {"error": None})

    def fail(name: str, reason: str) -> None:
        results.append({"file": name, "error": reason})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if settings.quiet else "always", CacheWarning)
        warnings.showwarning = lambda message, *_: say(message)
        try:
            code = run_until_signalled(lambda: _each(files, run, fail, settings.quiet))
        except BaseException:
            abort_all()  # other threads would have Python wait for the end of their blocks
            raise
    if code != _SUCCESS:
        abort_all()
    if settings.as_json:
        click.echo(json.dumps(results, indent=2))
    sys.exit(code)


def _check_outputs(files: tuple[str, ...], options: "Options", *, writes: bool) -> None:
    """Raise UsageError or NczipError where outputs would have no place, or one in common."""
    from nczip.selection import refuse_collisions
    from nczip.sources import STDIO

    given = {
        "-c": options.stdout,
        "-o": options.output is not None,
        "--output-dir-flat": options.output_dir_flat is not None,
        "--output-dir-mirror": options.output_dir_mirror is not None,
    }
    places = [place for place, is_given in given.items() if is_given]
    if len(places) > 1:
        raise click.UsageError(f"{' and '.join(places)} exclude each other")
    if options.output is not None and len(files) > 1:
        raise click.UsageError("-o takes one file")
    is_data = options.stdout or options.output == STDIO or (STDIO in files and not places)
    if options.as_json and writes and is_data:
        raise click.UsageError("--json and what is written to standard output exclude each other")
    if options.output_dir_flat is not None:
        refuse_collisions(files)


def _each(
    files: tuple[str, ...],
    action: Callable[[str], Any],
    fail: Callable[[str, str], Any] = lambda name, reason: None,
    quiet: bool = False,
) -> int:
    """Call ``action`` on each file; what goes wrong is one line on stderr each.

    Args:
        files: names, each given to ``action``.
        action: raises what goes wrong.
        fail: is told each file's name and what went wrong with it.
        quiet: not to say warnings.

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
            is_warning = isinstance(error, FileSkippedError)
            fail(name, reason)
            if not (is_warning and quiet):
                say(f"{label}: {reason}")
            if not is_warning:
                code = _ERROR
            elif code == _SUCCESS:
                code = _WARNING
    return code


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: no traceback reaches a user.

    Args:
        arguments: None for those of the process.
    """
    from nczip.interrupts import die_by
    from nczip.terminal import say

    _fill_closed_descriptors()
    try:
        words = os.environ.get(habits.VARIABLE, "")
        chosen = habits.defaults(words, cli.without_command) if words else None
        cli(arguments, standalone_mode=False, prog_name="nczip", default_map=chosen)
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
