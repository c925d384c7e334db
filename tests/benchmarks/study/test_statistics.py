"""The statistics against numbers worked by hand, and on studies whose effects are known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from benchmarks.study import statistics as study
from benchmarks.study.statistics import OURS, UNIFORM, ZERO_SHOT, MissingArms
from dpl.utils.statistics import mean_interval
from tests.benchmarks.study.simulated import EFFECTS, RANDOM, record, simulate

NAN = math.nan
CELLS = arrays(float, (3, 4, 5), elements=st.integers(0, 100))


def test_an_estimate_reduces_over_tasks_and_over_seeds():
    one = study.estimate(["a", "b"], np.array([[1.0, 2.0, 3.0], [5.0, 7.0, 9.0]]))
    assert one.over_seeds == mean_interval([3.0, 4.5, 6.0]) and one.over_tasks == mean_interval([2.0, 7.0])
    assert one.by_task == {"a": mean_interval([1.0, 2.0, 3.0]), "b": mean_interval([5.0, 7.0, 9.0])}
    assert one.pairs == 6 and one.worst()[0] == "a"


def test_an_incomplete_estimate_takes_the_seeds_that_all_tasks_have():
    one = study.estimate(["a", "b", "c"], np.array([[1.0, 2.0, 3.0], [5.0, 7.0, NAN], [NAN] * 3]))
    assert one.over_seeds == mean_interval([3.0, 4.5]) and one.over_tasks == mean_interval([2.0, 6.0])
    assert one.pairs == 5 and list(one.by_task) == ["a", "b"]


def test_a_grid_has_the_pairs_that_all_arms_have_and_the_later_record():
    records = [
        record("a", 16, 1, OURS, 0.1), record("a", 16, 1, OURS, 0.5), record("a", 16, 1, ZERO_SHOT, 0.25),
        record("a", 16, 2, OURS, 0.6), record("b", 16, 2, ZERO_SHOT, 0.7), record("a", 4, 2, ZERO_SHOT, 0.7),
    ]  # fmt: skip
    found = study.grid(records, [OURS, ZERO_SHOT])
    assert (found.tasks, found.seeds, found.values.tolist()) == (["a"], [1], [[[50.0, 25.0]]])
    assert study.difference(records, OURS, ZERO_SHOT).over_tasks.mean == 25
    with pytest.raises(MissingArms, match="no record at 16 shots of paper"):
        study.grid(records, [OURS, "paper"])
    with pytest.raises(MissingArms, match="no .* pair at 16 shots has all of"):
        study.grid([records[3], records[4]], [OURS, ZERO_SHOT])


@pytest.mark.parametrize("arm", [arm for arm in EFFECTS if arm != OURS])
def test_a_known_effect_is_found_exactly_without_noise(arm: str):
    found = study.difference(simulate(seed_sd=0 if arm == ZERO_SHOT else 2), OURS, arm)
    assert found.over_seeds.mean == pytest.approx(EFFECTS[OURS] - EFFECTS[arm])
    assert found.over_seeds.half == pytest.approx(0, abs=1e-9) == found.over_tasks.half


def test_the_best_uniform_is_chosen_on_validation_over_the_suite_and_per_task():
    """b is the best at one task, c nearly as good at both; the test accuracy says otherwise."""
    arms = dict(zip(UNIFORM, [(9.0, 9.0)] * 12, strict=True)) | {UNIFORM[1]: (1.0, 5.0), UNIFORM[2]: (2.0, 2.0)}
    records = [
        record(task, 16, seed, arm, 0.9 if arm == UNIFORM[7] else 0.5 if arm == UNIFORM[1] else 0.4, losses[index])
        for index, task in enumerate("ab") for seed in (1, 2) for arm, losses in arms.items()
    ]  # fmt: skip
    records += [record(task, 16, seed, OURS, 0.7) for task in "ab" for seed in (1, 2)]
    assert study.best_uniform(records) == UNIFORM[2]
    per_task = study.minus_uniform_per_task(records)
    assert per_task.by_task["a"].mean == pytest.approx(20) and per_task.by_task["b"].mean == pytest.approx(30)
    assert study.minus_uniform_per_task(records, oracle=True).over_tasks.mean == pytest.approx(-20)
    records.append(record("a", 16, 1, UNIFORM[2], 0.4, NAN))
    assert study.best_uniform(records) == UNIFORM[1]  # a loss that diverged


RANDOM_CELLS = np.array([[[1.0, 4.0], [5.0, 3.0], [3.0, 1.0]]])  # one task, three seeds, two layouts: means 3 and 8/3


def test_the_best_random_layout_three_ways():
    assert study.best_by_mean(RANDOM_CELLS).tolist() == [[1, 5, 3]]
    assert study.best_each(RANDOM_CELLS).tolist() == [[4, 5, 3]]
    # the other seeds' means are (4, 2), (2, 2.5) and (3, 3.5)
    assert study.best_leave_one_out(RANDOM_CELLS).tolist() == [[1, 3, 1]]


def test_missing_pairs_do_not_choose():
    missing = np.concatenate([RANDOM_CELLS, np.full((1, 1, 2), NAN)], axis=1)
    for best in study.REGRETS.values():
        assert np.array_equal(best(missing), np.append(best(RANDOM_CELLS), NAN)[None], equal_nan=True)
    assert np.isnan(study.best_leave_one_out(np.array([[[1.0, 2.0], [NAN, NAN]]]))).all()


@given(CELLS)
def test_the_best_of_each_pair_is_never_below_the_others(random: np.ndarray):
    each, mean, other = study.best_each(random), study.best_by_mean(random), study.best_leave_one_out(random)
    assert (each >= mean).all() and (each >= other).all()
    assert (mean.mean(axis=1) >= random.mean(axis=1).max(axis=1) - 1e-9).all()
    assert (mean.mean(axis=1) >= other.mean(axis=1) - 1e-9).all()


def test_only_leaving_one_out_is_unbiased_where_layouts_are_alike():
    records = simulate([f"task {index}" for index in range(40)], 5, {OURS: 0.0}, noise_sd=1.0)
    means = {name: study.regret(records, name).over_tasks for name in study.REGRETS}
    assert means["regret_leave_one_out"].low < 0.1 and means["regret_leave_one_out"].high > -0.1
    assert means["regret_best_mean"].low > 0.5 and means["regret_each"].low > 1.5
    assert study.standing(records).rank.over_tasks.mean == pytest.approx(11, abs=1.5)


@given(arrays(float, 4, elements=st.integers(0, 9)), arrays(float, (4, 6), elements=st.integers(0, 9)))
def test_the_share_beaten_gives_the_mean_rank(ours: np.ndarray, random: np.ndarray):
    ranks = 1 + 6 * (1 - study.share_beaten(ours, random))
    for rank, one, others in zip(ranks, ours, random, strict=True):
        assert rank == pytest.approx(rankdata([-one, *-others])[0])


def test_the_standing_of_ours():
    accuracies = {OURS: (0.5, 0.7), "random-01": (0.4, 0.7), "random-02": (0.6, 0.6)}
    records = [record("a", 16, seed + 1, arm, both[seed]) for arm, both in accuracies.items() for seed in (0, 1)]
    place = study.standing(records)
    assert place.layouts == 2 and place.rank_by_task["a"] == pytest.approx(1.5)  # means 0.6, 0.55, 0.6
    assert place.beaten.by_task["a"].mean == pytest.approx((0.5 + 0.75) / 2)
    assert place.rank.by_task["a"].mean == pytest.approx((2 + 1.5) / 2)


def test_variance_parts_by_hand():
    """Means of seeds 2 and 5, of layouts 2 and 5; the rest is +-1/2."""
    found = study.variance_parts(np.array([[1.0, 3.0], [3.0, 7.0]]))
    # mean squares: layouts 9, seeds 9, rest 1
    assert (found.layout, found.seed, found.rest, found.total) == (4.0, 4.0, 1.0, 9.0)
    assert study.variance_parts(np.array([[1.0, 2.0], [2.0, 1.0]])) == study.Variance(0.0, 0.0, 1.0)


def test_variance_parts_of_known_variances():
    tasks = [f"task {index}" for index in range(200)]
    found = study.variances(simulate(tasks, 5, {OURS: 0.0}, layout_sd=1.5, seed_sd=0.8, noise_sd=1.0))
    mean = {name: np.mean([getattr(one, name) for one in found.values()]) for name in ("layout", "seed", "rest")}
    assert mean == {"layout": pytest.approx(2.25, rel=0.1), "seed": pytest.approx(0.64, rel=0.2),
                    "rest": pytest.approx(1, rel=0.05)}  # fmt: skip


def test_layouts_agree_within_tasks_and_not_between():
    layouts = study.layouts_of(simulate(seeds=3))
    assert {task: rows.shape for task, rows in layouts.items()} == dict.fromkeys(("digits", "eurosat", "pets"), (3, 12))
    for one in study.agreement_within(layouts).values():
        assert one.equal == pytest.approx(10 / 12) and one.distance == pytest.approx(2 / 12)
    assert study.agreement_between(layouts).equal < 0.5
    pair = {"a": np.array([[1.0, 2.0]]), "b": np.array([[1.0, 3.0], [0.0, 4.0]])}
    assert study.agreement_between(pair).equal == 0.25 and study.agreement_between(pair).distance == 1
    assert study.agreement_within(pair).keys() == {"b"}


def test_costs_are_relative_to_training_alone():
    records = simulate()
    assert study.ratio(records, OURS).over_tasks.mean == pytest.approx(1.4)
    assert study.ratio(records, OURS, measure="seconds").over_tasks.mean == pytest.approx((280 / 50 + 1) / 4)
    assert study.level(records, "uniform-both-4", measure="tokens").over_tasks.mean == 48
    assert study.level(records, OURS, measure="steps").over_tasks.mean == 280


def test_ours_against_all_competitors():
    records = simulate()
    assert study.minus_mean_random(records).over_tasks.mean == pytest.approx(EFFECTS[OURS])
    found = {name: measure(records).over_tasks.mean for name, measure in study.COMPETITORS.items()}
    assert found["best single uniform"] == pytest.approx(1.0) and study.best_uniform(records) == "uniform-image-6"
    assert study.random_arms(records) == list(RANDOM)
    with pytest.raises(MissingArms, match="random"):
        study.random_arms(records[:10])
