import shlex
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dpl.cli.arguments import parse_run
from dpl.config import (
    PRESETS,
    FitRun,
    Penalties,
    SearchConfig,
    SearchRun,
    TrainConfig,
    TrainRun,
    checked,
    command,
    from_dict,
    preset,
)
from dpl.methods.coop import CoOpRun
from dpl.utils.errors import DplError


@pytest.mark.parametrize("kind", [FitRun, SearchRun, TrainRun])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_every_kind_of_run(kind, name: str):
    config = preset(kind, name, "digits")
    assert checked(config) == config
    assert (config.augmentation, config.prompt_std) == (("protocol", 0.02) if name.startswith("paper") else ("task", 0.05))


def test_settings_come_back_from_json_as_they_were():
    config = FitRun("digits", out=Path("runs/x"), search=SearchConfig(options=(0, 2, 4)), train=TrainConfig(distill=0.5))
    search = asdict(config.search) | {"options": [0, 2, 4]}
    settings = asdict(config) | {"out": "runs/x", "search": search}
    assert from_dict(FitRun, settings) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": 0}, "--shots 0"),
        ({"prompt_std": -1.0}, "--prompt-std -1.0"),
        ({"train": TrainConfig(batch_size=0)}, "--train.batch-size 0"),
        ({"train": TrainConfig(distill=-0.1)}, "--train.distill -0.1"),
        ({"train": TrainConfig(prompt_scales=(1.0, 1.5))}, "--train.prompt-scales.1 1.5"),
        ({"train": TrainConfig(prompt_scales=())}, "--train.prompt-scales"),
        ({"search": SearchConfig(budget=-1)}, "--search.budget -1"),
        ({"search": SearchConfig(alpha_lr=0)}, "--search.alpha-lr 0"),
        ({"search": SearchConfig(patience=-1)}, "--search.patience -1"),
        ({"search": SearchConfig(options=(1, 2))}, "options 1 2"),
        ({"train": TrainConfig(aggregate=(0.5,))}, "--train.aggregate: takes two numbers"),
        ({"train": TrainConfig(aggregate=(0.5, 2.0))}, "--train.aggregate"),
    ],
)
def test_a_setting_out_of_range_is_named_as_it_is_typed(changes: dict, message: str):
    with pytest.raises(DplError, match=message):
        checked(replace(FitRun("digits"), **changes))


def test_distill_and_budget_need_no_prefix():
    config = parse_run("fit", ["digits", "--distill", "0.5", "--budget", "2"])
    assert isinstance(config, FitRun) and (config.train.distill, config.search.budget) == (0.5, 2)


def test_a_regularizer_is_its_authors_weights_and_single_ones_can_be_changed():
    config = parse_run("fit", ["digits", "--regularizer", "promptsrc", "--train.text-l1", "5", "--distill", "0"])
    assert isinstance(config, FitRun)
    assert config.train.penalties == Penalties(distill=0, text_l1=5, image_l1=10, aggregate=(0.9, 0.1))
    assert replace(config.train, aggregate=()).penalties.aggregate == ()
    assert TrainConfig().penalties == Penalties() == TrainConfig(regularizer="none").penalties
    assert TrainConfig(regularizer="kgcoop").penalties == Penalties(text_cosine=8)


def test_a_method_brings_its_own_settings_and_its_own_published_ones():
    config = parse_run("fit", ["digits", "--method=coop", "--context", "4", "--preset", "paper", "--shots", "4"])
    assert isinstance(config, CoOpRun)
    assert (config.design.context, config.shots, config.train.epochs, config.train.batch_size) == (4, 4, 100, 32)
    assert "--context 4" in command("fit", config) and "--train" not in command("fit", config)


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("fit", ["digits", "--method", "clop"], "no method 'clop': there are dpl, zero-shot"),
        ("search", ["digits", "--method", "coop"], "dpl search is for the method dpl; use dpl fit --method coop"),
        ("fit", ["digits", "--preset", "best"], "no preset 'best': there are default, paper"),
        ("fit", ["digits", "--method"], "no method ''"),
    ],
)
def test_methods_and_presets_that_are_none_are_named(kind: str, words: list[str], message: str):
    with pytest.raises(DplError, match=message):
        parse_run(kind, words)


def test_the_former_name_of_a_setting_is_read_on_the_command_line_and_in_earlier_runs():
    for words, scales in ((["--train.gates", "1", "0"], (1.0, 0.0)), (["--train.gates=0.5"], (0.5,))):
        run = parse_run("fit", ["digits", *words])
        assert isinstance(run, FitRun) and run.train.prompt_scales == scales
    settings = asdict(FitRun("digits"))
    settings["train"]["gates"] = [1.0, 0.25]
    del settings["train"]["prompt_scales"]
    assert from_dict(FitRun, settings) == FitRun("digits", train=TrainConfig(prompt_scales=(1.0, 0.25)))


def test_a_budget_is_tokens_per_layer_and_zero_is_none():
    assert SearchConfig(budget=2.5).tokens(5) == 12 and SearchConfig(budget=0).tokens(5) is None


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("fit", FitRun("digits")),
        ("fit", FitRun("my photos/it's", out=Path("a b"), shots=2, search=SearchConfig(options=(0, 2)), strict=True)),
        ("train", TrainRun("digits", layout="runs/x", train=TrainConfig(warmup_lr=1e-5, distill=0.5))),
        ("search", replace(preset(SearchRun, "paper", "digits"), seed=3, template=("a {}",))),
        ("fit", replace(preset(FitRun, "paper", "digits"), train=TrainConfig())),
        ("fit", FitRun("digits", inherit=False, search=SearchConfig(method="mixture", budget=2.5))),
        ("fit", replace(preset(FitRun, "paper", "digits"), inherit=True)),
    ],
)
def test_the_command_that_repeats_a_run_says_all_of_its_settings(kind: str, config):
    program, command_name, *words = shlex.split(command(kind, config))
    assert (program, command_name) == ("dpl", kind) and parse_run(kind, words) == config
