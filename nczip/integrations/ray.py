"""Compression on a Ray cluster: blocks are coded by actors, each with one loaded model.

What comes out is, byte for byte, what one machine makes with the same options. The process that
calls reads the input (anything that fsspec opens), hands blocks to the actors, and writes what they
return in its order; so workers need neither credentials nor a shared disk. Blocks that are done are
kept beside the output until it is complete: whoever calls again after a crash goes on from there.
"""

import contextlib
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from queue import Queue
from typing import Any, Unpack

import xxhash

from nczip import __version__
from nczip.archive import find_members
from nczip.decoding import Decoders, check_output
from nczip.errors import CorruptError, FormatError, NczipError
from nczip.formats.container import (
    VERSION,
    Index,
    Place,
    build_index,
    check32,
    member_check,
    pack_coding,
    parse_block_header,
    parse_header,
)
from nczip.integrations.ray_storage import (
    File,
    Listing,
    Parts,
    existing,
    list_files,
    open_input,
    open_output,
    read_at,
    read_fully,
    reason,
)
from nczip.options import CompressKeywords, DecompressKeywords
from nczip.presets import Level, PresetName

_FILES_AT_ONCE = 16  # at least: object stores answer slowly
_CALLS_AHEAD = 2  # for each worker: one at work, one whose block is on its way
_RETRIES = 3  # of a block whose worker died


class ClusterError(NczipError):
    """The cluster does not do the work."""


@dataclass(frozen=True)
class Resources:
    """What to take of a cluster.

    Raises:
        ValueError: a value that cannot be.
    """

    address: str | None = None  #: of the cluster; None for what Ray finds, else this machine alone
    workers: int | None = None  #: actors; None for as many as there is room for
    cpus: float = 1  #: of each worker
    gpus: float | None = None  #: of each worker; None for one where they are and serve

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError("there must be one worker at least")
        if self.cpus <= 0 or (self.gpus is not None and self.gpus < 0):
            raise ValueError("a worker must have CPUs")


@dataclass
class Counts:
    """How far a job is; bytes are those of blocks that are done."""

    read: int = 0  #: bytes of the inputs
    written: int = 0  #: bytes of the outputs, or of what they would be
    blocks: int = 0
    kept_blocks: int = 0  #: of those, done by an earlier run


@dataclass(frozen=True)
class FileResult:
    """What became of a file."""

    source: str
    target: str | None
    read: int  #: bytes
    written: int  #: bytes
    blocks: int
    error: str | None = None  #: why it was not done


@dataclass
class Summary:
    """What became of a job."""

    workers: int = 0  #: none where there was nothing to do
    files: list[FileResult] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  #: targets that exist, and are not replaced
    passed_over: int = 0  #: files that the command is not for
    finished_before: int = 0  #: files done by an earlier run
    blocks: int = 0
    kept_blocks: int = 0  #: of those, done by an earlier run
    read: int = 0  #: bytes
    written: int = 0  #: bytes
    seconds: float = 0.0

    @property
    def failed(self) -> list[FileResult]:
        return [result for result in self.files if result.error is not None]


#: Told after each block; on whichever thread.
Report = Callable[[Counts], object]


def compress(
    source: str,
    target: str,
    preset: PresetName | Level = "default",
    *,
    resources: Resources | None = None,
    replace: bool = False,
    report: Report | None = None,
    **options: Unpack[CompressKeywords],
) -> Summary:
    """Compress a file, or all files of a folder or a pattern.

    Args:
        source: path or URL of fsspec.
        target: a file where ``source`` is one, else a folder, in which files get ``.ncz``.
        preset: as for :class:`nczip.Compressor`.
        options: likewise, but ``threads`` and ``announce`` mean nothing; paths are those on the
            workers.
        resources: what to take of which cluster.
        replace: targets that exist; else they are skipped.
        report: told how far the job is.

    Raises:
        ClusterError: no cluster, or its workers do not serve.
        NczipError: source or target cannot be listed, or the options do not hold on the workers.
    """
    listing = list_files(source, target, compressing=True)
    chosen = _for_workers({"preset": preset, **options})
    job = {"command": "c", "source": source, "target": target, "options": chosen}
    return _do(_Plan(listing, job, replace), _Compression, chosen, resources, report)


