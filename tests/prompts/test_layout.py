"""A layout: what it accepts, how it is read, written and chosen."""

import dataclasses
import json
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dpl.prompts.layout import PromptLayout, check_options
from dpl.utils.errors import DplError

lengths = st.lists(st.integers(0, 99), min_size=1, max_size=12).map(tuple)


@given(lengths, lengths)
def test_json_round_trip(image, text):
    layout = PromptLayout(image, text)
    assert PromptLayout.from_json(layout.to_json()) == layout
    assert json.loads(layout.to_json()) == {"image": list(image), "text": list(text)}


@given(lengths, lengths)
def test_tokens_count_all_prompts_of_both_branches(image, text):
    assert PromptLayout(image, text).tokens == sum(image) + sum(text)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, iter])
def test_lengths_become_a_tuple_of_plain_ints(kind):
    layout = PromptLayout(kind([2, 0, 1]), kind([0, 4]))
    assert layout == PromptLayout((2, 0, 1), (0, 4))
    assert all(type(length) is int for length in (*layout.image, *layout.text))
    json.loads(layout.to_json())


@pytest.mark.parametrize("wrong", [-1, 1.0, 0.5, "1", None, True, [1], float("nan")])
@pytest.mark.parametrize("branch", ["image", "text"])
def test_a_length_that_is_no_whole_number_from_0_is_refused_by_name(branch, wrong):
    good: dict = {"image": [0, 1], "text": [0, 1]}
    with pytest.raises(DplError, match=rf"layout: {branch} has the length"):
        PromptLayout(**{**good, branch: [0, wrong]})


@pytest.mark.parametrize("wrong", ["12", 3, None])
def test_lengths_that_are_no_list_are_refused(wrong):
    with pytest.raises(DplError, match="layout: text must be a list"):
        PromptLayout((1,), wrong)


def test_a_branch_without_layers_is_refused():
    with pytest.raises(DplError, match="layout: image has no layers"):
        PromptLayout((), (1,))


def test_uniform_has_the_same_length_everywhere():
    assert PromptLayout.uniform(4, 3, 2) == PromptLayout((4, 4, 4), (4, 4))


IMAGE = [[0.1, 0.3, 0.2], [0.5, 0.4, 0.5], [-3.0, -2.0, -1.0]]
TEXT = [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_from_scores_takes_the_largest_of_every_row_and_the_first_of_equals(kind):
    assert PromptLayout.from_scores(kind(IMAGE), kind(TEXT), [0, 2, 5]) == PromptLayout((2, 0, 5), (0,))


@given(st.lists(st.lists(st.floats(-9, 9, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_from_scores_without_a_budget_is_the_argmax(rows):
    expected = tuple((0, 1, 3, 8)[index] for index in np.argmax(rows, axis=1))
    assert PromptLayout.from_scores(rows, rows, (0, 1, 3, 8)) == PromptLayout(expected, expected)


@given(st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=2, max_size=5), st.integers(0, 25))
def test_from_scores_finds_the_best_of_all_layouts_within_the_budget(rows, budget):
    options = (0, 1, 4)
    every = [choice for choice in product(range(3), repeat=len(rows)) if sum(options[i] for i in choice) <= budget]
    best = max(sum(row[i] for row, i in zip(rows, choice, strict=True)) for choice in every)
    layout = PromptLayout.from_scores(rows[:1], rows[1:], options, budget)
    chosen = [options.index(length) for length in (*layout.image, *layout.text)]
    assert layout.tokens <= budget and sum(row[i] for row, i in zip(rows, chosen, strict=True)) == best


def chosen_within(rows: list[list[int]], options: tuple[int, ...], budget: int | None) -> list[int]:
    """The places of the options that `from_scores` chooses, a row each."""
    layout = PromptLayout.from_scores(rows[:1], rows[1:], options, budget)
    return [options.index(length) for length in (*layout.image, *layout.text)]


OPTIONS = (0, 1, 4)
score_rows = st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=5)  # many ties


@given(score_rows, st.none() | st.integers(0, 25))
def test_of_equal_layouts_from_scores_takes_one_with_the_fewest_tokens(rows, budget):
    chosen = chosen_within(rows, OPTIONS, budget)
    total = sum(row[place] for row, place in zip(rows, chosen, strict=True))
    equals = [
        sum(OPTIONS[place] for place in choice)
        for choice in product(range(3), repeat=len(rows))
        if sum(row[place] for row, place in zip(rows, choice, strict=True)) == total
    ]
    assert sum(OPTIONS[place] for place in chosen) == min(equals)


@given(score_rows, st.integers(0, 25), st.integers(-5, 5))
def test_from_scores_does_not_mind_a_number_added_to_a_row(rows, budget, more):
    assert chosen_within(rows, OPTIONS, budget) == chosen_within(
        [[score + more for score in rows[0]], *rows[1:]], OPTIONS, budget
    )


@given(score_rows, st.integers(0, 24))
def test_a_larger_budget_never_gives_a_lower_sum_and_a_full_one_is_none(rows, budget):
    def best(budget: int | None) -> int:
        return sum(row[place] for row, place in zip(rows, chosen_within(rows, OPTIONS, budget), strict=True))

    assert best(budget) <= best(budget + 1)
    assert chosen_within(rows, OPTIONS, OPTIONS[-1] * len(rows)) == chosen_within(rows, OPTIONS, None)


@given(score_rows, st.integers(0, 25), st.data())
def test_an_option_that_is_chosen_stays_chosen_when_its_score_rises(rows, budget, data):
    chosen = chosen_within(rows, OPTIONS, budget)
    layer = data.draw(st.integers(0, len(rows) - 1))
    risen = [[*row] for row in rows]
    risen[layer][chosen[layer]] += 1
    assert chosen_within(risen, OPTIONS, budget)[layer] == chosen[layer]


def test_from_scores_spends_no_token_that_brings_nothing():
    assert PromptLayout.from_scores([[0.0, 0.0, 0.0]], [[0.0, 1.0, 1.0]], (0, 1, 2), 4) == PromptLayout((0,), (1,))


def test_from_scores_refuses_rows_that_do_not_fit_the_options():
    with pytest.raises(DplError, match="3 scores .* 2 options"):
        PromptLayout.from_scores(IMAGE, TEXT, [0, 1])


@pytest.mark.parametrize("budget", [None, 3])
def test_scores_that_are_not_finite_are_refused(budget):
    with pytest.raises(DplError, match="not all finite"):
        PromptLayout.from_scores([[float("nan"), 0.0, 1.0]], [[0.0, 1.0, 2.0]], [0, 1, 2], budget)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1, 2]", "must look like"),
        ("3", "must look like"),
        ('{"image": [1]}', "must look like"),
        ('{"image": [1], "text": [1], "more": 0}', "must look like"),
        ('{"image": [1], "text": []}', "text has no layers"),
        ('{"image": [1.5], "text": [1]}', "image has the length 1.5"),
        ('{"image": [-1], "text": [1]}', "image has the length -1"),
        ('{"image": "12", "text": [1]}', "image must be a list"),
        ('{"image": {"0": 1}, "text": [1]}', "image"),
        ('{"image": null, "text": [1]}', "image must be a list"),
        ('{"image": [true], "text": [1]}', "image has the length True"),
        ('{"image": [NaN], "text": [1]}', "image has the length nan"),
    ],
)
def test_from_json_refuses_anything_else(text, message):
    with pytest.raises(DplError, match=message):
        PromptLayout.from_json(text)


