"""Which files are meant: those named, those of a list, and those of folders."""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nczip.errors import NczipError
from nczip.sinks import PART_SUFFIX
from nczip.sources import STDIO
from nczip.targets import has_suffix


@dataclass(frozen=True)
class Selection:
    """How names of the command line become files.

    Attributes:
        suffix: of compressed files.
        decoding: whether compressed files are wanted; else all others are.
        recursive: whether a folder stands for the files in it.
    """

    suffix: str
    decoding: bool
    recursive: bool

    def files(self, names: Iterable[str], filelist: str | None) -> tuple[str, ...]:
        """All files meant, standard input where none is named.

        Raises:
            NczipError: the list of files cannot be read.
        """
        listed = read_filelist(filelist) if filelist is not None else ()
        named = [*names, *listed]
        if not named and filelist is None:
            return (STDIO,)
        return tuple(file for name in named for file in self._meant(name))

    def _meant(self, name: str) -> Iterator[str]:
        if self.recursive and name != STDIO and Path(name).is_dir():
            yield from self._inside(name)
        elif self.decoding and name != STDIO and not os.path.lexists(name):
            longer = name + self.suffix  # as `gzip -d FILE` takes FILE.gz
            yield longer if os.path.lexists(longer) else name
        else:
            yield name

    def _inside(self, folder: str) -> Iterator[str]:
        """The files in a folder and below that are of the kind that is wanted; no links."""

        def fail(error: OSError) -> None:
            raise NczipError(f"{error.filename}: {error.strerror}") from error

        for parent, folders, files in os.walk(folder, onerror=fail):
            folders.sort()
            for path in (Path(parent, file) for file in sorted(files)):
                is_wanted = has_suffix(path.name, self.suffix) == self.decoding
                if is_wanted and not path.name.endswith(PART_SUFFIX) and not path.is_symlink():
                    yield str(path)


def read_filelist(name: str) -> list[str]:
    """The names in a file, or on standard input, one on each line.

    Raises:
        NczipError: it cannot be read.
    """
    try:
        data = sys.stdin.buffer.read() if name == STDIO else Path(name).read_bytes()
    except OSError as error:
        raise NczipError(f"{name}: {error.strerror}") from error
    return [os.fsdecode(line.removesuffix(b"\r")) for line in data.split(b"\n") if line.strip()]


def refuse_collisions(files: Iterable[str]) -> None:
    """Raise NczipError where two files have one name, and so in one folder one output."""
    seen: dict[str, str] = {}
    for file in files:
        other = seen.setdefault(Path(file).name, file)
        if other is not file:
            raise NczipError(f"{other} and {file} would be one output in one folder")