def decompress(
    source: str,
    target: str,
    *,
    resources: Resources | None = None,
    replace: bool = False,
    report: Report | None = None,
    **options: Unpack[DecompressKeywords],
) -> Summary:
    """Decompress a file, or all ``.ncz`` files of a folder or a pattern; see :func:`compress`."""
    listing = list_files(source, target, compressing=False)
    job = {"command": "d", "source": source, "target": target}
    chosen = _for_workers(options)
    plan = _Plan(listing, job, replace, options.get("max_output"))
    return _do(plan, _Decompression, chosen, resources, report)


def test(
    source: str,
    *,
    resources: Resources | None = None,
    report: Report | None = None,
    **options: Unpack[DecompressKeywords],
) -> Summary:
    """Decompress as :func:`decompress` does, compare every check, and write nothing."""
    listing = list_files(source, None, compressing=False)
    chosen = _for_workers(options)
    plan = _Plan(listing, None, False, options.get("max_output"))
    return _do(plan, _Decompression, chosen, resources, report)


def _for_workers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that are given and say something to a worker."""
    here = ("threads", "announce", "detail")
    return {
        name: value for name, value in options.items() if name not in here and value is not None
    }


@dataclass(frozen=True)
class Description:
    """What a worker is, and what it makes of its options."""

    host: str
    pid: int
    head: bytes  #: of members of more than one block
    block_size: int  #: bytes


class Worker:
    """An actor: codes blocks under one model.

    Args:
        version: of the nczip that calls.
        options: of a Compressor, with its preset, or of a Decompressor.
    """

    def __init__(self, version: str, options: dict[str, Any]) -> None:
        self._version = version
        self._options = options
        self._loaded: Any = None

    def _encoder(self) -> Any:
        """Loaded at the first call and not before: what a constructor raises, Ray wraps twice."""
        from nczip.stream import BlockEncoder

        if self._loaded is None:
            self._compare_versions()
            self._loaded = BlockEncoder(**self._options)
        return self._loaded

    def _compare_versions(self) -> None:
        if self._version != __version__:
            raise ClusterError(
                f"the workers have nczip {__version__}, the caller has {self._version}: "
                "install the same on both"
            )

    def locate(self) -> tuple[str, int]:
        """Host and process id."""
        self._compare_versions()
        return socket.gethostname(), os.getpid()

    def describe(self) -> Description:
        """What the worker makes of its options, which are those of a Compressor."""
        encoder = self._encoder()
        return Description(*self.locate(), encoder.head, encoder.block_size)

    def compress(self, raw: bytes) -> bytes:
        """A whole stream, which is of one block or none."""
        from nczip.stream import Compressor

        compressor = Compressor(**self._options)
        return compressor.compress(raw) + compressor.flush()

    def encode(self, head: bytes, raw: bytes, number: int) -> bytes:
        """The frame of a block of the member that has this header."""
        encoder = self._encoder()
        if encoder.head != head:
            raise ClusterError(
                "this worker's model or llama.cpp is not that of the others: "
                "use machines of one kind and one installation, or --engine exact"
            )
        frame: bytes = encoder.encode(raw, number)
        return frame

    def decode(self, head: bytes, frame: bytes, number: int) -> bytes:
        """The verified raw bytes of a block."""
        if self._loaded is None:
            self._loaded = Decoders(**self._options)
        header, _ = parse_header(head)
        raw: bytes = self._loaded.of(header).decode(frame, Place(member_check(head), number))
        return raw


class Cluster:
    """Workers on a Ray cluster, for as long as the context lasts.

    A worker that dies is started again, and its blocks with it.

    Args:
        resources: what to take.
        options: of the :class:`Worker`.

    Attributes:
        workers: handles of the actors.

    Raises:
        ClusterError: Ray is not installed, or no cluster is there.
    """

    def __init__(self, resources: Resources, options: dict[str, Any]) -> None:
        self._ray = _import_ray()
        self._is_stopped = False
        self._idle: Queue[Any] = Queue()
        self.workers: list[Any] = []
        self._owns_connection = not self._ray.is_initialized()
        if self._owns_connection:
            self._connect(resources)
        try:
            self.workers = self._start_workers(resources, options)
        except BaseException:
            self.close()
            raise
        for _ in range(_CALLS_AHEAD):
            for worker in self.workers:
                self._idle.put(worker)

    def _connect(self, resources: Resources) -> None:
        arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if resources.address is None and "RAY_ADDRESS" not in os.environ:
            arguments["include_dashboard"] = False
        handler = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(address=resources.address, **arguments)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise ClusterError(f"no Ray cluster: {reason(error)}") from error
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGTERM, handler)  # that of Ray aborts after three seconds

    def _start_workers(self, resources: Resources, options: dict[str, Any]) -> list[Any]:
        there = self._ray.cluster_resources()
        gpus = resources.gpus
        if gpus is None:
            gpus = 1 if options.get("engine") == "llama" and there.get("GPU", 0) >= 1 else 0
        count = resources.workers
        if count is None:
            count = int(there.get("CPU", 0) // resources.cpus)
            count = min(count, int(there["GPU"] // gpus)) if gpus else count
        if not count:
            raise ClusterError(f"the cluster has no room for a worker of {resources.cpus} CPUs")
        actor = self._ray.remote(
            num_cpus=resources.cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=_RETRIES
        )(Worker)
        return [actor.remote(__version__, options) for _ in range(count)]

    @property
    def calls_at_once(self) -> int:
        """How many calls keep all workers busy."""
        return _CALLS_AHEAD * len(self.workers)

    def call(self, method: str, *arguments: Any) -> Any:
        """The result of a method of whichever worker is free; waits for one and for it.

        Raises:
            NczipError: as the method does.
            ClusterError: its worker died again and again.
        """
        worker = self._idle.get()
        if worker is None:
            self._idle.put(None)
            raise ClusterError("the job was given up")
        try:
            return self._ray.get(getattr(worker, method).remote(*arguments))
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from None
            raise ClusterError(f"a worker failed: {error}") from error
        except self._ray.exceptions.RayError as error:
            raise ClusterError(
                f"a worker died {_RETRIES + 1} times over the same block; where memory was short, "
                f"take fewer workers or more CPUs for each ({type(error).__name__})"
            ) from error
        finally:
            if not self._is_stopped:
                self._idle.put(worker)

    def stop(self) -> None:
        """End the workers, and calls that wait for them with an error."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._idle.queue.clear()
        self._idle.put(None)
        for worker in self.workers:
            self._ray.kill(worker)

    def close(self) -> None:
        """End the workers, and the connection if it was made here."""
        self.stop()
        if self._owns_connection:
            self._ray.shutdown()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ClusterError("this needs Ray: pip install 'nczip[ray]'") from error
    return ray


