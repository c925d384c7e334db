"""docs/methods.md says what the program does: its parameters, settings, commands, flags and files are looked up."""

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from dpl import Backbone, load_backbone
from dpl.arguments import Compare, Evaluate, parse, parse_run
from dpl.classifier import Classifier
from dpl.cli import COMMANDS
from dpl.compare import make_plan
from dpl.config import FIELD, REGULARIZERS, FitRun, Occasion, SearchConfig, Training, preset
from dpl.data.digits import TEMPLATES
from dpl.methods import METHODS
from dpl.methods.coop import CoOp, CoOpDesign
from dpl.methods.dpl import Dpl, DplDesign
from dpl.methods.language_prompting import LanguagePrompting, LanguagePromptingDesign
from dpl.methods.method import Method
from dpl.methods.tip_adapter import TipAdapter
from dpl.methods.vpt import Vpt, VptDesign
from dpl.prompts.layout import PromptLayout
from dpl.reports.comparison.text import HEAD

from .bare import bare_backbone
from .methods.plain import close, draw_pixels

ROOT = Path(__file__).parent.parent
PAGE = re.sub(r"\\\n +", "", (ROOT / "docs" / "methods.md").read_text())  # a command that goes on in the next line is one
SHOTS = 16


def sections(level: str) -> dict[str, str]:
    """The text under each heading of a level, by heading."""
    return dict(re.findall(rf"^{level} (.+)\n((?:(?!#{{2,{len(level)}}} ).*\n)*)", PAGE, re.MULTILINE))


