"""What the prompts say and how much they are used, as the page has it."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpl.reports.web.html import write_report
from dpl.utils.errors import DplError
from tests.reports.page import Page, cells, read


def explain(run: Path, **fields: Any) -> None:
    """Sets fields of the explanation."""
    path = run / "explanation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def prompts(*cosines: float, norm: float = 0.5) -> dict[str, Any]:
    """Text prompts of layer 1 with a nearest word of each cosine."""
    words = [[{"word": f"word{place}", "cosine": cosine}] for place, cosine in enumerate(cosines)]
    text = [{"layer": 1, "norms": [norm] * len(cosines), "words": words}] if cosines else []
    return {"image": [{"layer": 2, "norms": [1.0, 2.0]}], "text": text, "token_norm": 0.42, "chance": 0.3}


def test_words_nearer_than_chance_are_told_from_the_others(run: Path) -> None:
    explain(run, prompts=prompts(0.35, 0.29, 0.3))
    page = read(run)
    assert "stays below 0.30 in 95 of 100 cases. 1 of 3 prompts has a word nearer than that" in page.text
    assert "the words of all others mean nothing" in page.text
    marks = [value for value in page.values("class") if value.split()[0] == "word"]
    assert marks == ["word near", "word", "word"]
    assert "word0 0.35" in page.text and "word1 0.29" in page.text


@pytest.mark.parametrize(
    ("cosines", "told"), [((0.1, 0.2), "None of 2 prompts has a word nearer than that (bold): the words mean nothing."),
                          ((0.4, 0.5), "2 of 2 prompts have a word nearer than that (bold). Prompts of layers")]
)  # fmt: skip
def test_words_that_mean_nothing_are_said_to(run: Path, cosines: tuple[float, ...], told: str) -> None:
    explain(run, prompts=prompts(*cosines))
    assert told in read(run).text


@pytest.mark.parametrize(("count", "opened"), [(24, True), (25, False)])
def test_many_words_are_folded(run: Path, count: int, opened: bool) -> None:
    explain(run, prompts=prompts(*[0.2] * count))
    page = read(run)
    assert (("details", "open", "") in page.attributes) == opened
    assert f"Nearest words of {count} text prompts" in page.text


def picture(page: Page, key: str) -> Any:
    (found,) = [picture for picture in page.pictures if picture.get("id") == key]
    return found


def test_norms_are_dots_in_the_columns_of_their_layers(run: Path) -> None:
    explain(run, prompts=prompts(0.2, 0.2, norm=0.5))
    page = read(run)
    image, text = ([dot for dot in picture(page, f"norms-{branch}").iter("circle")] for branch in ("image", "text"))
    column = (376 - 42) / 6
    assert all(40 + column < float(dot.get("cx", 0)) < 40 + 2 * column for dot in image)
    assert all(40 < float(dot.get("cx", 0)) < 40 + column for dot in text)
    assert [float(dot.get("cy", 0)) for dot in image] == pytest.approx([74, 14]) and len(text) == 2
    (line,) = [line for line in picture(page, "norms-text").iter("line") if line.get("class") == "reference"]
    assert float(line.get("y1", 0)) == pytest.approx(134 - 120 * 0.42 / 2)


def test_prompts_of_one_branch_only_and_none_at_all(run: Path) -> None:
    explain(run, prompts=prompts())
    page = read(run)
    assert "Nearest words" not in page.text and "norms-image" in page.values("id") and "norms-text" not in page.values("id")
    explain(run, prompts=None, attention=None)
    page = read(run)
    assert "What the prompts say" not in page.text and "How much each head attends" not in page.text


def test_attention_stands_under_the_layout_column_under_column(run: Path) -> None:
    page = read(run)
    shares = json.loads((run / "explanation.json").read_text())["attention"]
    darkest = max(round(1000 * share) for branch in shares for row in shares[branch] for share in row)
    for branch, heads in (("image", 4), ("text", 3)):
        heat, layout = picture(page, f"attention-{branch}"), picture(page, f"layout-{branch}")
        shades = [float(cell[2].get("fill-opacity", -1)) for cell in cells(heat)]
        assert shades == pytest.approx([round(1000 * share) / darkest for row in shares[branch] for share in row], abs=1e-5)
        titles = [cell.findtext("title") or "" for cell in cells(heat)]
        assert titles[heads - 1].startswith(f"layer 1, head {heads}: ") and len(titles) == 6 * heads
        middles = [[text.get("x") for text in drawn.findall(".//text") if text.text == "5"] for drawn in (heat, layout)]
        assert middles[0][-1] == middles[1][-1]  # the number of layer 5


def test_a_branch_without_prompts_has_no_attention_to_show(run: Path) -> None:
    layout = json.loads((run / "layout.json").read_text())
    (run / "layout.json").write_text(json.dumps(layout | {"text": [0] * 6}))
    page = read(run)
    assert "attention-image" in page.values("id") and "attention-text" not in page.values("id")
    assert "averaged over what asks and over images; the rest goes to the patches themselves" in page.text


def test_attention_of_other_layers_than_the_layout_is_refused(run: Path) -> None:
    explain(run, attention={"image": [[0.1]] * 5, "text": [[0.1]] * 6})
    with pytest.raises(DplError, match=r"explanation\.json: attention\.image must be 6 layers of as many heads each"):
        write_report(run)


def test_words_are_text(run: Path) -> None:
    found = prompts(0.2)
    found["text"][0]["words"][0][0]["word"] = "<i onclick=alert(1)>"
    explain(run, prompts=found)
    page = read(run)
    assert "<i onclick=alert(1)> 0.20" in page.text and "onclick" not in [name for _, name, _ in page.attributes]