class _Plan:
    """What there is to do, of which an earlier run may have done some.

    Args:
        listing: the files.
        job: what the bytes of blocks depend on; None to keep none, where nothing is written.
        replace: targets that exist.
        max_output: raw bytes that may come out of a file; None for any number.

    Attributes:
        files: those to be done.
        parts: blocks that are kept; None where none are.
        summary: of what need not be done.
    """

    def __init__(
        self,
        listing: Listing,
        job: dict[str, Any] | None,
        replace: bool,
        max_output: int | None = None,
    ) -> None:
        self.files = listing.files
        self.replace = replace
        self.max_output = max_output
        self.parts: Parts | None = None
        self.summary = Summary(passed_over=listing.passed_over)
        if job is None:
            return
        there = existing(listing.files)
        versions = {"nczip": __version__, "format": VERSION}
        self.parts = Parts(listing.parts, job | versions, listing.files, there)
        done = there - self.parts.foreign
        kept = set() if replace else there & self.parts.foreign
        self.files = [file for file in self.files if file.target not in done | kept]
        self.summary.finished_before = len(done)
        self.summary.skipped = sorted(kept)

    def give_up(self) -> None:
        """Leave things as they were: nothing has begun."""
        if self.parts is not None and not self.parts.is_resumed:
            self.parts.remove()

    def finish(self) -> Summary:
        """The summary, once it says what was done; nothing is kept if that is all."""
        if self.parts is not None and not self.summary.failed:
            self.parts.remove()
        self.summary.files.sort(key=lambda result: result.source)
        return self.summary