def test_load_reads_what_to_json_wrote(tmp_path):
    layout = PromptLayout((2, 0), (0, 4, 1))
    (tmp_path / "layout.json").write_text(layout.to_json())
    assert PromptLayout.load(tmp_path / "layout.json") == layout


@pytest.mark.parametrize("content", [b"{", b'{"image": [1]}', b'{"image": [-1], "text": [1]}', b"\xff\xfe\x00"])
def test_load_names_the_file_that_is_wrong(tmp_path, content):
    file = tmp_path / "chosen.json"
    file.write_bytes(content)
    with pytest.raises(DplError, match=r"chosen\.json: "):
        PromptLayout.load(file)


def test_load_names_the_file_that_is_missing_be_it_in_a_folder(tmp_path):
    for path, named in ((tmp_path / "missing.json", "missing.json"), (tmp_path, "layout.json")):
        with pytest.raises(DplError, match=f"{tmp_path / named}: cannot read"):
            PromptLayout.load(path)


def test_a_folder_that_has_a_layout_is_loaded(tmp_path):
    layout = PromptLayout((2, 0), (1, 3))
    (tmp_path / "layout.json").write_text(layout.to_json())
    assert PromptLayout.load(tmp_path) == PromptLayout.load(tmp_path / "layout.json") == layout


def test_repr_shows_lengths_and_tokens():
    assert repr(PromptLayout((2, 0, 1), (0, 4))) == "PromptLayout(image: 2 0 1 | text: 0 4 | 7 tokens)"


def test_layouts_are_frozen_and_hashable():
    layout = PromptLayout([1, 2], [3])  # type: ignore[arg-type]
    assert {layout: 1}[PromptLayout((1, 2), (3,))] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        layout.image = (0,)  # type: ignore[misc]


@pytest.mark.parametrize("options", [[0, 1], (0, 2, 4, 6), range(7), [0, 5, 6, 16]])
def test_options_that_ascend_from_0_are_taken(options):
    assert check_options(options) == tuple(options)


@pytest.mark.parametrize("options", [[], [0], [1, 2], [0, 2, 2], [0, 3, 1], [-1, 0, 1], [0, -1]])
def test_options_that_do_not_ascend_from_0_are_refused(options):
    with pytest.raises(DplError, match="must ascend from 0"):
        check_options(options)
