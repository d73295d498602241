"""What fingers know of gzip, xz and zstd: ``nczip -d FILE.ncz``, ``nczcat``, NCZIP_OPT.

A call without a command is one with: its options are those of ``c``, ``d``, ``t`` and ``l``
together, and -d, -t or -l says which of these gets them. There is nothing that only a call without
a command can do.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from nczip.presets import LEVELS, PRESETS

#: The group's name for the call without a command; nobody can type it.
WITHOUT_COMMAND = "without a command"
VARIABLE = "NCZIP_OPT"

_COMMANDS = {"is_list": "l", "is_test": "t", "is_decompress": "d"}
#: Options that every mode takes, whether it has a use for them or not, as gzip and zstd do: what
#: tar -I is given is used in both directions.
_TAKEN_BY_ALL = {"stdout", "keep", "force", "quiet", "verbose", "threads"} | {
    "preset", "engine", "lanes", "primer", "block_size", "verify",
}  # fmt: skip
#: What a variable cannot decide for all calls to come.
_NOT_IN_VARIABLE = {"files", "output", "range", "filelist", "version", *_COMMANDS}


class PresetOption(click.Option):
    """--preset, which -1 to -9, --fast and --best stand for."""

    spellings: Mapping[str, str] = {
        **{f"-{level}": str(level) for level in LEVELS},
        "--fast": str(min(LEVELS)),
        "--best": str(max(LEVELS)),
    }

    short_forms = ("-1 ... -9", "--fast", "--best")  #: as help shows them

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        for spelling, level in self.spellings.items():
            parser.add_option(self, [spelling], self.name, action="store_const", const=level)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (", ".join([*self.short_forms, record[0]]), record[1])


class PresetType(click.ParamType):  # type: ignore[type-arg]
    """The name of a preset, or a level."""

    name = "preset"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in PRESETS or value in LEVELS:
            return value
        if str(value) not in map(str, LEVELS):
            names = ", ".join(PRESETS)
            self.fail(f"'{value}' is none of {names}, and no level from 1 to 9", param, ctx)
        return int(value)

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in PRESETS if name.startswith(incomplete)]


def without_command(commands: Mapping[str, click.Command]) -> click.Command:
    """The command that a call without one is; ``commands`` are c, d, t and l."""
    params: dict[str | None, click.Parameter] = {}
    for param in _params_of_all(commands):
        params.setdefault(param.name, param)
    modes = [
        click.Option(["-z", "--compress"], is_flag=True, help="Compress (default), as command c."),
        click.Option(["-d", "--decompress", "--uncompress", "is_decompress"], is_flag=True,
                     help="Decompress, as command d."),
        click.Option(["-t", "--test", "is_test"], is_flag=True, help="Verify, as command t."),
        click.Option(["-l", "--list", "is_list"], is_flag=True, help="List, as command l."),
        click.Option(["-n", "--no-name"], is_flag=True, hidden=True),  # no name is ever kept
        click.Option(["-V", "--version"], is_flag=True,
                     help="Show the version; with -v also of all that decides what opens."),
    ]  # fmt: skip

    def call(**values: Any) -> None:
        _call(commands, values)

    return click.Command(
        WITHOUT_COMMAND,
        params=[*modes, *params.values()],
        callback=call,
        add_help_option=False,
    )


def _params_of_all(commands: Mapping[str, click.Command]) -> list[click.Parameter]:
    return [param for command in commands.values() for param in command.params]


def _call(commands: Mapping[str, click.Command], values: dict[str, Any]) -> None:
    ctx = click.get_current_context()
    if values["version"]:
        from nczip.versions import print_versions

        print_versions(in_full=values["verbose"])
        return
    letter = next((letter for mode, letter in _COMMANDS.items() if values[mode]), "c")
    command = commands[letter]
    taken = {param.name for param in command.params}
    for param in _params_of_all(commands):
        is_given = ctx.get_parameter_source(param.name or "") == ParameterSource.COMMANDLINE
        if is_given and param.name not in taken | _TAKEN_BY_ALL:
            raise click.UsageError(f"{param.opts[-1]} is not an option of 'nczip {letter}'")
    given = {name: value for name, value in values.items() if name in taken}
    ctx.invoke(command, **given)


def defaults(words: str, command: click.Command) -> dict[str, Any]:
    """What a variable's options mean for every command: click's map of defaults.

    Args:
        words: the variable's value.
        command: the call without a command.

    Raises:
        click.UsageError: it is not made of options.
    """
    try:
        arguments = shlex.split(words)
        context = command.make_context(VARIABLE, arguments)
    except (ValueError, click.ClickException) as error:
        reason = error.format_message() if isinstance(error, click.ClickException) else error
        raise click.UsageError(f"{VARIABLE}: {reason}") from error
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE and value != ()
    }
    for param in command.params:
        if param.name in given and param.name in _NOT_IN_VARIABLE:
            what = "files" if param.name == "files" else param.opts[0]
            raise click.UsageError(f"{VARIABLE} takes options for every call, not {what}")
    return dict.fromkeys(("c", "d", "t", "l", WITHOUT_COMMAND), given)


def unncz() -> None:
    """Entry point: ``nczip -d``."""
    _main(["-d"])


def nczcat() -> None:
    """Entry point: ``nczip -dc``."""
    _main(["-dc"])


def _main(words: Sequence[str]) -> None:
    import sys

    from nczip.cli import main

    main([*words, *sys.argv[1:]])
