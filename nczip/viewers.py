"""``nczgrep`` and ``nczless``: grep and less over files that may be compressed."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from nczip.errors import NczipError
from nczip.interrupts import die_by
from nczip.sources import STDIO, Source, open_source
from nczip.terminal import printable, say

_ERROR = 2
_CHUNK = 1 << 16
#: grep's options that take a value, and those for folders and compressed data, which are not taken.
_WITH_VALUE = set("efmABCDd") | {
    "regexp", "file", "max-count", "after-context", "before-context", "context", "binary-files",
    "devices", "directories", "label",
}  # fmt: skip
_REFUSED = set("rR") | {
    "recursive", "dereference-recursive", "include", "exclude", "exclude-from", "exclude-dir",
}  # fmt: skip
_PATTERNS = {"e", "f", "regexp", "file"}
_HELP = """Usage: nczgrep [OPTION]... PATTERN [FILE]...
Search files that nczip has compressed, and others as they are, with grep(1) and its options.
Without FILE, or where it is -, standard input is searched; folders (-r) are not.
"""


def nczgrep() -> None:
    """Entry point: grep(1) over what files hold; its exit codes are grep's."""
    sys.exit(_told(lambda: grep(sys.argv[1:])))


def nczless() -> None:
    """Entry point: less(1), which reads files through nczip."""
    sys.exit(_told(lambda: less(sys.argv[1:])))


def _told(action: Callable[[], int]) -> int:
    try:
        return action()
    except NczipError as error:
        say(error)
        return _ERROR
    except KeyboardInterrupt:
        die_by(signal.SIGINT)


def grep(arguments: Sequence[str]) -> int:
    """Run grep on each file; 0 where a line matched, 1 where none did, 2 after an error.

    Raises:
        NczipError: no pattern, an option that only grep itself can have, or no grep.
    """
    if "--help" in arguments:
        sys.stdout.write(_HELP)
        return 0
    options, words, names = _split(arguments)
    if refused := sorted(names & _REFUSED):
        raise NczipError(f"nczgrep: {refused[0]} is for grep: nczgrep takes files, not folders")
    if not names & _PATTERNS:
        if not words:
            raise NczipError("nczgrep: which PATTERN? --help tells more")
        options += ["-e", words.pop(0)]
    several = ["-H"] if len(words) > 1 else []  # before the options: -h is the last word
    command = [_program("grep"), *several, *options]
    codes = [_grep_one(command, name) for name in words or [STDIO]]
    return _ERROR if max(codes) >= _ERROR else min(codes)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str], set[str]]:
    """Options as they are with their values, the other words, and the options' names."""
    options: list[str] = []
    words: list[str] = []
    names: set[str] = set()
    left = iter(arguments)
    for word in left:
        if word == "--":
            words += left
        elif not word.startswith("-") or word == STDIO:
            words.append(word)
        else:
            options.append(word)
            found, wants_value = _read_option(word)
            names |= found
            if wants_value:
                options += [next(left, "")]
    return options, words, names


def _read_option(word: str) -> tuple[set[str], bool]:
    """The options that a word names, and whether the next word is the value of the last."""
    if word.startswith("--"):
        name, equals, _ = word[2:].partition("=")
        return {name}, name in _WITH_VALUE and not equals
    for at, letter in enumerate(word[1:], 1):
        if letter in _WITH_VALUE:
            return set(word[1 : at + 1]), at + 1 == len(word)
    return set(word[1:]), False


def _grep_one(command: Sequence[str], name: str) -> int:
    label = "(standard input)" if name == STDIO else name
    try:
        with (
            open_source(name, follow=True, any_kind=True, last_link=False) as source,
            subprocess.Popen(
                [*command, f"--label={label}", "--", STDIO], stdin=subprocess.PIPE
            ) as process,
        ):
            assert process.stdin is not None
            try:
                for chunk in plain_chunks(source):
                    process.stdin.write(chunk)
                process.stdin.close()
            except BrokenPipeError:  # grep has seen enough
                pass
            return process.wait()
    except (NczipError, OSError) as error:
        say(f"{printable(name)}: {getattr(error, 'strerror', None) or error}")
        return _ERROR


def plain_chunks(source: Source) -> Iterator[bytes]:
    """What a file holds, or where it is not compressed, what it is.

    Raises:
        NczipError: it cannot be decoded.
    """
    from nczip.file import decompress_chunks
    from nczip.stream import is_stream_start

    if is_stream_start(source.peek(4)):
        yield from decompress_chunks(source, threads=0)
        return
    while data := source.read(_CHUNK):
        yield data


def less(arguments: Sequence[str]) -> NoReturn:
    """Become less, which has nczip decompress what it shows.

    Raises:
        NczipError: there is no less.
    """
    reader = shlex.join([sys.executable, "-P", "-m", "nczip", "-dcfq", "--"]).replace("%", "%%")
    program = _program("less")  # -P: no nczip of the folder in which somebody looks at a file
    os.execve(program, [program, *arguments], os.environ | {"LESSOPEN": f"||-{reader} %s"})


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise NczipError(f"{name} is not installed")
    return path