def _do(
    plan: _Plan,
    kind: "type[_Compression | _Decompression]",
    options: dict[str, Any],
    resources: Resources | None,
    report: Report | None,
) -> Summary:
    """Do what is planned, with workers of these options."""
    if not plan.files:
        return plan.finish()
    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(Cluster(resources or Resources(), options))
            job = _Job(cluster, kind, plan, report)
        except BaseException:
            plan.give_up()
            raise
        job.run()
    return plan.finish()


class _Job:
    """The files of a plan, several at once.

    Args:
        cluster: does the work.
        kind: what is done with each file.
        plan: the files; its summary is filled in.
        report: told of each block.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: "type[_Compression | _Decompression]",
        plan: _Plan,
        report: Report | None,
    ) -> None:
        self.cluster = cluster
        self.replace = plan.replace
        self.max_output = plan.max_output
        self._plan = plan
        self._parts = plan.parts
        self._report = report
        self._lock = threading.Lock()
        self._counts = Counts()
        self._calls = ThreadPoolExecutor(cluster.calls_at_once, "nczip call")
        # No more blocks are read than calls wait for.
        self._room = threading.Semaphore(cluster.calls_at_once + _FILES_AT_ONCE)
        self._kind = kind(self)

    def run(self) -> None:
        """Do it; what goes wrong with a file stands in its result."""
        start = time.monotonic()
        summary = self._plan.summary
        summary.workers = len(self.cluster.workers)
        at_once = max(_FILES_AT_ONCE, self.cluster.calls_at_once)
        executor = ThreadPoolExecutor(at_once, "nczip file")
        try:
            files = [executor.submit(self._try, file) for file in self._plan.files]
            summary.files += [done.result() for done in as_completed(files)]
        except BaseException:
            self.cluster.stop()  # which ends all calls that others wait for
            raise
        finally:
            executor.shutdown(cancel_futures=True)
            self._calls.shutdown(cancel_futures=True)
        for name, value in asdict(self._counts).items():
            setattr(summary, name, value)
        summary.seconds = time.monotonic() - start

    def _try(self, file: File) -> FileResult:
        before = _FileCounts()
        error = None
        try:
            self._kind.do(file, before)
        except Exception as failure:
            error = reason(failure)
        return FileResult(
            file.source, file.target, before.read, before.written, before.blocks, error
        )

    def start(
        self, name: str, is_good: Callable[[bytes], bool], method: str, *arguments: Any
    ) -> "Future[bytes]":
        """Have a block made, or taken from an earlier run if that is good; waits for room."""
        self._room.acquire()
        future = self._calls.submit(self._make, name, is_good, method, *arguments)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def _make(
        self, name: str, is_good: Callable[[bytes], bool], method: str, *arguments: Any
    ) -> bytes:
        kept = self._parts.read(name) if self._parts is not None else None
        if kept is not None and is_good(kept):
            with self._lock:
                self._counts.kept_blocks += 1
            return kept
        made: bytes = self.cluster.call(method, *arguments)
        if self._parts is not None:
            self._parts.write(name, made)
        return made

    def count(self, file: "_FileCounts", read: int, written: int, blocks: int = 1) -> None:
        """Blocks of a file are done."""
        with self._lock:
            for counts in (self._counts, file):
                counts.read += read
                counts.written += written
                counts.blocks += blocks
            if self._report is not None:
                self._report(self._counts)

    def in_order(self, blocks: Iterator["_Block"]) -> Iterator["_Block"]:
        """Blocks as they were started, each when it is done; few wait for the oldest."""
        waiting: deque[_Block] = deque()
        for block in blocks:
            waiting.append(block)
            while waiting and (waiting[0].made.done() or len(waiting) > self.cluster.calls_at_once):
                yield waiting.popleft()
        yield from waiting


@dataclass
class _FileCounts:
    read: int = 0
    written: int = 0
    blocks: int = 0


@dataclass(frozen=True)
class _Block:
    """A block that is being made."""

    made: "Future[bytes]"
    read: int  #: bytes of the input
    member: int = 0


class _Compression:
    """What is done with a file that is to be compressed."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._description: Description = job.cluster.call("describe")

    def do(self, file: File, counts: _FileCounts) -> None:
        """Make the archive of a file."""
        assert file.target is not None
        size = self._description.block_size
        with (
            open_input(file.source) as source,
            open_output(file.target, source, self._job.replace) as sink,
        ):
            first = read_fully(source, size)
            second = read_fully(source, size) if len(first) == size else b""
            if not second:
                whole: bytes = self._job.cluster.call("compress", first)
                sink.write(whole)
                self._job.count(counts, len(first), len(whole), int(bool(first)))
                return
            sink.write(self._description.head)
            check, index = xxhash.xxh3_64(), Index()

            def blocks() -> Iterator[_Block]:
                raw, following, number = first, second, 0
                while raw:
                    check.update(raw)
                    yield self._start(file, raw, number)
                    raw, following = following, read_fully(source, size)
                    number += 1

            for block in self._job.in_order(blocks()):
                frame = block.made.result()
                sink.write(frame)
                index.blocks.append((block.read, len(frame)))
                self._job.count(counts, block.read, len(frame))
            header, _ = parse_header(self._description.head)
            index.coding = pack_coding(header)
            index.whole_check = check.intdigest()
            end = build_index(index)
            sink.write(end)
            self._job.count(counts, 0, len(self._description.head) + len(end), 0)

    def _start(self, file: File, raw: bytes, number: int) -> _Block:
        head = self._description.head
        name = f"{file.key}-{number:08d}"

        def is_good(frame: bytes) -> bool:
            return _is_frame_of(head, frame, raw, number)

        return _Block(self._job.start(name, is_good, "encode", head, raw, number), len(raw))


