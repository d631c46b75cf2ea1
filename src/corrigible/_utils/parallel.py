"""One parallel map, joblib's, so that every joblib backend (loky, threads, dask, Ray, Spark) serves; and reading ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from sklearn.utils.parallel import Parallel, delayed

from corrigible.errors import InvalidParameterError

T = TypeVar("T")


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
    return list(Parallel(n_jobs=n_jobs)(delayed(function)(*task) for task in tasks))


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
