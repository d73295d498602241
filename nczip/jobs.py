"""What the command line does with one file."""

import contextlib
import mmap
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from nczip.archive import Archive
from nczip.assets.catalogue import CatalogueModel
from nczip.assets.models import ModelSearch
from nczip.coder.rangecoder import coded_in_progress, raw_in_progress
from nczip.errors import FileSkippedError, FormatError, NczipError
from nczip.file import decompress_chunks
from nczip.frames import FrameCounter
from nczip.options import CompressOptions, DecompressKeywords
from nczip.progress import Progress, ProgressLines, announcer, shows_bar
from nczip.resume import Resumer
from nczip.salvage import Hole, Salvager
from nczip.sinks import DeviceFile, PartFile, Sink, StandardOutput
from nczip.sources import STDIO, Source, open_source
from nczip.stream import Compressor
from nczip.terminal import printable, say
from nczip.verify import Verifier

SUFFIX = ".ncz"

_CHUNK = 1 << 16
_NO_LIMIT = 1 << 62


@dataclass(frozen=True)
class Options(CompressOptions):
    """The command line's options; each command uses its part of them."""

    output: str | None = None
    stdout: bool = False
    quiet: bool = False
    verbose: bool = False
    force: bool = False
    keep: bool = True
    verify: bool | None = None  #: None where an input is to be removed
    resume: bool = False
    range: tuple[int, int | None] | None = None
    salvage: bool = False
    max_output: int | None = None
    fetch: bool = False
    beside: Path | None = None  #: the input's folder, where a model may lie

    def decoding(self) -> DecompressKeywords:
        """Options of a Decompressor."""
        return {
            "model": ModelSearch(self.model, self.beside, self._fetch if self.fetch else None),
            "threads": self.threads,
            "memory_limit": self.memory_limit,
            "max_output": self.max_output,
            "gpu_layers": self.gpu_layers,
            "devices": self.devices,
            "announce": self.announce,
            "detail": self.detail,
        }

    def _fetch(self, entry: CatalogueModel) -> Path:
        """Get a model of the catalogue; this is never done silently."""
        from nczip.assets.pull import pull

        say(f"the file needs the model '{entry.name}' ({entry.size / 1e6:.0f} MB)")
        return pull(entry, say, ProgressLines(self.quiet))


def compress_job(name: str, options: Options) -> None:
    """Compress one file, or standard input."""
    if name.endswith(SUFFIX) and not (options.force or options.output or options.stdout):
        raise FileSkippedError(f"already has the suffix {SUFFIX}: -f compresses it again")
    target = _target(name, options, lambda path: path + SUFFIX)
    if target is None:
        _refuse_terminal(options)
        if options.verify or options.resume:
            raise NczipError("--verify and --resume are for files: name the output with -o")
    options = replace(options, **_tellers(name, options))
    with _source(name, options) as source, _sink(source, target, options) as sink:
        _compress(source, sink, options)


def _compress(source: Source, sink: Sink, options: Options) -> None:
    counter, digest = FrameCounter(), xxhash.xxh3_128()
    leftover, resumed = b"", 0
    part = sink if isinstance(sink, PartFile) else None
    if options.resume and part is not None:
        kept = Resumer(part, source, digest)
        leftover, resumed, counter.raw_size = kept.leftover, kept.size, kept.raw_size
    verifier = None
    if part is not None and (not options.keep if options.verify is None else options.verify):
        silent = replace(options, memory_limit=_NO_LIMIT, detail=None)
        verifier = Verifier(part.read_at, **silent.decoding())
        verifier.advance(resumed)
    compressor = Compressor(options.preset, **options.keywords())

    def coded() -> int:
        return counter.raw_size + raw_in_progress()

    def write(data: bytes) -> None:
        sink.write(data)
        counter.feed(data)
        progress.compressed += len(data)
        if verifier is not None:
            verifier.advance(len(data))

    with Progress(source.name, source.size, coded, options) as progress:
        progress.compressed = resumed
        try:
            data = leftover or source.read(_CHUNK)
            is_complete = resumed > 0 and not data  # nothing but the name was missing
            while data:
                digest.update(data)
                progress.raw = source.taken
                write(compressor.compress(data))
                data = source.read(_CHUNK)
            if not is_complete:
                write(compressor.flush())
            if verifier is not None:
                verifier.finish(digest.digest())
        finally:
            if verifier is not None:
                verifier.stop()
    progress.report(source.taken, progress.compressed)


