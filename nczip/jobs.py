"""What the command line does with one file."""

import contextlib
import mmap
import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from nczip.archive import Archive
from nczip.assets.catalogue import CatalogueModel
from nczip.assets.models import ModelSearch
from nczip.coder.rangecoder import coded_in_progress, raw_in_progress
from nczip.errors import FileSkippedError, FormatError, NczipError
from nczip.estimate import estimate_compression
from nczip.file import decompress_chunks
from nczip.foreign import LONGEST, foreign_error, refuse_foreign
from nczip.frames import FrameCounter
from nczip.options import CompressOptions, DecompressKeywords
from nczip.progress import Progress, ProgressLines, announcer, shows_bar
from nczip.resume import Resumer
from nczip.salvage import Hole, Salvager
from nczip.sinks import DeviceFile, PartFile, Sink, StandardOutput, make_folder
from nczip.sources import STDIO, Input, Source, open_source
from nczip.stream import Compressor, is_stream_start
from nczip.targets import SUFFIX, has_suffix, packed_target, raw_target, unpacking_folder
from nczip.terminal import printable, say
from nczip.verify import Verifier

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
    suffix: str = SUFFIX
    output_dir_flat: str | None = None
    output_dir_mirror: str | None = None
    recursive: bool = False
    tar: bool = False
    untar: bool = False
    as_json: bool = False
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


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    file: str
    output: str | None  #: None for standard output, and of a test
    raw_size: int  #: bytes, as is the next
    compressed_size: int
    seconds: float  #: of wall time


def compress_job(name: str, options: Options) -> Outcome:
    """Compress one file, standard input, or a folder as a tar archive."""
    is_folder = name != STDIO and Path(name).is_dir()
    if is_folder and not options.tar:
        raise FileSkippedError(
            "is a directory: -r compresses each of its files, --tar makes one archive of them"
        )
    is_placed = options.force or options.output or options.stdout
    if has_suffix(name, options.suffix) and not is_placed and not is_folder:
        raise FileSkippedError(f"already has the suffix {options.suffix}: -f compresses it again")
    target = packed_target(name, options, is_folder)
    if target is None:
        _refuse_terminal(options)
        if options.verify or options.resume:
            raise NczipError("--verify and --resume are for files: name the output with -o")
    if is_folder and target is not None:
        _refuse_inside(target, Path(name))
    options = replace(options, **_tellers(name, options))
    start = time.monotonic()
    with _input(name, is_folder, options) as source, _sink(source, target, options) as sink:
        raw, compressed = _compress(source, sink, options)
    return _outcome(name, target, raw, compressed, start)


def _refuse_inside(target: Path, folder: Path) -> None:
    if target.absolute().parent.resolve().is_relative_to(folder.resolve()):
        raise NczipError(f"{printable(target)} would be in itself: name another place with -o")


def _input(
    name: str, is_folder: bool, options: Options
) -> contextlib.AbstractContextManager[Input]:
    if not is_folder:
        return _source(name, options)
    from nczip.tars import TarSource

    return contextlib.nullcontext(TarSource(Path(name)))


def _outcome(name: str, target: Path | None, raw: int, compressed: int, start: float) -> Outcome:
    output = None if target is None else str(target)
    return Outcome(name, output, raw, compressed, time.monotonic() - start)


def _compress(source: Input, sink: Sink, options: Options) -> tuple[int, int]:
    """Returns raw and compressed bytes."""
    if options.verbose and source.size:
        estimate = estimate_compression(source.size, source.sample, options)
        if estimate is not None:
            say(f"{printable(source.name)}: {estimate}")
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
    return source.taken, progress.compressed


def decompress_job(name: str, options: Options) -> Outcome:
    """Decompress one file, or standard input; all of it, a range, or what is left of it."""
    if options.untar:
        return _untar_job(name, options)
    if options.range is not None and options.output is None:
        target = None  # a part under the whole one's name would be taken for it
    else:
        target = _raw_target(name, options)
    options = _decoding_options(name, options)
    start = time.monotonic()
    with _source(name, options) as source, _sink(source, target, options) as sink:
        raw = _decode(source, sink, options, is_copied=options.force and target is None)
    return _outcome(name, target, raw, source.taken, start)


def _raw_target(name: str, options: Options) -> Path | None:
    try:
        return raw_target(name, options)
    except FileSkippedError:
        if not Path(name).is_file():
            raise
        with _source(name, options) as source:
            foreign = foreign_error(source.peek(LONGEST))
        if foreign is None:
            raise
        raise FileSkippedError(str(foreign)) from foreign


