"""One parallel map, joblib's, so that every joblib backend (loky, threads, dask, Ray, Spark) serves; and reading ahead.

Sums that OpenMP and BLAS split over threads round by the number of threads, and a tree turns a rounding into
another split. Work within `one_thread` gives the same bits on a machine of any number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits

from corrigible.errors import InvalidParameterError

T = TypeVar("T")

_within: ContextVar[bool] = ContextVar("within one_thread", default=False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let native code use one thread, also in tasks of `parallel_map` that run in other processes."""
    token = _within.set(True)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        _within.reset(token)


def _on_one_thread(function: Callable[..., T], *task: Any) -> T:
    with one_thread():
        return function(*task)


def parallel_map(
    function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], *, n_jobs: int | None = None
) -> list[T]:
    """Return ``[function(*task) for task in tasks]`` in order.

    Parameters
    ----------
    function : callable
        A top-level, pure function; its arguments are read-only to it.
    tasks : iterable of tuple
        Arguments of each call.
    n_jobs : int, optional
        As in joblib: None is 1 unless a ``joblib.parallel_config`` says otherwise, -1 is all cores.
    """
    if n_jobs == 0:
        raise InvalidParameterError("The 'n_jobs' parameter must be None or an integer other than 0. Got 0.")
    call = partial(_on_one_thread, function) if _within.get() else function
    return list(Parallel(n_jobs=n_jobs)(delayed(call)(*task) for task in tasks))


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield the items in order, the next being made in a thread while one is used.

    Worth it where making and using an item both spend their time outside Python: reading, numpy, writing.
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        coming: Future[Any] = pool.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, iterator, end)
            yield item