def decompress_job(name: str, options: Options) -> None:
    """Decompress one file, or standard input; all of it, a range, or what is left of it."""
    if options.range is not None and options.output is None:
        target = None  # a part under the whole one's name would be taken for it
    else:
        target = _target(name, options, _without_suffix)
    options = _decoding_options(name, options)
    with _source(name, options) as source, _sink(source, target, options) as sink:
        if options.salvage:
            _salvage(source, sink, options)
        else:
            _decompress(source, sink, options)


def test_job(name: str, options: Options) -> None:
    """Verify one file, or standard input."""
    options = _decoding_options(name, options)
    with open_source(name, follow=True, any_kind=True, last_link=False) as source:
        _decompress(source, _Nowhere(), options)
    if options.verbose:
        say(f"{printable(source.name)}: OK")


def _decoding_options(name: str, options: Options) -> Options:
    beside = None if name == STDIO else Path(name).parent
    return replace(options, beside=beside, **_tellers(name, options))


def _tellers(name: str, options: Options) -> dict[str, Any]:
    """Who is told what users should know, and what those with -v want to."""
    label = "standard input" if name == STDIO else printable(name)
    detail = (lambda what: say(f"{label}: {what}")) if options.verbose else None
    return {"announce": announcer(options.quiet), "detail": detail}


class _Nowhere:
    def write(self, data: bytes, /) -> int:
        return len(data)


def _decompress(source: Source, sink: Sink, options: Options) -> None:
    done = _CodedSizes(source if shows_bar(options) and options.range is None else None)

    def coded() -> int:
        return done.up_to(progress.raw) + coded_in_progress()

    total = source.size if options.range is None else None
    with Progress(source.name, total, coded, options) as progress:
        chunks = _range(source, options) if options.range else None
        for raw in chunks or decompress_chunks(source, **options.decoding()):
            sink.write(raw)
            progress.raw += len(raw)
            progress.compressed = done.up_to(progress.raw)
    progress.compressed = source.taken
    progress.report(source.taken, progress.raw)


class _CodedSizes:
    """How many bytes of a file make up its first raw bytes, where its index can be read."""

    def __init__(self, source: Source | None) -> None:
        self._archive: Archive | None = None
        if source is None or source.size is None:
            return
        start = source.seek(0, os.SEEK_CUR)
        with contextlib.suppress(FormatError):
            self._archive = Archive(source)
        source.seek(start)
        source.taken = 0

    def up_to(self, raw_size: int) -> int:
        """Bytes of the file up to the end of the last block within the first ``raw_size``."""
        if self._archive is None or not self._archive.places:
            return 0
        number = self._archive.place_of(raw_size)
        place = self._archive.places[number]
        is_whole = raw_size >= place.raw_start + place.raw_size
        return place.offset + (place.frame_size if is_whole else 0)


def _range(source: Source, options: Options) -> Iterator[bytes]:
    """The raw bytes of a range; only its blocks are decoded where the input can be sought."""
    assert options.range is not None
    start, stop = options.range
    if source.seekable():
        archive = Archive(source, **options.decoding())
        yield from archive.read_range(start, archive.raw_size if stop is None else stop)
        return
    at = 0
    for raw in decompress_chunks(source, **options.decoding()):
        yield raw[max(start - at, 0) : None if stop is None else max(stop - at, 0)]
        at += len(raw)