def _decode(source: Source, sink: Sink, options: Options, is_copied: bool) -> int:
    """Decode as the options say; returns the number of raw bytes.

    Args:
        is_copied: what is not ours is written as it is, as gzip -cdf does.
    """
    head = source.peek(LONGEST)
    if options.salvage:
        return _salvage(source, sink, options)
    if is_copied and options.range is None and not is_stream_start(head):
        while data := source.read(_CHUNK):
            sink.write(data)
        return source.taken
    refuse_foreign(head)
    return _decompress(source, sink, options)


def _untar_job(name: str, options: Options) -> Outcome:
    """Decompress one file, or standard input, and unpack the tar archive in it."""
    from nczip.tars import untar

    folder = unpacking_folder(name, options)
    options = _decoding_options(name, options)
    start = time.monotonic()
    with _source(name, options) as source:
        refuse_foreign(source.peek(LONGEST))
        with _DecodingProgress(source, options) as progress:
            chunks = decompress_chunks(source, **options.decoding())
            untar(chunks, folder, options.force, progress.advance)
        if not options.keep:
            source.remove()
    progress.finish()
    return _outcome(name, folder, progress.raw, source.taken, start)


def test_job(name: str, options: Options) -> Outcome:
    """Verify one file, or standard input."""
    options = _decoding_options(name, options)
    start = time.monotonic()
    with open_source(name, follow=True, any_kind=True, last_link=False) as source:
        refuse_foreign(source.peek(LONGEST))
        raw = _decompress(source, _Nowhere(), options)
    if options.verbose:
        say(f"{printable(source.name)}: OK")
    return _outcome(name, None, raw, source.taken, start)


def _decoding_options(name: str, options: Options) -> Options:
    if name == STDIO and not options.force and sys.stdin is not None and sys.stdin.isatty():
        raise NczipError("compressed data is not read from a terminal: name a file, or -f reads it")
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


def _decompress(source: Source, sink: Sink, options: Options) -> int:
    """Returns the number of raw bytes."""
    with _DecodingProgress(source, options) as progress:
        chunks = _range(source, options) if options.range else None
        for raw in chunks or decompress_chunks(source, **options.decoding()):
            sink.write(raw)
            progress.advance(len(raw))
    progress.finish()
    return progress.raw


class _DecodingProgress(Progress):
    """Progress in the bytes of the compressed file, told by the raw bytes that come out."""

    def __init__(self, source: Source, options: Options) -> None:
        is_whole = options.range is None
        is_shown = shows_bar(options) or options.verbose
        self._source = source
        self._done = _CodedSizes(source if is_shown and is_whole else None)
        super().__init__(source.name, source.size if is_whole else None, self._so_far, options)
        self.raw_total = self._done.raw_size

    def _so_far(self) -> int:
        return self._done.up_to(self.raw) + coded_in_progress()

    def advance(self, size: int) -> None:
        """So many more raw bytes have come out."""
        self.raw += size
        self.compressed = self._done.up_to(self.raw)

    def finish(self) -> None:
        """All has been decoded; with -v, say so."""
        self.compressed = self._source.taken
        self.report(self._source.taken, self.raw)


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

    @property
    def raw_size(self) -> int | None:
        """Of the whole file; None where nobody knows."""
        return None if self._archive is None else self._archive.raw_size

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


def _salvage(source: Source, sink: Sink, options: Options) -> int:
    """Write every undamaged block, and say where there were others; returns the bytes written.

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
    return written


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


def _refuse_terminal(options: Options) -> None:
    if not options.force and sys.stdout is not None and sys.stdout.isatty():
        raise NczipError("compressed data is not written to a terminal: use -o, > or -f")


def _source(name: str, options: Options) -> contextlib.AbstractContextManager[Source]:
    """The input, if it is of a kind that gzip would take."""
    anything = options.force or options.stdout
    last_link = not options.keep and not anything
    return open_source(name, follow=anything, any_kind=anything, last_link=last_link)


@contextlib.contextmanager
def _sink(source: Input, target: Path | None, options: Options) -> Iterator[Sink]:
    """The output. A file has its name only when all went well; then the input may be removed."""
    if target is None:
        yield StandardOutput(source.is_same_as)
        return
    if _is_special(source, target, options):
        device = DeviceFile(target)
        with contextlib.closing(device):
            yield device
        return
    if options.output_dir_flat is not None or options.output_dir_mirror is not None:
        make_folder(target.parent)
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


def _is_special(source: Input, target: Path, options: Options) -> bool:
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
