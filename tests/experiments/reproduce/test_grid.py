"""The grid of a protocol has its data sets, shots and settings; wrong arguments end in one line."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dpl.cli.arguments import Reproduce, parse
from dpl.cli.main import main
from dpl.cli.plans import reproduction_grid
from dpl.experiments.reproduce import PROTOCOLS
from dpl.methods import METHODS
from dpl.utils.errors import DplError
from tests.data.sources.catalog.replicas import NAMES

# docs/protocol.md's tables, by hand.
ELEVEN = {
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101", "fgvc_aircraft", "sun397", "dtd",
    "eurosat", "ucf101",
}  # fmt: skip
SHIFTS = {"imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"}


def asked(protocol, root: Path | None, **changes) -> Reproduce:
    return replace(Reproduce(protocol, root=root, backbone="tiny"), **changes)


def test_the_protocols_are_the_fields(root: Path):
    few, base, cross, domain = (reproduction_grid(asked(name, root)) for name in PROTOCOLS)
    assert set(few.plans) == set(base.plans) == ELEVEN and few.first.shots == (1, 2, 4, 8, 16) and few.first.seeds == (1, 2, 3)
    assert set(cross.plans) == set(domain.plans) == {"imagenet"} and all(
        grid.first.shots == (16,) for grid in (base, cross, domain)
    )
    assert set(cross.targets) == ELEVEN - {"imagenet"} and set(domain.targets) == SHIFTS
    assert {run.config.classes for plan in base.plans.values() for run in plan.runs} == {"base"}
    for grid in (few, cross, domain):
        assert {run.config.classes for plan in grid.plans.values() for run in plan.runs} == {"all"}
    assert all(run.config.preset == "paper" for plan in few.plans.values() for run in plan.runs)
    assert set(NAMES) == ELEVEN | SHIFTS


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_method_has_a_plan_in_every_protocol(protocol, root: Path):
    grid = reproduction_grid(asked(protocol, root, methods=tuple(METHODS), data=("imagenet_a",), shots=("16",)))
    assert all([column.label for column in plan.columns] == list(METHODS) for plan in grid.plans.values())
    assert all([column.method for column in plan.columns] == list(METHODS) for plan in grid.plans.values())


def settings(grid, name: str, place: int = 0) -> dict:
    plan = grid.plans[name]
    return vars(next(run.config for run in plan.runs if run.label == plan.columns[place].label))


def test_authors_settings_for_a_data_set_or_a_protocol_are_taken_unless_others_are_given(root: Path):
    grid = reproduction_grid(
        asked(
            "dpl-fewshot",
            root,
            methods=("coop", "promptsrc", "tip-adapter-f"),
            shots=("16",),
            data=("imagenet", "dtd", "eurosat"),
        )
    )
    assert settings(grid, "imagenet")["train"].epochs == 50 and settings(grid, "dtd")["train"].epochs == 200
    assert settings(grid, "dtd", 1)["train"].epochs == 50
    assert settings(grid, "dtd", 2)["train"].epochs == 20 and settings(grid, "eurosat", 2)["train"].epochs == 100
    grid = reproduction_grid(asked("base-to-new", root, methods=("promptsrc",), data=("dtd",)))
    assert settings(grid, "dtd")["train"].epochs == 20 and settings(grid, "dtd")["train"].aggregate == (0.75, 0.05)
    grid = reproduction_grid(asked("cross-dataset", root, methods=("maple", "promptsrc:depth=5")))
    assert settings(grid, "imagenet")["design"].depth == 3 and settings(grid, "imagenet")["train"].epochs == 2
    assert settings(grid, "imagenet", 1)["design"].depth == 5 and settings(grid, "imagenet", 1)["train"].epochs == 20
    assert [column.label for column in grid.first.columns] == ["maple", "promptsrc:depth=5"]
    grid = reproduction_grid(asked("dpl-fewshot", root, methods=("coop",), preset="default", data=("imagenet",)))
    assert settings(grid, "imagenet")["train"].epochs == 27


def test_the_command_that_is_written_repeats_the_grid(root: Path):
    one = asked("domain", root, methods=("coop:init='a photo'", "dpl"), seeds=("3,1",), data=("imagenet_a",), out=Path("there"))
    grid = reproduction_grid(one)
    assert reproduction_grid(parse(Reproduce, shlex.split(grid.command)[2:], "dpl reproduce")) == grid


def test_what_is_not_there_is_named_and_left_out(root: Path, tmp_path: Path):
    for name in ("dtd", "food-101"):
        shutil.copytree(root / name, tmp_path / name)
    grid = reproduction_grid(asked("dpl-fewshot", tmp_path))
    assert set(grid.plans) == {"dtd", "food101"} and set(grid.absent) == ELEVEN - {"dtd", "food101"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": None}, "none of imagenet, .*ucf101 is under --root, which is not given: see dpl datasets where NAME"),
        ({"root": Path("/nowhere")}, "is under --root /nowhere: see dpl datasets where NAME"),
        ({"protocol": "cross-dataset", "root": None, "data": ("dtd",)}, "cross-dataset learns on imagenet, which is not under"),
        ({"protocol": "domain"}, "none of imagenetv2, .* is under"),
        ({"source": "dtd"}, "--source dtd: dpl-fewshot learns on every data set"),
        ({"protocol": "domain", "source": "dtd", "data": ("dtd",)}, "--data dtd: is what is learned on"),
        ({"data": ("a/x", "b/x")}, "--data b/x: would be called x, as a/x is"),
        ({"data": ("digits",), "methods": ("nothing",)}, "no method 'nothing'"),
        ({"data": ("digits",), "shots": ("0",)}, "--shots 0: must be whole numbers from 1"),
        ({"data": ("digits",), "seeds": ("x",)}, "--seeds x"),
        ({"data": ("digits",), "preset": "mine"}, "no preset 'mine'"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_one_line(changes, message: str, tmp_path: Path):
    given = {"protocol": "dpl-fewshot", "root": tmp_path} | changes
    with pytest.raises(DplError, match=message) as error:
        reproduction_grid(asked(given.pop("protocol"), given.pop("root"), **given))
    assert "\n" not in str(error.value)


def refused(capsys, *words: object) -> str:
    assert main(["reproduce", *map(str, words), "--backbone", "tiny"]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_nothing_is_written_where_something_is_wrong(root: Path, tmp_path: Path, capsys):
    out = ("--out", tmp_path / "out")
    specific = ("--root", root, "--methods", "dpl:layout=1,linear-probe")
    line = refused(capsys, "base-to-new", "--data", "imagenet", *specific, *out)
    assert "linear-probe: what it learns belongs to the classes of imagenet, base classes" in line and "2 others" in line
    line = refused(capsys, "cross-dataset", "--data", "dtd", *specific, *out)
    assert "linear-probe: what it learns belongs to the classes of imagenet; dtd has 3 others; leave it out" in line
    line = refused(capsys, "base-to-new", "--root", root, "--data", "dtd", "--methods", "zero-shot", *out)
    assert "--classes base: dtd has 3 classes" in line or "--classes new: dtd has 3 classes" in line
    assert "nowhere" in refused(capsys, "dpl-fewshot", "--data", "digits", "nowhere", "--methods", "zero-shot", *out)
    assert not (tmp_path / "out").exists()


def test_folders_of_other_things_are_refused(tmp_path: Path, capsys):
    words = ("dpl-fewshot", "--data", "digits", "--methods", "zero-shot", "--shots", "1", "--seeds", "1", "--out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    assert "holds other files than a reproduction" in refused(capsys, *words, tmp_path / "mine")
    (tmp_path / "mine" / "reproduce.json").write_text('{"reproduction": {"protocol": "domain"}}')
    assert "holds domain; give another --out" in refused(capsys, *words, tmp_path / "mine")
    assert "is a file" in refused(capsys, *words, tmp_path / "mine" / "thesis.txt")
