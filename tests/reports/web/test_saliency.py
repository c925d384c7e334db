"""Saliency of any shape: what is shown is what the numbers say."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from dpl.prompts.layout import PromptLayout
from dpl.reports.web.stages import search
from dpl.schemas.run import SaliencyEpoch
from dpl.schemas.run_folder import BRANCHES, read_run
from tests.reports.made_up import write_run
from tests.reports.page import cells


@st.composite
def epochs(draw: st.DrawFn) -> tuple[int, list[SaliencyEpoch]]:
    """The longest length, and epochs of 1 to 5 layers whose shares sum to 1, or are all 0."""
    longest, layers = draw(st.integers(1, 8)), {branch: draw(st.integers(1, 5)) for branch in BRANCHES}
    lines = []
    for epoch in range(draw(st.integers(1, 3))):
        raw = {
            branch: [draw(st.lists(st.floats(0, 1, width=32), min_size=longest, max_size=longest)) for _ in range(layers[branch])]
            for branch in BRANCHES
        }
        total = sum(sum(map(sum, raw[branch])) for branch in BRANCHES) or 1.0
        shares = {branch: [sorted((x / total for x in row), reverse=True) for row in raw[branch]] for branch in BRANCHES}
        layout = {branch: [draw(st.integers(0, longest)) for _ in shares[branch]] for branch in BRANCHES}
        lines.append(SaliencyEpoch.model_validate({"epoch": epoch, "saliency": shares, "layout": layout}))
    return longest, lines


with TemporaryDirectory() as folder:
    RUN = read_run(write_run(Path(folder) / "run", method="pruning", epochs=1))


@given(epochs())
def test_the_last_heatmap_outlines_the_lengths_and_the_darkest_cell_is_the_largest_share(
    drawn: tuple[int, list[SaliencyEpoch]],
) -> None:
    longest, lines = drawn
    layout: PromptLayout = lines[-1].layout
    shown = search(replace(RUN, layout=layout, options=tuple(range(longest + 1)), search=tuple(lines)))
    assert shown is not None and not any(branch["differs"] for branch in shown["branches"])
    shades: list[float] = []
    for branch in shown["branches"]:
        found = cells(ElementTree.fromstring(branch["heatmap"]))
        outlined = ["chosen" in cell.get("class", "").split() for cell in found]
        assert outlined == [rank < length for length in layout[branch["name"]] for rank in range(longest)]
        shades += [float(cell[2].get("fill-opacity", -1)) for cell in found]
    largest = max(row[0] for branch in BRANCHES for row in lines[-1].saliency[branch])
    assert max(shades) == (1 if round(10_000 * largest) else 0) and min(shades) >= 0
    for chart in shown["charts"]:
        ElementTree.fromstring(chart["picture"])
