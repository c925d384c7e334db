"""What the build of the site generates: tables of settings, counts of parameters, the picture of the packages."""

import re
from pathlib import Path
from typing import Any

import pytest

from docs.extensions.learned import built, count, learned, tiny, vit_b16
from docs.extensions.packages import imports, necessary, order, picture, rows
from docs.extensions.settings import method_rows, settings_of
from dpl.classifier import Classifier
from dpl.config import FitRun, SearchConfig, preset
from dpl.data.sources.digits import TEMPLATES
from dpl.methods import METHODS
from dpl.methods.method import Method

PAGES = Path(__file__).parents[2] / "docs" / "methods"


def test_a_methods_table_has_its_own_settings_and_those_that_differ():
    table = {flags: (default, paper) for flags, default, paper, _ in method_rows("coop")}
    assert table["`--class-specific`"] == ("no", "no") and table["`--train.lr`"] == ("0.01", "0.002")
    assert table["`--train.epochs`"] == ("27", "200") and "`--train.weight-decay`" not in table
    assert not any(name in flags for flags in table for name in ("--backbone", "--seed", "--method", "--device"))


def test_the_table_of_dpl_has_the_settings_of_its_search():
    table = {flags: (default, paper) for flags, default, paper, _ in method_rows("dpl")}
    assert table["`--search.method`"] == ("pruning", "mixture") and table["`--search.budget` `--budget`"] == ("6", "0")
    assert table["`--search.options`"] == ("0 to 12", "0 to 6")


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_has_a_meaning(method: str):
    missing = [setting.flag for _, setting in settings_of(METHODS[method].run()) if not setting.meaning]
    assert set(missing) <= {"method"}


def computed(formula: str, model: Method) -> float:
    """A formula of a page, such as "M wt d", with the values of the model."""
    backbone, layout = model.backbone, model.layout
    projection: Any = backbone.clip.visual_projection
    dim, depth = projection.out_features, sum(n + m > 0 for n, m in zip(layout.image, layout.text, strict=True))
    values = {"C": len(model.class_names), "K": 16, "D": dim, "h": dim // 16, "L": backbone.image.depth, "d": depth}
    values |= {"wi": backbone.image.width, "wt": backbone.text.width, "r": getattr(model.design, "rank", None)}
    values |= {"N": max(layout.image), "M": max(layout.text), "n": layout.image, "m": layout.text, "sum": sum}
    return eval(re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", formula), values)


@pytest.mark.parametrize("method", METHODS)
def test_the_formula_of_a_page_counts_the_learned_parameters(method: str):
    formula = re.search(r"^Learned: `([^`]+)`", (PAGES / f"{method}.md").read_text(), re.MULTILINE)
    for backbone, classes in ((vit_b16(), 100), (tiny(), 10)):
        model = built(method, backbone, classes)
        assert count(model) == (computed(formula[1], model) if formula else 0)


def test_counts_are_those_of_the_papers():
    assert learned("coop")[0] == "8,192" and learned("maple")[0] == "3,555,072" and learned("tip-adapter-f")[0] == "819,200"
    assert learned("coop")[2] and not learned("linear-probe")[2]


def test_the_page_of_dpl_counts_the_parameters_of_both_searches():
    page, paper = (PAGES / "dpl.md").read_text(), preset(FitRun, "paper", "digits").search
    for backbone, classes in ((vit_b16(), 100), (tiny(), 10)):
        names = [str(index) for index in range(classes)]
        pruning = Classifier.prunable(backbone, names, TEMPLATES[0], SearchConfig(7).options[-1], 0.05, 1)
        mixture = Classifier.mixture(backbone, names, TEMPLATES[0], paper.options, 0.02, 1)
        assert f"{count(pruning):,} in" in page and f"{count(mixture):,} in" in page


def test_the_picture_has_every_package_and_only_necessary_arrows():
    found = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset()}
    assert necessary(found) == [("a", "b"), ("b", "c")] and rows(found, "cba") == [["a"], ["b"], ["c"]]
    names, found = order(), imports()
    drawn = picture(found, names)
    assert all(f">{name}</text>" in drawn for name in names) and drawn.count("<path class") == len(necessary(found))