def tables(text: str) -> list[list[list[str]]]:
    """Their rows, without the line under the head; code marks are left out."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    rows = [[line.strip("| ").replace("`", "").split("|") for line in block.splitlines()] for block in blocks]
    return [[[cell.strip() for cell in row] for row in (block[0], *block[2:])] for block in rows]


PAGES = sections("###")
(OVERVIEW,) = (table[1:] for table in tables(PAGE) if table[0][:2] == ["--method", "what is learned"])
OVERVIEW_ROWS = {re.sub(r"\[(.+)\].*", r"\1", row[0]): row[1:] for row in OVERVIEW}


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def wide(tiny: Backbone) -> Backbone:
    """As many layers, and of those widths, as CLIP ViT-B/16; what has no say in what is learned is as small as it can be."""
    vocabulary: Any = tiny.clip.config.text_config
    small = {"num_hidden_layers": 12, "intermediate_size": 1}
    text = {"hidden_size": 512, "num_attention_heads": 8, **small}
    text |= {name: getattr(vocabulary, name) for name in ("vocab_size", "bos_token_id", "eos_token_id")}
    vision = {"hidden_size": 768, "num_attention_heads": 12, "image_size": 16, "patch_size": 16, **small}
    with torch.random.fork_rng():
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512)).eval()
    return replace(bare_backbone(clip), tokenizer=tiny.tokenizer)


def embedding_dim(backbone: Backbone) -> int:
    projection: Any = backbone.clip.visual_projection
    return projection.out_features


def built(method: str, backbone: Backbone, classes: int) -> Method:
    """The method of the default preset, as it is after training; of DPL, in a layout that takes the whole budget."""
    names, config = [str(index) for index in range(classes)], preset(METHODS[method].run(), "default", "digits", SHOTS)
    if isinstance(config, FitRun):
        budget = config.search.tokens(backbone.image.depth + backbone.text.depth)
        assert budget is not None
        image = (budget // backbone.image.depth,) * backbone.image.depth  # the wider branch: as many parameters as may be
        design: Any = DplDesign(PromptLayout(image, (0,) * backbone.text.depth))
    else:
        design = vars(config)["design"]
    model = METHODS[method].load()(backbone, names, TEMPLATES[:1], design)
    if isinstance(model, TipAdapter):
        keys = torch.zeros(classes * SHOTS, embedding_dim(backbone))
        model.load_state_dict({"keys": keys, "labels": torch.zeros(len(keys), dtype=torch.long)})
    return model


def learned(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def computed(formula: str, model: Method) -> float:
    """A formula of the page, such as "M wt d", with the values of the model."""
    backbone, layout, dim = model.backbone, model.layout, embedding_dim(model.backbone)
    depth = sum(n + m > 0 for n, m in zip(layout.image, layout.text, strict=True))
    values = {"C": len(model.class_names), "K": SHOTS, "D": dim, "h": dim // 16, "L": backbone.image.depth, "d": depth}
    values |= {"wi": backbone.image.width, "wt": backbone.text.width, "r": getattr(model.design, "rank", None)}
    values |= {"N": max(layout.image), "M": max(layout.text)}
    values |= {"n": layout.image, "m": layout.text, "sum": sum}
    return eval(re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", formula), values)


def test_every_method_has_a_row_and_a_section_in_the_order_of_the_program():
    assert list(PAGES) == list(OVERVIEW_ROWS) == list(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_the_parameters_are_those_of_the_method(tiny, wide, method):
    for backbone, classes, column in ((wide, 100, 3), (tiny, 10, 4)):
        model = built(method, backbone, classes)
        number = f"{learned(model):,}"
        assert OVERVIEW_ROWS[method][column].removeprefix("at most ") == number
        assert re.search(rf"Learned: .*\b{number}\b", PAGES[method].replace("\n", " ")), number
        assert OVERVIEW_ROWS[method][2] == ("no" if model.class_specific else "yes")
        formula = re.search(r"Learned: `([^`]+)`", PAGES[method])
        assert computed(formula[1], model) == learned(model) if formula else not learned(model)


def test_the_parameters_of_other_designs_and_of_searches_are_those_of_the_model(tiny, wide):
    paper = preset(FitRun, "paper", "digits").search
    for backbone, classes in ((wide, 100), (tiny, 10)):
        names = [str(index) for index in range(classes)]
        specific = CoOp(backbone, names, TEMPLATES, CoOpDesign(class_specific=True))
        assert re.search(rf"Class-specific .*\b{learned(specific):,}\b", PAGES["coop"])
        pruning = Classifier.prunable(backbone, names, TEMPLATES[0], SearchConfig(7).options[-1], 0.05, 1)
        mixture = Classifier.mixture(backbone, names, TEMPLATES[0], paper.options, 0.02, 1)
        _, pruned, mixed = re.split(r"\*\*The search by", PAGES["dpl"])
        assert f"{learned(pruning):,} in" in pruned and f"{learned(mixture):,} in" in mixed
    assert f"{6 * 24 * 512:,} (all in the text branch) and {6 * 24 * 768:,} (all" in PAGES["dpl"].replace("\n", " ")


def test_vpt_in_all_layers_is_dpl_with_an_equal_layout_but_for_the_first_norm(checkpoint):
    backbone, names = load_backbone(str(checkpoint)), ["green", "red"]
    vpt = Vpt(backbone, names, ["a {}."], VptDesign(context=3, prompt_std=1.0))
    dpl = Dpl(backbone, names, ["a {}."], DplDesign(PromptLayout((3, 3), (0, 0))))
    with torch.no_grad():
        own: Any = backbone.clip.vision_model
        first, second = vpt.image_context
        for layer, prompts in zip(dpl.image.layers, (own.pre_layrnorm(first), second), strict=True):
            layer.prompts.copy_(prompts)
        close(dpl(draw_pixels()), vpt(draw_pixels()))


def test_language_prompting_of_depth_one_is_coop_from_the_same_words(tiny):
    names = ["green", "dark_blue"]
    language = LanguagePrompting(tiny, names, ["a {}."], LanguagePromptingDesign(depth=1))
    coop = CoOp(tiny, names, ["a {}."], CoOpDesign(init="a photo of a"))
    with torch.no_grad():
        for context in (language.text[0], coop.context):
            context.mul_(torch.linspace(-2, 3, context.numel()).view_as(context))
        close(language.text_features(), coop.text_features())


def shown(value: Any) -> str:
    """A setting as the page writes it."""
    if isinstance(value, tuple):
        is_range = len(value) > 3 and value == tuple(range(len(value)))
        return f"0 to {len(value) - 1}" if is_range else " ".join(map(shown, value))
    if value in (None, ""):
        return "none"
    return ("no", "yes")[value] if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def settings(config: Any, prefix: str = "") -> dict[str, str]:
    """All settings by their flags, as the page writes them."""
    found: dict[str, str] = {}
    for name, value in vars(config).items():
        flag = prefix + name.replace("_", "-")
        if hasattr(value, "__dataclass_fields__"):
            found |= settings(value, "" if name == "design" else f"{flag}.")
        else:
            found[flag.replace("search.budget", "budget")] = shown(value)
    return found


def presets_of(method: str) -> list[dict[str, str]]:
    return [settings(preset(METHODS[method].run(), name, "digits", SHOTS)) for name in ("default", "paper")]


@pytest.mark.parametrize("method", METHODS)
def test_the_table_of_settings_says_what_both_presets_are_and_leaves_no_difference_out(method):
    default, paper = presets_of(method)
    rows = [row for table in tables(PAGES[method]) for row in table[1:] if table[0][0] == "setting"]
    names = [row[0].removeprefix("--") for row in rows]
    assert rows == [[f"--{name}", default[name], paper[name]] for name in names]
    differing = {name for name in default if default[name] != paper[name]} - {"preset"}
    if paper.get("train.optimizer") == "sgd":  # the other settings of Dassl are those of the common table
        common = {f"{stage}.{name.replace('_', '-')}" for stage in ("search", "train") for name in FIELD}
        differing -= common - {"train.optimizer"}
    assert differing <= set(names)


def test_the_common_table_says_what_dassls_settings_are():
    (table,) = tables(sections("##")["Two presets"])
    rows, (default, paper) = table[1:], presets_of("coop")
    assert rows == [[row[0], default[row[0].removeprefix("--")], paper[row[0].removeprefix("--")]] for row in rows]
    assert [row[0] for row in rows[-5:]] == [f"--train.{name.replace('_', '-')}" for name in FIELD]
    for method in METHODS:
        train: Any = METHODS[method].run().published(Occasion(SHOTS)).get("train")
        if train and train.optimizer == "sgd":
            assert all(getattr(train, name) == value for name, value in FIELD.items()), method


COMMAND_LINES = re.findall(r"^    (dpl .*)$", PAGE, re.MULTILINE) + re.findall(r"`(dpl [^`]*)`", PAGE)


@pytest.mark.parametrize("line", sorted(set(COMMAND_LINES)))
def test_every_command_parses(line):
    _, command, *rest = shlex.split(line)
    if command == "compare" and rest:
        assert make_plan(parse(Compare, rest, "dpl compare")).runs
    elif command == "evaluate":
        assert parse(Evaluate, rest, "dpl evaluate").on
    elif rest:
        assert command in ("fit", "search", "train") and parse_run(command, rest).data
    assert command in COMMANDS


def test_every_method_has_a_command():
    named = {parse_run("fit", shlex.split(line)[2:]).method for line in COMMAND_LINES if line.startswith("dpl fit ")}
    assert named == set(METHODS)


def flags(text: str) -> set[str]:
    """What stands as a flag in the code marks of a text, and in its commands."""
    code = re.findall(r"`([^`]*)`", text) + re.findall(r"^    (dpl .*)$", text, re.MULTILINE)
    return {flag for words in code for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9.-]*", words)}


def offered(capsys: pytest.CaptureFixture[str], ask: Callable[[], object]) -> set[str]:
    """The flags that a command's help names."""
    with pytest.raises(SystemExit):
        ask()
    return set(re.findall(r"--[a-z][a-z0-9.-]*", capsys.readouterr().out))


