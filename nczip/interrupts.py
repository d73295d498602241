"""Signals that end a run at once, and leave nothing behind.

Python runs signal handlers on the main thread between two of its instructions, and a kernel codes a
whole block in one. So the work is done on another thread, and the main thread waits where signals
reach it. It has coders stop, gives them half a second, removes what is unfinished, and ends the
process by the signal itself, as callers expect of it.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn, TypeVar

T = TypeVar("T")

_GRACE_SECONDS = 0.5
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_SHOW_CURSOR = "\x1b[?25h"


class Signalled(BaseException):
    """A signal that ends a process has come."""

    def __init__(self, number: int) -> None:
        self.number = number


def run_until_signalled(action: Callable[[], T]) -> T:
    """The result of ``action``, which runs on a thread of its own; ends the process on a signal."""
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    worker = threading.Thread(target=run, name="nczip", daemon=True)
    try:
        with raising_signals():
            worker.start()
            done.wait()
    except Signalled as signalled:
        _stop(worker, signalled.number)
    if errors:
        raise errors[0]
    return results[0]


@contextlib.contextmanager
def raising_signals() -> Iterator[None]:
    """Signals that end a process raise in the main thread, but for those that callers ignore."""

    def handle(number: int, _: FrameType | None) -> None:
        raise Signalled(number)

    before = {}
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(worker: threading.Thread, number: int) -> None:
    from nczip.coder.rangecoder import abort_all
    from nczip.sinks import discard_parts

    for name in _SIGNALS:  # a second Ctrl-C must not stop the cleaning up
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    abort_all(for_good=True)
    worker.join(_GRACE_SECONDS)
    discard_parts()
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)
    if sys.stderr is not None:
        sys.stderr.write("nczip: interrupted\n")
        sys.stderr.flush()
    die_by(number)


def die_by(number: int) -> NoReturn:
    """End the process by a signal's default action: shells and make look at that."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # where the signal is blocked
