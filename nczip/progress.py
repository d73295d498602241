"""What a user sees while waiting: a progress bar on a terminal, a line for each file with -v."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from nczip.coder.kernelcache import has_kernels
from nczip.estimate import in_words
from nczip.options import Announce
from nczip.terminal import printable, say

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_BEFORE_ESTIMATE = 2
_SECONDS_WORTH_ESTIMATING = 5


class _Verbosity(Protocol):
    @property
    def quiet(self) -> bool: ...
    @property
    def verbose(self) -> bool: ...


def announcer(quiet: bool) -> Announce | None:
    """What says what a user should know; of compiling it says so at once."""
    if quiet:
        return None
    if not has_kernels():
        say("first run: compiling kernels, some 20 seconds, once")
    return say


def shows_bar(verbosity: _Verbosity) -> bool:
    """Whether a bar is wanted: on a terminal only."""
    return sys.stderr is not None and sys.stderr.isatty() and not verbosity.quiet


class Progress:
    """Shows how much of one file has been coded, as its verbosity asks.

    Args:
        name: the file's.
        total: what there is to code in bytes, in the unit of ``coded``; None where nobody knows.
        coded: asked again and again: how much of it has been coded.
        verbosity: whether to show anything.
    """

    def __init__(
        self, name: str, total: int | None, coded: Callable[[], int], verbosity: _Verbosity
    ) -> None:
        self._name = printable(name)
        self._total = total
        self._verbose = verbosity.verbose
        self._start = time.monotonic()
        self._coded = coded
        self.raw = self.compressed = 0  #: bytes so far
        #: What will have come out, where that is known beforehand: then -v says how long it takes.
        self.raw_total: int | None = None
        self._stopped = threading.Event()
        self._bar: Any = None
        if shows_bar(verbosity):
            self._bar = _bar(self._name, total)
        self._looker = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        if self._bar is not None or self._verbose:
            self._looker.start()
        return self

    def _look(self) -> None:
        """Show how far coding is, which goes on inside of a block where nobody else reports it."""
        can_estimate = self._bar is None  # which shows the time that is left
        can_estimate = can_estimate and bool(self._total) and self.raw_total is not None
        began, at_first = 0.0, 0  # when coding was seen at work: loading a model is not its speed
        while not self._stopped.wait(_SECONDS_BETWEEN_LOOKS):
            self.show()
            if not can_estimate:
                continue
            now, done = self._seconds(), self._coded()
            if not at_first:
                began, at_first = now, done
            elif done > at_first and now - began >= _SECONDS_BEFORE_ESTIMATE:
                can_estimate = False
                self._estimate((done - at_first) / (now - began), done)

    def _seconds(self) -> float:
        return time.monotonic() - self._start

    def _estimate(self, speed: float, done: int) -> None:
        """Say how long the rest will take, if that is long.

        Args:
            speed: of coding, a second, in the unit of ``done``.
            done: what has been coded.
        """
        assert self._total and self.raw_total is not None
        left = (self._total - done) / speed
        if left > _SECONDS_WORTH_ESTIMATING:
            raw_speed = speed * self.raw_total / self._total
            say(f"{self._name}: {in_words(left, raw_speed)} for the rest")

    def show(self) -> None:
        """Bring the bar up to date."""
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=self._coded(), ratio=self._ratio())

    def _ratio(self) -> str:
        return f"{self.compressed / self.raw:.1%}" if self.raw and self.compressed else ""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        if self._looker.is_alive():
            self._looker.join()
        if self._bar is not None:
            with contextlib.suppress(OSError):  # the terminal may have gone
                self._bar.stop()

    def report(self, read: int, written: int) -> None:
        """With -v, a line on sizes and speed."""
        if self._verbose:
            seconds = max(self._seconds(), 1e-6)
            speed = self.raw / seconds / 1000
            say(
                f"{self._name}: {read} -> {written} bytes ({self._ratio()}), "
                f"{seconds:.1f} s, {speed:.0f} kB/s"
            )


class ProgressLines:
    """A :data:`nczip.downloads.Report` that says a line for each tenth of the whole.

    A second bar would be drawn over the first one.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._tenths = 0

    def __call__(self, label: str, done: int, total: int | None) -> None:
        tenths = 10 * done // total if total else 0
        if tenths > self._tenths and not self._quiet:
            say(f"{label}: {tenths}0 %")
        self._tenths = tenths


def _bar(name: str, total: int | None) -> Any:
    """A bar with speed and ratio on stderr."""
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TextColumn("{task.fields[ratio]}", markup=False),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(name, total=total, ratio="")
    return bar
