"""Blocks on threads, results in order. Kernels and llama.cpp release the GIL."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class OrderedPool(Generic[T]):
    """Runs calls on ``threads`` threads and hands their results out in the order of submission.

    One thread means none: the call runs in :meth:`submit`.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads) if threads > 1 else None
        self._limit = threads
        self._queue: deque[Future[T]] = deque()

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        """Start a call; an exception of it surfaces when its result is taken."""
        if self._executor is not None:
            self._queue.append(self._executor.submit(function, *args, **kwargs))
            return
        future: Future[T] = Future()
        self._queue.append(future)
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)

    @property
    def is_full(self) -> bool:
        """Whether as many calls wait or run as there are threads."""
        return len(self._queue) >= self._limit

    @property
    def is_empty(self) -> bool:
        return not self._queue

    def take(self) -> T:
        """The oldest result, waiting for it."""
        return self._queue.popleft().result()

    def finished(self) -> Iterator[T]:
        """Results that need no waiting, oldest first."""
        while self._queue and self._queue[0].done():
            yield self.take()

    def close(self) -> None:
        """Give up what has not started, wait for what has."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        self._queue.clear()