@pytest.mark.parametrize("method", METHODS)
def test_every_flag_of_a_method_exists(capsys, monkeypatch, method):
    monkeypatch.setenv("COLUMNS", "200")
    exists = offered(capsys, lambda: parse_run("fit", ["--method", method, "--help"]))
    exists |= offered(capsys, lambda: parse_run("fit", ["--method", method, "--preset", "paper", "--help"]))
    assert flags(PAGES[method]) <= exists


def test_every_other_flag_exists(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    exists = offered(capsys, lambda: parse(Compare, ["--help"], "dpl compare"))
    exists |= offered(capsys, lambda: parse(Evaluate, ["--help"], "dpl evaluate"))
    for method in METHODS:
        exists |= offered(capsys, lambda method=method: parse_run("fit", ["--method", method, "--help"]))
    named = {flag for heading, text in sections("##").items() if heading != "The methods" for flag in flags(text)}
    assert named <= exists


def test_the_table_of_regularizers_is_the_programs():
    (table,) = tables(sections("##")["Regularizers"])
    head, *rows = table
    names = [flag.removeprefix("--train.").replace("-", "_") for flag in head[1:]]
    assert rows == [
        [name, *(shown(getattr(penalties, field)) or "none" for field in names)] for name, penalties in REGULARIZERS.items()
    ]


def test_the_methods_that_a_regularizer_serves_are_named():
    without, served = sections("##")["Regularizers"].split("\n\n")[0].replace("\n", " ").split("): DPL,")
    trained = {name: preset(METHODS[name].run(), "default", "digits").optimization for name in METHODS}
    able = {name for name, config in trained.items() if isinstance(config, Training)}
    assert {"dpl", *re.findall(r"`([a-z-]+)`", served)} == able
    assert set(re.findall(r"`([a-z-]+)`", without)) == {name for name, config in trained.items() if config} - able


def test_the_columns_are_those_of_a_comparison():
    (table,) = tables(sections("##")["Comparing"])
    assert tuple(row[0] for row in table[1:]) == HEAD


def test_every_file_and_link_of_the_page_exists():
    named = set(re.findall(r"`((?:tests|src)/[^`]+)`", PAGE))
    assert len(named) > 15 and all((ROOT / name).exists() for name in named)
    golden = set(re.findall(r"`(?:tests/golden/)?(\w+\.safetensors)`", PAGE))
    assert golden == {path.name for path in (ROOT / "tests" / "golden").glob("*.safetensors")} - {"templates.safetensors"}
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)", PAGE, re.M)}
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert link.startswith("https://") or link.removeprefix("#") in anchors or (ROOT / "docs" / link).exists(), link
