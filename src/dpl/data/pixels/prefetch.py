"""Prefetching: a background thread computes the next items of an iterator while the consumer uses the current one."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def while_computing(device: torch.device, items: Iterator[T]) -> Iterator[T]:
    """Prefetches `items` for a model on `device`, except on the CPU.

    On the CPU, the thread would compete with the model for the cores; prefetching was measured to gain nothing there.

    Args:
        device: Device of the model.
        items: Iterator of, for example, batches.

    Returns:
        `items` itself on the CPU, `run_ahead(items)` on other devices.
    """
    return items if device.type == "cpu" else run_ahead(items)


def run_ahead(items: Iterator[T], count: int = 1) -> Iterator[T]:
    """Yields `items` in their order; a thread computes the next `count` items while the consumer uses the current one.

    When the consumer closes or drops this generator early, the thread finishes its current item and ends. The thread also
    ends when the interpreter exits.

    Args:
        items: Iterator to prefetch; only the thread calls it.
        count: Number of items to prefetch.

    Raises:
        Exception: Any exception of `items`, after all items before it.
    """
    end = object()
    pending: deque[Future[T | object]] = deque()
    # One submission per item, because a thread that blocks on a full queue would have to be woken up to stop.
    pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    try:
        for _ in range(count):
            pending.append(pool.submit(next, items, end))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item  # pyright: ignore[reportReturnType]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
