"""What a user sees while waiting: a progress bar on a terminal, a line for each file with -v."""

import sys
import time
from types import TracebackType
from typing import Any, Protocol

import click

from nczip.coder.jit import kernel_cache_folder
from nczip.options import Announce


class _Verbosity(Protocol):
    @property
    def quiet(self) -> bool: ...
    @property
    def verbose(self) -> bool: ...


def first_run_announcer(quiet: bool) -> Announce | None:
    """What says that something takes long, but only once; it says so of compiling at once."""
    if quiet:
        return None
    if not any(kernel_cache_folder().rglob("*.nbi")):
        click.echo("nczip: first run: compiling kernels, some 20 seconds, once", err=True)
    return lambda what: click.echo(f"nczip: first run: {what}", err=True)


class Progress:
    """Counts bytes in and out of one file; shows them as its verbosity asks."""

    def __init__(self, name: str, total: int | None, verbosity: _Verbosity) -> None:
        self._name = "standard input" if name == "-" else name
        self._verbose = verbosity.verbose
        self._start = time.monotonic()
        self._read = self._written = 0
        self._bar: Any = None
        if sys.stderr.isatty() and not verbosity.quiet:
            self._bar = _bar(self._name, total)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def advance(self, read: int, written: int) -> None:
        """Bytes read and written since the last call."""
        self._read += read
        self._written += written
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=read, ratio=self._ratio())

    def _ratio(self) -> str:
        return f"{self._written / self._read:.1%}" if self._read else ""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._verbose and kind is None:
            seconds = max(time.monotonic() - self._start, 1e-6)
            speed = max(self._read, self._written) / seconds / 1000
            click.echo(
                f"{self._name}: {self._read} -> {self._written} bytes ({self._ratio()}), "
                f"{seconds:.1f} s, {speed:.0f} kB/s",
                err=True,
            )


def _bar(name: str, total: int | None) -> Any:
    """A bar with speed and ratio on stderr."""
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TextColumn("{task.fields[ratio]}"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(name, total=total, ratio="")
    return bar
