"""Work done while its consumer is busy: an iterator that runs ahead in a thread."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def while_computing(device: torch.device, items: Iterator[T]) -> Iterator[T]:
    """`items` for a model on `device`: made ahead in a thread, except on the CPU.

    There the model computes on the cores that making them would need; it was measured to gain nothing.
    """
    return items if device.type == "cpu" else run_ahead(items)


def run_ahead(items: Iterator[T], count: int = 1) -> Iterator[T]:
    """The same `items` in the same order, of which a thread makes the next `count` while the consumer has the present one.

    What `items` raises is raised here in its place, after all items before it. When the consumer stops early (it closes
    this generator, or drops it) the item under way is finished and the thread ends; so does it at the interpreter's exit.
    """
    end = object()
    pending: deque[Future[T | object]] = deque()
    # One submission per item, and no thread that waits for room in a queue: there is nothing to wake up or to tell.
    pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    try:
        for _ in range(count):
            pending.append(pool.submit(next, items, end))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item  # pyright: ignore[reportReturnType]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
