"""What a user sees while waiting: a progress bar on a terminal, a line for each file with -v."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from nczip.coder.kernelcache import has_kernels
from nczip.options import Announce
from nczip.terminal import printable, say

_SECONDS_BETWEEN_LOOKS = 0.2


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
        self._verbose = verbosity.verbose
        self._start = time.monotonic()
        self._coded = coded
        self.raw = self.compressed = 0  #: bytes so far
        self._stopped = threading.Event()
        self._bar: Any = None
        if shows_bar(verbosity):
            self._bar = _bar(self._name, total)
            self._looker = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
            self._looker.start()
        return self

    def _look(self) -> None:
        """Show how far coding is, which goes on inside of a block where nobody else reports it."""
        while not self._stopped.wait(_SECONDS_BETWEEN_LOOKS):
            self.show()

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
        if self._bar is not None:
            self._looker.join()
            with contextlib.suppress(OSError):  # the terminal may have gone
                self._bar.stop()

    def report(self, read: int, written: int) -> None:
        """With -v, a line on sizes and speed."""
        if self._verbose:
            seconds = max(time.monotonic() - self._start, 1e-6)
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
