"""The pictures are made from what is there, the same bytes each time, and show the numbers."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from benchmarks.study import plots
from benchmarks.study.statistics import OURS, PAPER, MissingArms, Record
from tests.benchmarks.study.simulated import EFFECTS, simulate

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return simulate(seeds=2, layout_sd=1, seed_sd=0.5, noise_sd=0.5)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for one in figure.axes for text in [*one.texts, *one.get_yticklabels()]]


def test_all_are_saved_the_same_twice_without_a_date(tmp_path: Path, records: list[Record]):
    first, second = (plots.save_all(records, tmp_path / name) for name in ("first", "second"))
    assert [file.stem for file in first] == list(plots.PLOTS)
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(first, second, strict=True))
    assert all("dc:date" not in file.read_text() for file in first)


def test_only_what_can_be_drawn_is_saved(tmp_path: Path, records: list[Record]):
    assert plots.save_all([], tmp_path / "none") == []
    kept = [one for one in records if one["arm"] != PAPER and not one["arm"].startswith("random")]
    assert [file.stem for file in plots.save_all(kept, tmp_path)] == ["gains", "lengths", "shots", "budgets", "costs"]
    with pytest.raises(MissingArms, match="no record of zero-shot, uniform-both-6, paper, search"):
        plots.shots([one for one in records if one["arm"].startswith("random")])


def test_the_forest_names_the_competitors_and_their_gains():
    found = words(plots.gains(simulate()))
    assert {"+1.0   3 tasks, 9 pairs", "best single uniform", PAPER} <= set(found)


def test_ranks_and_costs_are_written():
    records = simulate(layout_sd=0.1)
    assert words(plots.standings(records)).count("1 of 21") == 3
    assert {"2.50", "1.40", f"{OURS}:fresh"} <= set(words(plots.costs(records)))


def test_accuracy_against_tokens_has_a_point_for_every_arm_there_is(records: list[Record]):
    def points(records: list[Record]) -> int:
        return sum(len(line[0].get_xdata()) for line in plots.budgets(records).axes[0].containers)

    assert points(records) == 17  # 12 uniform layouts, one of them trained longer as well, the paper's, ours with three budgets
    assert points([one for one in records if one["arm"] != PAPER]) == 16
    with pytest.raises(MissingArms, match="no record at 16 shots of search, both branches"):
        plots.budgets([one for one in records if one["arm"].startswith("random")])


def test_no_text_leaves_the_picture(records: list[Record]):
    for plot in plots.PLOTS.values():
        figure = plot(records)
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        wide, high = figure.get_size_inches()
        assert box.x0 > -0.02 and box.y0 > -0.02 and box.x1 < wide + 0.02 and box.y1 < high + 0.02


def test_without_an_effect_of_layouts_and_seeds_there_is_no_variance_to_part():
    with pytest.raises(MissingArms, match="do not vary"):
        plots.parts(simulate(("a",), 2, EFFECTS | {PAPER: 0.0}))
