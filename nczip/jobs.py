"""What the command line does with one file."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import click

from nczip.cli import STDIO, SUFFIX
from nczip.errors import NczipError
from nczip.file import decompress_chunks
from nczip.options import CompressOptions, DecompressKeywords
from nczip.progress import Progress, first_run_announcer
from nczip.stream import Compressor

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Options(CompressOptions):
    """The command line's options; each command uses its part of them."""

    output: str | None = None
    stdout: bool = False
    quiet: bool = False
    verbose: bool = False
    force: bool = False
    keep: bool = True
    max_output: int | None = None

    def decoding(self) -> DecompressKeywords:
        """Options of a Decompressor."""
        return {
            "model": self.model,
            "threads": self.threads,
            "memory_limit": self.memory_limit,
            "max_output": self.max_output,
            "announce": self.announce,
        }


def compress_job(name: str, options: Options) -> None:
    """Compress one file, or standard input."""
    if name.endswith(SUFFIX) and not (options.force or options.output or options.stdout):
        raise NczipError(f"already has the suffix {SUFFIX}: -f compresses it again")
    target = _target(name, options, lambda path: path + SUFFIX)
    if target is None and not options.force and sys.stdout.isatty():
        raise NczipError("compressed data is not written to a terminal: use -o, > or -f")
    options = replace(options, announce=first_run_announcer(options.quiet))
    compressor = Compressor(options.preset, **options.keywords())
    with (
        _source(name) as source,
        _sink(name, target, options) as sink,
        Progress(name, _size(source), options) as progress,
    ):
        while data := source.read(_CHUNK):
            progress.advance(len(data), sink.write(compressor.compress(data)))
        progress.advance(0, sink.write(compressor.flush()))


def decompress_job(name: str, options: Options) -> None:
    """Decompress one file, or standard input."""
    target = _target(name, options, _without_suffix)
    options = replace(options, announce=first_run_announcer(options.quiet))
    with (
        _source(name) as source,
        _sink(name, target, options) as sink,
        Progress(name, _size(source), options) as progress,
    ):
        counted = _Counted(source)
        for raw in decompress_chunks(counted, **options.decoding()):
            sink.write(raw)
            progress.advance(counted.taken(), len(raw))


def test_job(name: str, options: Options) -> None:
    """Verify one file, or standard input."""
    options = replace(options, announce=first_run_announcer(options.quiet))
    with _source(name) as source, Progress(name, _size(source), options) as progress:
        counted = _Counted(source)
        for raw in decompress_chunks(counted, **options.decoding()):
            progress.advance(counted.taken(), len(raw))
    if options.verbose:
        click.echo(f"{name}: OK", err=True)


class _Counted:
    """A file that counts what is read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._count = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._count += len(data)
        return data

    def taken(self) -> int:
        """Bytes read since the last call."""
        count, self._count = self._count, 0
        return count


def _target(name: str, options: Options, rename: Any) -> str | None:
    """The output's path; None for standard output."""
    if options.stdout or options.output == STDIO:
        return None
    if options.output is not None:
        return options.output
    return None if name == STDIO else rename(name)


def _without_suffix(path: str) -> str:
    if not path.endswith(SUFFIX) or Path(path).name == SUFFIX:
        raise NczipError(f"unknown suffix, {SUFFIX} expected: name the output with -o or -c")
    return path.removesuffix(SUFFIX)


@contextmanager
def _source(name: str) -> Iterator[BinaryIO]:
    if name == STDIO:
        yield sys.stdin.buffer
        return
    if Path(name).is_dir():
        raise NczipError("is a directory: put it into a tar first")
    with open(name, "rb") as file:
        yield file


def _size(file: BinaryIO) -> int | None:
    """Bytes of a regular file, None for a pipe."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@contextmanager
def _sink(source: str, target: str | None, options: Options) -> Iterator[BinaryIO]:
    """The output: a temporary file beside the target, renamed only when all went well."""
    if target is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    if path.exists() and not path.is_file():  # a device or a pipe cannot be renamed over
        if path.is_dir():
            raise NczipError(f"the output {target} is a directory")
        with path.open("wb") as device:
            yield device
        return
    if path.exists() and not options.force:
        raise NczipError(f"the output {target} exists: -f overwrites it")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _carry_over(source, temporary)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if not options.keep and source != STDIO:
        Path(source).unlink()


def _carry_over(source: str, target: str) -> None:
    """Times and mode of the source; of standard input there are none."""
    if source == STDIO:
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(target, 0o666 & ~mask)
    else:
        shutil.copystat(source, target)
