"""The arms' layouts, and a whole cell of each kind on the smallest possible settings."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import dpl
import dpl.config
from benchmarks.study import Settings, arms, cells, groups, main, released
from benchmarks.study.arms import (
    ARMS,
    LONGEST,
    SHARPEST,
    TOKENS_PER_LAYER,
    Found,
    Outcome,
    SharpenedMixture,
    Trial,
    random_layouts,
    train,
)
from benchmarks.study.records import Cell, append, read_records
from dpl.search.base import Validation
from dpl.utils.errors import DplError
from tests.cases import quick_and_slow

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here


@pytest.fixture(scope="module")
def trial(checkpoint: Path, images: Path) -> Trial:
    task = dpl.load_task(str(images))
    return Trial(dpl.load_backbone(str(checkpoint)), task, dpl.sample(task, 4, 1), 1)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch):
    """Two epochs of everything."""
    train, search = dpl.TrainConfig, dpl.SearchConfig
    monkeypatch.setattr(dpl, "TrainConfig", lambda: train(epochs=2, batch_size=8))
    monkeypatch.setattr(dpl, "SearchConfig", lambda: search(epochs=2, batch_size=8))
    monkeypatch.setattr(released, "CONFIG", replace(released.CONFIG, epochs=2))
    monkeypatch.setattr(arms, "CONFIG", released.CONFIG)


def outcome_of(trial: Trial, arm: str) -> Outcome:
    (outcome,) = train([trial], ARMS[arm]([trial]))
    return outcome


def test_random_layouts_are_many_of_one_budget_and_always_the_same():
    layouts = random_layouts((6, 6))
    assert len(set(layouts)) == 20 and layouts == random_layouts.__wrapped__((6, 6))
    assert {layout.tokens for layout in layouts} == {TOKENS_PER_LAYER * 12}
    assert max(max(layout.image + layout.text) for layout in layouts) <= LONGEST == dpl.config.SearchConfig().options[-1]
    assert dpl.config.SearchConfig().budget == TOKENS_PER_LAYER


@pytest.mark.parametrize(
    ("arm", "image", "text", "passes"),
    [
        ("uniform-image-4", (4, 4), (0, 0), 24),
        ("half-both-4", (4, 0), (4, 0), 24),
        ("zero-shot", (0, 0), (0, 0), 0),
        ("uniform-both-2", (2, 2), (2, 2), 24),
        ("uniform-text-1", (0, 0), (1, 1), 24),
        ("longer-both-6", (6, 6), (6, 6), 36),
        ("search:uniform", (6, 6), (6, 6), 24 + 2 * 24),
    ],
)
def test_arms_of_known_layout(trial: Trial, arm: str, image, text, passes: int):
    outcome = outcome_of(trial, arm)
    assert (outcome.model.layout, outcome.images) == (dpl.PromptLayout(image, text), passes)


@pytest.mark.parametrize(
    "arm",
    quick_and_slow(
        ["search"], ["search:fresh", "search:mixture", "search:mixture-sharpened", "search:halves-fresh", "paper", "random-20"]
    ),
)
def test_arms_that_find_or_draw_their_layout(trial: Trial, arm: str):
    outcome = outcome_of(trial, arm)
    assert outcome.model.layout.tokens <= 6 * 4 and outcome.train_seconds > 0
    assert (outcome.search_seconds > 0) == (outcome.images > 24) == (arm != "random-20")


def test_the_halves_share_all_shots_of_every_class_and_swap_roles(trial: Trial, monkeypatch: pytest.MonkeyPatch):
    drawn, search = [], dpl.search_layout
    monkeypatch.setattr(dpl, "search_layout", lambda *given, **named: drawn.append(given[2]) or search(*given, **named))
    ARMS["search:halves-fresh"]([trial])
    first, second = drawn
    assert (first.train, first.val) == (second.val, second.train)
    assert {*first.train} | {*first.val} == {*trial.shots.train, *trial.shots.val} and not {*first.train} & {*first.val}
    assert Counter(item.label for item in first.train) == Counter(item.label for item in first.val)


def test_the_temperature_of_the_alphas_falls_until_the_last_epoch(trial: Trial):
    method = SharpenedMixture(trial.backbone, trial.task, dpl.SearchConfig(), 0.05, 1)
    first = method.model.image.layers[0].alphas.tolist()
    validation = Validation(torch.empty(0), torch.empty(0), 1, 1)
    history = [method.finish_epoch(validation, 0, [])]
    assert history[0]["alphas"]["image"][0] == first
    sharp = [alpha / SHARPEST for alpha in first]
    assert method.model.image.layers[0].alphas.tolist() == pytest.approx(sharp)
    assert method.finish_epoch(validation, 1, history)["alphas"]["image"][0] == pytest.approx(sharp)
    assert method.model.image.layers[0].alphas.tolist() == pytest.approx(sharp)


def test_a_search_that_finds_no_prompts_has_its_own_cost_and_no_training(trial: Trial):
    found = Found(dpl.PromptLayout((0, 0), (0, 0)), steps=3, images=24, seconds=1.0)
    (outcome,) = train([trial], [found])
    assert (outcome.steps, outcome.images, outcome.search_seconds, outcome.train_seconds) == (3, 24, 1.0, 0.0)


def test_outcomes_of_one_stack_come_in_the_order_of_its_trials(trial: Trial):
    other = replace(trial, shots=dpl.sample(trial.task, 4, 2), seed=2)
    arms = ["longer-both-6", "uniform-both-2", "zero-shot", "search:uniform"]
    trials = [trial, other, trial, other]
    found = [ARMS[arm]([own])[0] for arm, own in zip(arms, trials, strict=True)]
    outcomes = train(trials, found)
    assert [outcome.model.layout.image[0] for outcome in outcomes] == [6, 2, 0, 6]
    assert [outcome.images for outcome in outcomes] == [36, 24, 0, 24 + 2 * 24]
    alone = outcome_of(other, "uniform-both-2").model
    for own, same in zip(outcomes[1].model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(own, same, rtol=1e-4, atol=1e-5)


def test_a_layout_is_transferred_from_the_other_tasks_of_the_same_seed(trial: Trial, tmp_path: Path):
    def add(task: str, seed: int, image: list[int], text: list[int]):
        append({"task": task, "shots": 16, "seed": seed, "arm": "search", "layout": {"image": image, "text": text}}, tmp_path)

    with pytest.raises(DplError, match="run the arm search first"):
        ARMS["transfer"]([replace(trial, results=tmp_path)])
    add("fog", 1, [12, 8], [3, 1])
    add("fence", 1, [8, 8], [4, 0])
    add("fence", 2, [0, 0], [12, 12])
    add(trial.task.name, 1, [0, 0], [12, 12])
    assert ARMS["transfer"]([replace(trial, results=tmp_path)])[0].layout in (
        dpl.PromptLayout((10, 8), (3, 0)),
        dpl.PromptLayout((10, 8), (4, 0)),
        dpl.PromptLayout((10, 8), (3, 1)),
        dpl.PromptLayout((10, 8), (4, 1)),
    )


def test_the_study_goes_on_where_it_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture):
    settings = Settings(tasks=("counting",), shots=(1,), seeds=(1,), arms=("zero-shot",), processes=1, out=tmp_path)
    main(settings)
    assert "1 runs to do" in capsys.readouterr().out
    (record,) = read_records(tmp_path)
    assert record["accuracy"] == pytest.approx(0.34) and record["layout"]["image"] == [0] * 6
    main(settings)
    assert capsys.readouterr().out == "0 runs to do\n"


def test_cells_are_few_with_few_shots_and_all_at_sixteen():
    settings = Settings(tasks=("fog",), seeds=(1,))
    found = list(cells(settings))
    assert sum(cell.shots == 16 for cell in found) == len(ARMS) and Cell("fog", 1, 1, "search") in found
    with pytest.raises(DplError, match="no arm 'best': there are zero-shot, search"):
        list(cells(replace(settings, arms=("best",))))
    with pytest.raises(DplError, match="processes 2, together 0: both must be 1 at least"):
        main(replace(settings, processes=2, together=0))


def test_cells_of_one_task_and_kind_are_trained_together():
    wanted = [Cell("fog", 16, seed, arm) for arm in ("search", "random-01", "random-02", "paper") for seed in (1, 2, 3)] + [
        Cell("fence", 16, 1, "random-01"),
        Cell("fog", 4, 1, "random-01"),
    ]
    found = groups(wanted, 4)
    assert sorted(sum(found, []), key=repr) == sorted(wanted, key=repr)
    assert [(len(group), group[0].arm) for group in found] == [
        (3, "search"), (4, "random-01"), (2, "random-01"), (3, "paper"), (1, "random-01"), (1, "random-01"),
    ]  # fmt: skip
    assert [cell.seed for cell in found[1]] == [1, 1, 2, 2] and [cell.seed for cell in found[2]] == [3, 3]