def _is_frame_of(head: bytes, frame: bytes, raw: bytes, number: int) -> bool:
    """Whether a frame is whole, in its place, and holds these bytes."""
    header, _ = parse_header(head)
    try:
        block, size = parse_block_header(frame, header, Place(member_check(head), number))
    except FormatError:
        return False
    payload = frame[size:]
    is_whole = block.payload_size == len(payload) and block.payload_check == check32(payload)
    return is_whole and block.raw_check == xxhash.xxh3_64_intdigest(raw)


class _Decompression:
    """What is done with a file that is to be decompressed, or only tested."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        job.cluster.call("locate")

    def do(self, file: File, counts: _FileCounts) -> None:
        """Bring the content of an archive back."""
        with open_input(file.source) as source:
            if file.target is None:
                self._decode(file, source, len, counts)
                return
            with open_output(file.target, source, self._job.replace) as sink:
                self._decode(file, source, sink.write, counts)

    def _decode(
        self, file: File, source: Any, write: Callable[[bytes], int], counts: _FileCounts
    ) -> None:
        try:
            source.seek(0, os.SEEK_END)
        except (OSError, ValueError) as error:
            advice = "put simplecache:: before its URL"
            raise NczipError(f"the source cannot be sought: {advice}") from error
        members = find_members(source)
        check_output(sum(member.index.raw_size for member in members), self._job.max_output)
        checks = [xxhash.xxh3_64() for _ in members]

        def blocks() -> Iterator[_Block]:
            for number, member in enumerate(members):
                head = read_at(source, member.start, member.header_size)
                offset = member.start + member.header_size
                for place, (raw_size, frame_size) in enumerate(member.index.blocks):
                    frame = read_at(source, offset, frame_size)
                    offset += frame_size
                    made = self._start(file, number, place, head, frame, raw_size)
                    yield _Block(made, frame_size, number)

        for block in self._job.in_order(blocks()):
            raw = block.made.result()
            checks[block.member].update(raw)
            write(raw)
            self._job.count(counts, block.read, len(raw))
        for member, check in zip(members, checks, strict=True):
            if check.intdigest() != member.index.whole_check:
                raise CorruptError("a member does not hold the bytes that were compressed")

    def _start(
        self, file: File, member: int, number: int, head: bytes, frame: bytes, raw_size: int
    ) -> "Future[bytes]":
        header, _ = parse_header(head)
        block, _ = parse_block_header(frame, header, Place(member_check(head), number))
        if block.raw_size != raw_size:
            raise CorruptError("the index does not agree with the blocks")

        def is_good(raw: bytes) -> bool:
            return len(raw) == raw_size and xxhash.xxh3_64_intdigest(raw) == block.raw_check

        name = f"{file.key}-{member:04d}-{number:08d}"
        return self._job.start(name, is_good, "decode", head, frame, number)