def _salvage(source: Source, sink: Sink, options: Options) -> None:
    """Write every undamaged block, and say where there were others.

    Raises:
        FileSkippedError: there were some, which is a warning.
    """
    holes = lost = written = 0
    for piece in Salvager(_whole(source), **options.decoding()):
        if isinstance(piece, bytes):
            written += sink.write(piece)
            continue
        holes += 1
        lost += piece.raw_size or 0
        say(f"{printable(source.name)}: {_describe(piece, written)}")
    if holes:
        raise _HolesError(
            f"{written} bytes salvaged, {holes} holes in which at least {lost} are lost"
        )


class _HolesError(FileSkippedError):
    """Not all could be salvaged; what could is kept."""


def _describe(hole: Hole, written: int) -> str:
    size = "an unknown number of" if hole.raw_size is None else str(hole.raw_size)
    return (
        f"bytes {hole.start} to {hole.end} of the archive: {hole.reason}; {size} bytes are missing "
        f"at {written} of the output"
    )


def _whole(source: Source) -> Any:
    """All of an input: a map of a file, the bytes of a pipe."""
    if source.file is not None and source.size:
        return mmap.mmap(source.file.fileno(), 0, access=mmap.ACCESS_READ)
    return source.read()


def _target(name: str, options: Options, rename: Callable[[str], str]) -> Path | None:
    """The output's path; None for standard output."""
    if options.stdout or options.output == STDIO:
        return None
    if options.output is not None:
        return Path(options.output)
    return None if name == STDIO else Path(rename(name))


def _without_suffix(path: str) -> str:
    if not path.endswith(SUFFIX) or Path(path).name == SUFFIX:
        raise FileSkippedError(f"unknown suffix, {SUFFIX} expected: name the output with -o or -c")
    return path.removesuffix(SUFFIX)


def _refuse_terminal(options: Options) -> None:
    if not options.force and sys.stdout is not None and sys.stdout.isatty():
        raise NczipError("compressed data is not written to a terminal: use -o, > or -f")


def _source(name: str, options: Options) -> contextlib.AbstractContextManager[Source]:
    """The input, if it is of a kind that gzip would take."""
    anything = options.force or options.stdout
    last_link = not options.keep and not anything
    return open_source(name, follow=anything, any_kind=anything, last_link=last_link)


@contextlib.contextmanager
def _sink(source: Source, target: Path | None, options: Options) -> Iterator[Sink]:
    """The output. A file has its name only when all went well; then the input may be removed."""
    if target is None:
        yield StandardOutput(source.is_same_as)
        return
    if _is_special(source, target, options):
        device = DeviceFile(target)
        with contextlib.closing(device):
            yield device
        return
    part = PartFile(target, options.resume)
    holes = None
    try:
        try:
            yield part
        except _HolesError as found:
            holes = found
        part.publish(source.file, options.force)
    finally:
        part.discard()
    if holes is not None:
        raise holes
    if not options.keep:
        source.remove()


def _is_special(source: Source, target: Path, options: Options) -> bool:
    """Whether the output is a device or a pipe, which cannot be renamed over.

    Raises:
        NczipError: it is the input, under whatever name, or something that must not be replaced.
    """
    shown = printable(target)
    try:
        status = target.stat()
    except FileNotFoundError:
        if target.is_symlink():  # which points nowhere
            if options.force:
                return False
            raise NczipError(f"the output {shown} exists: -f overwrites it") from None
        return False
    except OSError as error:
        raise NczipError(f"writing {shown}: {error.strerror}") from error
    if stat.S_ISREG(status.st_mode) and source.is_same_as(status):
        raise NczipError(f"the output {shown} is the input")
    if stat.S_ISDIR(status.st_mode):
        raise NczipError(f"the output {shown} is a directory")
    if not options.force:
        if stat.S_ISREG(status.st_mode):
            raise FileSkippedError(f"the output {shown} exists: -f overwrites it")
        raise NczipError(f"the output {shown} is a device or a pipe: -f writes to it")
    return not stat.S_ISREG(status.st_mode)
