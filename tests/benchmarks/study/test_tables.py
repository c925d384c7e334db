"""The tables say what was simulated, and what is missing."""

import pytest

from benchmarks.study import tables
from benchmarks.study.statistics import EQUAL_BUDGET, OURS, PAPER, UNIFORM, MissingArms, Record
from tests.benchmarks.study.simulated import EFFECTS, RANDOM, rows, simulate


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return simulate(seed_sd=0.5)


def test_the_suite_has_every_arm_with_its_paired_difference(records: list[Record]):
    found = rows(tables.suite(records))
    assert set(EFFECTS) <= set(found) and not set(RANDOM) & set(found)
    assert found["half-text-4"][0] == "12" and found["half-text-4"][2:] == ["+5.5 ± 0.0", "+5.5 ± 0.0", "3", "9"]


def test_every_task_has_a_row_and_the_means(records: list[Record]):
    table = tables.per_task(records)
    found = rows(table)
    assert table.startswith("Shots: 16, 3 tasks, 9 (task, seed) pairs; 20 random layouts.")
    assert {"digits", "eurosat", "pets", "**mean, over seeds**", "**mean, over tasks**"} <= set(found)
    assert all(len(row) == 7 for row in found.values())


def test_the_other_sections(records: list[Record]):
    assert rows(tables.ablations(records))["search:mixture"][1] == "-1.0 ± 0.0"
    assert rows(tables.costs(records))[PAPER] == ["500", "8000", "2.50", "2.50", "3", "9"]
    assert rows(tables.found_layouts(records))["same task, other seed (mean of tasks)"][:2] == ["83", "0.17"]
    assert "`uniform-image-6`" in tables.uniform_layouts(records)
    assert rows(tables.random_layouts(records))["rank among 21 at each pair (1 is best)"] == ["1.0 ± 0.0"] * 2
    assert "| best single uniform | +1.0 ± 0.0 |" in tables.competitors(records)


def test_pairs_of_arms_are_compared_on_all_tasks_and_on_those_that_chose_nothing():
    records = simulate(("corners", "digits", "fog"), 2)
    for one in records:
        if (one["arm"], one["task"]) == (f"{OURS}:budget-4", "corners"):
            one["accuracy"] += 0.03
    lines = [line.strip("| ").split(" | ") for line in tables.pairs_of_arms(records).splitlines()[4:]]
    apart = ["+2.2 ± 0.0", "+2.2 ± 0.0", "3", "6"]
    assert [f"{OURS}:budget-4", "uniform-both-4", "16", "+3.2 ± 0.0", "+3.2 ± 4.3", *apart] in lines
    assert [line[2] for line in lines if line[:2] == [OURS, PAPER]] == ["16", "1", "4"]
    alone = tables.pairs_of_arms([one for one in records if one["task"] == "corners"])
    assert f"| {OURS}:budget-4 | uniform-both-4 | 16 | +5.2 ± 0.0 | +5.2 |  |  | 1 | 2 |" in alone


def test_the_prompt_scale_is_measured_at_all_shots(records: list[Record]):
    lines = [line.strip("| ").split(" | ") for line in tables.prompt_scales(records).splitlines()[4:]]
    assert [line[:2] for line in lines] == [[shots, arm] for shots in ("1", "4", "16") for arm in (EQUAL_BUDGET, PAPER, OURS)]
    assert [line[2] for line in lines[:3]] == ["+0.00 ± 0.00", "+0.00 ± 0.00", "+1.00 ± 0.00"]
    assert [cell[:4] for cell in lines[-1][4:6]] == ["+21.", "+20."]


def test_with_few_shots_every_arm_has_the_pairs_that_it_has():
    records = [one for one in simulate() if one["arm"] != PAPER or (one["seed"] == 1 and one["shots"] != 4)]
    one, four, full = tables.few_shots(records).split("Shots: ")[1:]
    assert "paper minus it" not in four and one.splitlines()[2].split("|")[7].strip() == "paper minus it, points"
    assert rows(full)["digits"][-2:] == ["+20.4", "+21.5 ± 0.0"]
    assert rows(full)["**tasks, pairs**"] == ["3, 9"] * 5 + ["3, 3", "3, 9"]


MISSING = [(), (OURS,), (PAPER,), UNIFORM, RANDOM, ("zero-shot",), tuple(EFFECTS), tuple(arm for arm in EFFECTS if arm != OURS)]


@pytest.mark.parametrize("missing", MISSING, ids=lambda arms: f"{len(arms)} {' '.join(arms[:1])}")
@pytest.mark.parametrize("seeds", [1, 2])
def test_the_evidence_has_all_headings_whatever_is_missing(missing: tuple[str, ...], seeds: int):
    records = [one for one in simulate(seeds=seeds) if one["arm"] not in missing]
    text = tables.evidence(records)
    assert [line[4:] for line in text.splitlines() if line.startswith("###")] == list(tables.SECTIONS)
    assert "nan" not in text
    for arm in missing[:1]:
        assert ("random-*" if arm in RANDOM else arm) in text


def test_the_evidence_of_a_study_that_runs():
    """Records come one by one, in an order that leaves no grid full."""
    records = simulate(("a", "b"), 2, noise_sd=1.0)
    for count in (0, 1, 5, 40, 90, 133, len(records) - 1):
        assert tables.evidence(records[:count]).count("###") == len(tables.SECTIONS)
        assert tables.evidence(records[::-1][:count]).count("###") == len(tables.SECTIONS)


def test_a_section_says_what_it_lacks(records: list[Record]):
    with pytest.raises(MissingArms, match="no record at 16 shots of paper"):
        tables.per_task([one for one in records if one["arm"] != PAPER])
    assert "Left out: no record at 16 shots of paper." in tables.evidence([one for one in records if one["arm"] != PAPER])
