"""Rounds alternate."""

import torch

from benchmarks.timing import medians, ratio, rounds


def test_every_round_runs_all_and_another_begins():
    calls: list[str] = []
    steps = {name: lambda name=name: calls.append(name) for name in "abc"}
    measured = list(rounds(steps, 3, torch.device("cpu"), warm_up=1))
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert [list(one) for one in measured] == [["a", "b", "c"]] * 3


def test_medians_and_ratios_of_what_was_measured():
    times = medians([{"a": 1.0, "b": 4.0}, {"a": 2.0, "b": 4.0}, {"a": 9.0, "b": 4.0}])
    assert times == {"a": 2.0, "b": 4.0} and medians([]) == {}
    assert ratio(times, "b", "a") == "2.00" and ratio(times, "b", "c") == ""
