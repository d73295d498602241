"""Many cases, in processes whose memory and time are bounded."""

import ctypes
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nczip

from .cases import TARGETS, run_case, target_of
from .readers import MEMORY_LIMIT, WrongBytesError

MOST_SECONDS = 20  # of processor time, for a case
_STUCK_SECONDS = 200  # of any time: a deadlock takes no processor time
_TELL_SECONDS = 60
# Beside the limit for what decoding needs: mixers, contexts, Python's own.
_SLACK = 64 << 20
_M_ARENA_MAX = -8
_FAILURES = ("wrong bytes", "foreign exceptions", "slow", "over memory")
#: Cells of a worker's state; then taken and refused, for each target.
_NUMBER, _STARTED, _SLOWEST, _COUNTS = range(4)


@dataclass(frozen=True)
class Failure:
    """A case that did what must not be; ``python -m tests.fuzz --replay FILE`` repeats it."""

    what: str
    seed: int
    number: int
    target: str
    input: str  #: hexadecimal
    details: str

    def save(self, folder: Path) -> Path:
        """Write it to a file of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.target.replace(' ', '-')}-{self.seed}-{self.number}.json"
        path.write_text(json.dumps(vars(self), indent=1) + "\n")
        return path


def judge(seed: int, number: int) -> tuple[BaseException | None, Failure | None]:
    """Run a case: the error that refused it, and what was wrong with it."""
    held: list[bytes] = []
    try:
        return run_case(seed, number, held.append), None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        what = {WrongBytesError: 0, MemoryError: 3}.get(type(error), 1)
        return None, _failure(what, seed, number, held, traceback.format_exc())


def _failure(what: int, seed: int, number: int, held: list[bytes], details: str) -> Failure:
    data = held[0].hex() if held else ""
    return Failure(_FAILURES[what], seed, number, target_of(number), data, details)


def load_kernels() -> None:
    """Compile or load the kernels of every layout: a compiler takes more than cases may."""
    for preset in ("swift", "quick", "fast"):
        nczip.decompress(nczip.compress(b"a few words, and again a few words" * 9, preset))


def bound_memory() -> None:
    """From here on the process gets little more memory than a decoder may need."""
    # Each thread's arena would reserve 64 MiB that it never uses.
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_LIMIT + _SLACK
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _work(state: Any, seed: int, first: int, stop: int, step: int, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bound_memory()
    numbers = {name: i for i, name in enumerate(TARGETS)}
    for number in range(first, stop, step):
        state[_NUMBER], state[_STARTED] = number, time.process_time()
        error, failure = judge(seed, number)
        took = time.process_time() - state[_STARTED]
        state[_SLOWEST] = max(state[_SLOWEST], took)
        cell = _COUNTS + len(_FAILURES) + 2 * numbers[target_of(number)] + (error is not None)
        if failure is not None:
            failure.save(folder)
            cell = _COUNTS + _FAILURES.index(failure.what)
        elif took > MOST_SECONDS:
            cell = _COUNTS + _FAILURES.index("slow")
        state[cell] += 1
    state[_NUMBER] = stop


class _Worker:
    """A process at its share of the cases; another takes over where one has to be ended."""

    def __init__(self, seed: int, job: int, jobs: int, inputs: int, folder: Path) -> None:
        self._context = multiprocessing.get_context("fork")
        self.state = self._context.Array(
            "d", _COUNTS + len(_FAILURES) + 2 * len(TARGETS), lock=False
        )
        self._seed, self._jobs, self._inputs, self._folder = seed, jobs, inputs, folder
        self._start(job)

    def _start(self, first: int) -> None:
        self.state[_NUMBER] = first
        self._since = time.monotonic(), first
        share = (self._seed, first, self._inputs, self._jobs, self._folder)
        self._process = self._context.Process(target=_work, args=(self.state, *share))
        self._process.start()

    @property
    def is_done(self) -> bool:
        return not self._process.is_alive() and self.state[_NUMBER] >= self._inputs

    def end(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.join()

    def watch(self) -> None:
        """Replace a process that has died, or that works at a case for too long."""
        number = int(self.state[_NUMBER])
        now = time.monotonic()
        if self._since[1] != number:
            self._since = now, number
        if not self._process.is_alive():
            if number < self._inputs:
                code = self._process.exitcode
                self._give_up(1, number, f"the process died with code {code}")
            return
        slow = self._processor_seconds() - self.state[_STARTED] > MOST_SECONDS
        if slow or now - self._since[0] > _STUCK_SECONDS:
            self.end()
            self._give_up(2, number, f"over {MOST_SECONDS} s")

    def _give_up(self, what: int, number: int, details: str) -> None:
        self.state[_COUNTS + what] += 1
        self.state[_SLOWEST] = max(self.state[_SLOWEST], MOST_SECONDS if what == 2 else 0)
        _failure(what, self._seed, number, [], details).save(self._folder)
        self._start(number + self._jobs)

    def _processor_seconds(self) -> float:
        try:
            text = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return 0.0
        ticks = text.rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Summary:
    """What a campaign came to."""

    failures: dict[str, int]
    targets: dict[str, tuple[int, int]]  #: taken and refused
    slowest: float  #: seconds

    @property
    def inputs(self) -> int:
        counted = sum(taken + refused for taken, refused in self.targets.values())
        return counted + sum(self.failures.values())

    def __str__(self) -> str:
        failures = ", ".join(f"{count} {what}" for what, count in self.failures.items())
        return f"{self.inputs} inputs: {failures}; slowest {self.slowest:.2f} s"

    def table(self) -> str:
        """The targets, and how many inputs were taken and refused."""
        lines = [f"{'':12}{'taken':>10}{'refused':>10}"]
        lines += [f"{name:12}{a:10}{b:10}" for name, (a, b) in self.targets.items()]
        return "\n".join(lines)


def _sum_up(states: Sequence[Any]) -> Summary:
    cells = [sum(int(state[i]) for state in states) for i in range(len(states[0]))]
    counts = cells[_COUNTS + len(_FAILURES) :]
    return Summary(
        failures=dict(zip(_FAILURES, cells[_COUNTS:], strict=False)),
        targets={name: (counts[2 * i], counts[2 * i + 1]) for i, name in enumerate(TARGETS)},
        slowest=max(state[_SLOWEST] for state in states),
    )


def campaign(
    seed: int, jobs: int, folder: Path, *, inputs: int = 1 << 50, seconds: float = 1e9
) -> Summary:
    """Run cases until there are enough, or the time is over.

    Args:
        seed: of the cases.
        jobs: processes.
        folder: for failures.
    """
    for number in range(len(TARGETS)):  # kernels are compiled before memory and time count
        judge(0, number)
    load_kernels()
    workers = [_Worker(seed, job, jobs, inputs, folder) for job in range(jobs)]
    end = time.monotonic() + seconds
    told = time.monotonic()
    try:
        while time.monotonic() < end and not all(worker.is_done for worker in workers):
            time.sleep(0.2)
            for worker in workers:
                worker.watch()
            if time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                print(_sum_up([worker.state for worker in workers]), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        pass
    for worker in workers:
        worker.end()
    return _sum_up([worker.state for worker in workers])
