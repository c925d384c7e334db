import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dpl.data.pixels.prefetch import run_ahead
from tests.cases import quick_and_slow


def ahead_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def wait_until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def counted(made: list[int], stop: int = 100, fail_at: int = -1) -> Iterator[int]:
    for number in range(stop):
        if number == fail_at:
            raise ValueError(f"no {number}")
        made.append(number)
        yield number


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("stop", [0, 1, 2, 50])
def test_the_items_come_in_order(count, stop):
    assert list(run_ahead(counted([], stop), count)) == list(range(stop))
    assert not ahead_threads()


@pytest.mark.parametrize("count", [1, 3])
def test_the_next_items_are_made_while_the_present_one_is_used_and_no_more(count):
    made: list[int] = []
    items = run_ahead(counted(made), count)
    for number in range(3):
        assert next(items) == number
        assert wait_until(lambda: len(made) == number + 1 + count)  # noqa: B023
        time.sleep(0.01)
        assert len(made) == number + 1 + count


def test_nothing_begins_before_the_first_item_is_asked_for():
    made: list[int] = []
    items = run_ahead(counted(made))
    time.sleep(0.01)
    assert made == [] and not ahead_threads()
    assert next(items) == 0


def test_another_thread_makes_the_items():
    names = [name for name in run_ahead(threading.current_thread().name for _ in range(3))]
    assert all(name.startswith("ahead") for name in names)


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_comes_in_its_place_and_ends_the_thread(count):
    items, seen = run_ahead(counted([], fail_at=4), count), []
    with pytest.raises(ValueError, match="no 4"):
        for number in items:
            seen.append(number)
    assert seen == [0, 1, 2, 3] and not ahead_threads()
    assert next(items, None) is None


def test_a_consumer_that_stops_ends_the_thread():
    made: list[int] = []
    items = run_ahead(counted(made))
    assert next(items) == 0 and ahead_threads()
    items.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not ahead_threads() and len(made) <= 2


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_a_consumer_that_fails_ends_the_thread(stop):
    def consume() -> None:
        for number in run_ahead(counted([])):
            if number == 2:
                raise stop

    with pytest.raises(stop):
        consume()
    assert wait_until(lambda: not ahead_threads())


INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize("ending", quick_and_slow([INTERRUPT], ["", "raise SystemExit", "1 / 0"]))
def test_an_iterator_left_half_way_does_not_keep_the_interpreter(ending):
    code = f"""
from itertools import count
from dpl.data.pixels.prefetch import run_ahead
items = run_ahead(count())
print(next(items), next(items), flush=True)
{ending}
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "1"]
    assert (done.returncode == 0) == (ending in ("", "raise SystemExit"))
