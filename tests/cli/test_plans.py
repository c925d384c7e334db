"""The plan of `dpl compare` from its arguments: runs, their settings and order, and messages about wrong arguments."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from dpl.cli.arguments import Compare, parse
from dpl.cli.plans import comparison_plan
from dpl.utils.errors import DplError


def asked(**changes) -> Compare:
    return replace(Compare("digits", ("dpl",)), **changes)


def test_the_command_that_is_written_repeats_the_plan():
    spaced = comparison_plan(
        asked(methods=("coop:init='a photo'", "dpl"), seeds=("3,1",), shots=("4 , 2",), template=("a {} dog",), resize="pad")
    )
    again = comparison_plan(parse(Compare, shlex.split(spaced.command)[2:], "dpl compare"))
    assert all(planned.config.resize == "pad" for planned in again.runs)
    assert again == spaced and vars(again.runs[0].config)["design"].init == "a photo"


def test_templates_of_a_file_are_in_the_command_and_in_every_run(tmp_path):
    (tmp_path / "t.txt").write_text("a {}\nit's {}\n")
    plan = comparison_plan(asked(template=(str(tmp_path / "t.txt"), "one {}")))
    (tmp_path / "t.txt").unlink()
    assert {run.config.template for run in plan.runs} == {("a {}", "it's {}", "one {}")}
    assert comparison_plan(parse(Compare, shlex.split(plan.command)[2:], "dpl compare")) == plan


def test_the_order_is_shots_by_shots_and_in_each_seed_by_seed():
    plan = comparison_plan(asked(methods=("dpl,coop",), seeds=("2", "1"), shots=("4,1",)))
    order = [(run.config.shots, run.config.seed, run.label) for run in plan.runs]
    assert order == [(shots, seed, label) for shots in (1, 4) for seed in (2, 1) for label in ("dpl", "coop")]
    assert plan.reference == "dpl" and plan.out == Path("runs/compare-digits")


def test_methods_take_the_settings_of_their_own_runs_and_the_preset_of_all():
    plan = comparison_plan(asked(methods=("coop:class-specific:context=4,dpl:search.options=0 2",), shots=("1",), seeds=("1",)))
    coop, own = (run.config for run in plan.runs)
    assert vars(coop)["design"].class_specific and vars(coop)["design"].context == 4
    assert vars(own)["search"].options == (0, 2)


def test_paper_is_each_methods_published_settings_for_its_shots():
    plan = comparison_plan(asked(methods=("coop", "dpl:preset=default"), preset="paper", seeds=("1",), shots=("1", "4")))
    trained = [vars(run.config)["train"] for run in plan.runs]
    assert [each.epochs for each in trained] == [50, 20, 100, 20] and trained[0].optimizer == "sgd"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("paint",)}, "no method 'paint': there are dpl, zero-shot"),
        ({"methods": ()}, "--methods: give at least one"),
        ({"methods": (",",)}, "--methods: give at least one"),
        ({"methods": ("dpl,coop", "dpl")}, "--methods: dpl is there twice"),
        ({"methods": ("coop:place=end,coop",)}, "--methods: coop:place=end and coop have the same settings"),
        ({"methods": ("coop:init='a",)}, "a quotation mark is not closed"),
        ({"methods": ("coop:context=0",)}, "context 0: input should be greater"),
        ({"methods": ("coop:seed=3",)}, "--methods coop:seed=3: --seed is the same for all methods"),
        ({"methods": ("coop:method=dpl",)}, "--method is the same for all methods"),
        ({"methods": ("coop:out=x",)}, "--out is the same for all methods"),
        ({"methods": ("coop:resize=pad",)}, "--resize is the same for all methods"),
        ({"methods": ("coop:overwrite",)}, "--overwrite is the same for all methods"),
        ({"methods": ("coop:preset=best",)}, "no preset 'best'"),
        ({"reference": "zero-shot"}, "--reference zero-shot: is none of the methods dpl"),
        ({"preset": "best"}, "no preset 'best': there are default, paper"),
        ({"seeds": ()}, "--seeds: give at least one number"),
        ({"seeds": ("1,2", "1")}, "--seeds: 1 is there twice"),
        ({"seeds": ("-1",)}, "--seeds -1: must be whole numbers from 0"),
        ({"shots": ("1,many",)}, "--shots many: must be whole numbers from 1"),
        ({"shots": ("0",)}, "--shots 0: must be whole numbers from 1"),
        ({"shots": ("",)}, "--shots: give at least one number"),
        ({"template": ("a photo",)}, "--template 'a photo': must have one {}"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes, message):
    with pytest.raises(DplError) as caught:
        comparison_plan(asked(**changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_methods_unknown_option_is_an_error_as_in_fit(capsys):
    with pytest.raises(SystemExit) as stop:
        comparison_plan(asked(methods=("zero-shot:layout=6",)))
    assert stop.value.code == 2 and "--layout" in capsys.readouterr().err


def test_folders_of_different_labels_are_different():
    labels = ("coop:init='a b'", "coop:init='a-b'", "coop:init='" + "x " * 99 + "a'", "coop:init='" + "x " * 99 + "b'")
    plan = comparison_plan(asked(methods=labels, seeds=("1",), shots=("1",)))
    names = {run.run.name for run in plan.runs}
    assert len(names) == 4 and all(len(name) < 120 and name.isascii() and "/" not in name for name in names)
