"""``python share/make.py``: the manual and the completions, made from the command line's help.

tests/test_share.py fails where the manual is not what this makes.
"""

from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from nczip import __version__
from nczip.cli import cli

SHARE = Path(__file__).parent
_COMPLETIONS = {
    "bash": "bash-completion/completions/nczip",
    "zsh": "zsh/site-functions/_nczip",
    "fish": "fish/vendor_completions.d/nczip.fish",
}
_OTHER_NAMES = ("unncz", "nczcat", "nczgrep", "nczless")
_NAME = "nczip, unncz, nczcat, nczgrep, nczless \\- compress and read files by language models"
_SYNOPSIS = (
    "nczip [OPTION]... [FILE]...",
    "nczip COMMAND [OPTION]... [FILE]...",
    "unncz [OPTION]... [FILE]...",
    "nczcat [OPTION]... [FILE]...",
    "nczgrep [GREP-OPTION]... PATTERN [FILE]...",
    "nczless [LESS-OPTION]... [FILE]...",
)
_SECTIONS = {
    "DESCRIPTION": """
nczip predicts each piece of a file by language models and codes how far the prediction was off.
Files become much smaller than those of xz, and take a thousand times as long: tens of kilobytes a
second. Whoever has no time for that uses zstd.

Without a command, nczip is used as gzip is: it compresses each FILE to FILE.ncz, or with -d does
the reverse. Unlike gzip, and like zstd, it keeps the inputs unless --rm or -R is given; then they
are removed only after what was written has been decoded and compared. Without FILE, or where FILE
is -, it reads standard input and writes standard output, so that it serves tar -I nczip.

With a command, the first word says what is done: nczip c is nczip, nczip d is nczip -d, nczip t is
nczip -t, nczip l is nczip -l. A file whose name is that of a command is given as ./c, or behind --.

unncz is nczip -d and nczcat is nczip -dc. nczgrep runs grep(1) with its options on what each file
holds, compressed or not, and has its exit status. nczless runs less(1), which shows what files
hold.
""",
    "LEVELS": """
-1 to -9 stand for presets; each is a choice of time and memory. -6, the preset default, is what is
used where nothing is said. "nczip --version -v" lists which level is which preset.
""",
    "EXIT STATUS": """
0: all went well. 1: there was an error. 2: there was a warning, as of a file that was left as it
is. These are gzip's.
""",
}
_ENVIRONMENT = {
    "NCZIP_OPT": "Options put before those of every call, as in NCZIP_OPT='-1 -T4'. What a command "
    "has no use for is ignored. No files, and nothing that one call alone can want.",
    "NCZIP_MODELS": "Folders in which models are looked for.",
    "NCZIP_PRIMER_CACHE, NCZIP_KERNEL_CACHE": "Folders of the table that the primer makes and of "
    "compiled code, in the place of those in the user's cache folder.",
}
_EXAMPLES = {
    "nczip -1 *.log": "compresses each file fast, and keeps it.",
    "nczip -9 --rm report.txt": "compresses as well as can be, and removes the input.",
    "tar -I 'nczip -1' -cf folder.tar.ncz folder": "and tar -I nczip -xf unpacks it; nczip --tar "
    "folder and nczip -d --untar folder.tar.ncz do the same without tar.",
    "nczgrep -i error *.log.ncz": "searches compressed files.",
}


def manual() -> str:
    """The manual page, as man(7) writes it."""
    lines = [f'.TH NCZIP 1 "" "nczip {__version__}" "User Commands"', ".SH NAME", _NAME]
    lines.append(".SH SYNOPSIS")
    for synopsis in _SYNOPSIS:
        name, _, rest = synopsis.partition(" ")
        lines += [f".B {_escape(name)}", _escape(rest), ".br"]
    lines += _section("DESCRIPTION")
    lines += [".SH OPTIONS", "Where not all commands have an option, those that do are named."]
    lines += _options()
    lines += [".SH COMMANDS", *_commands(cli, "")]
    lines += _section("LEVELS")
    lines += [".SH ENVIRONMENT", *_items(_ENVIRONMENT)]
    lines += _section("EXIT STATUS")
    lines += [".SH EXAMPLES", *_items(_EXAMPLES)]
    lines += [".SH SEE ALSO", *(f".BR {name} (1){end}" for name, end in _see_also())]
    return "\n".join(lines) + "\n"


def _see_also() -> Iterator[tuple[str, str]]:
    names = ("gzip", "xz", "zstd", "tar", "grep", "less")
    yield from ((name, "," if name != names[-1] else "") for name in names)


def _section(title: str) -> list[str]:
    paragraphs = _SECTIONS[title].strip().split("\n\n")
    return [f".SH {title}", *"\n.PP\n".join(map(_escape, paragraphs)).split("\n")]


def _items(items: dict[str, str]) -> Iterator[str]:
    for what, text in items.items():
        yield from (".TP", f".B {_quote(what)}", _escape(text))


def _options() -> Iterator[str]:
    users = {letter: {p.name for p in cli.commands[letter].params} for letter in "cdtl"}
    for param in cli.without_command.params:
        if not isinstance(param, click.Option) or param.hidden:
            continue
        having = [letter for letter, names in users.items() if param.name in names]
        only = f" ({', '.join(having)})" if having and len(having) < len(users) else ""
        default = f" Default: {param.default}." if param.show_default is True else ""
        yield from (".TP", f".B {_quote(_spelling(param))}")
        yield _escape(f"{param.help}{default}{only}")
    yield from (".TP", f".B {_quote('-h, --help')}", "Show a summary.")


def _spelling(param: click.Option) -> str:
    """All ways to write an option, with its value."""
    names = ", ".join([*getattr(param, "short_forms", ()), *param.opts, *param.secondary_opts])
    return names if param.is_flag else f"{names} {_value(param)}"


def _value(param: click.Option) -> str:
    if param.metavar is not None:
        return param.metavar
    if isinstance(param.type, click.Choice):
        return "|".join(map(str, param.type.choices))
    return "N" if isinstance(param.type, click.IntRange) else param.type.name.upper()


def _commands(group: click.Group, prefix: str) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from (".TP", f".B {_quote(f'nczip {prefix}{name}')}")
        yield _escape(" ".join((command.help or "").split("\n\n")[0].split()))
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")


def _quote(text: str) -> str:
    return '"' + _escape(text).replace('"', "\\(dq") + '"'


def _escape(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in text.split("\n"))


def completion(shell: str) -> str:
    """What a shell sources: it asks nczip itself for the words that fit."""
    kind = get_completion_class(shell)
    assert kind is not None
    return "\n".join(line.rstrip() for line in kind(cli, {}, "nczip", "_NCZIP_COMPLETE").source()
                     .strip().split("\n")) + "\n"  # fmt: skip


def main() -> None:
    """Write all of them."""
    pages = SHARE / "man" / "man1"
    pages.mkdir(parents=True, exist_ok=True)
    (pages / "nczip.1").write_text(manual())
    for name in _OTHER_NAMES:
        (pages / f"{name}.1").write_text(".so man1/nczip.1\n")
    for shell, place in _COMPLETIONS.items():
        path = SHARE / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(completion(shell))


if __name__ == "__main__":
    main()
