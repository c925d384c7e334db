"""Heatmaps of each head's attention to the prompts of its layer. Their columns align with the layout picture above them."""

from typing import Any

from dpl.reports.web.accuracy import percent
from dpl.reports.web.heatmap import Grid, Heat, colour_scale, heatmap
from dpl.schemas.explanation import Explanation
from dpl.schemas.run_folder import BRANCHES, RunFolder
from dpl.utils.errors import DplError


def attention(run: RunFolder, explanation: Explanation | None) -> dict[str, dict[str, Any]]:
    """Draws the attention heatmaps. Both branches share one scale.

    Args:
        run: the run.
        explanation: its explanation; None if it has none.

    Returns:
        For each branch with prompts its "heatmap", colour "scale" and "caption"; empty if the attention was not measured.

    Raises:
        DplError: the layers of explanation.json do not match the layout, or its layers differ in the number of heads.
    """
    if explanation is None or explanation.attention is None:
        return {}
    shares = explanation.attention
    for branch in BRANCHES:
        layers, heads = len(run.layout[branch]), {len(row) for row in shares[branch]}
        if len(shares[branch]) != layers or len(heads) != 1 or 0 in heads:
            raise DplError(f"{run.name}/explanation.json: attention.{branch} must be {layers} layers of as many heads each")
    values = {branch: [[round(1000 * share) for share in row] for row in shares[branch]] for branch in BRANCHES}
    darkest = max(1, *(value for branch in BRANCHES for row in values[branch] for value in row))
    return {
        branch: _shown(run, branch, shares[branch], values[branch], darkest) for branch in BRANCHES if any(run.layout[branch])
    }


def _shown(run: RunFolder, branch: str, shares: list[list[float]], values: list[list[int]], darkest: int) -> dict[str, Any]:
    heads = range(1, len(shares[0]) + 1)
    grid = Grid("head", heads, [f"head {head}" for head in heads], "%", ("0 %", f"{darkest / 20:.0f} %", f"{darkest / 10:.0f} %"))
    prompted = [
        (layer, row) for layer, (row, length) in enumerate(zip(shares, run.layout[branch], strict=True), 1) if length or any(row)
    ]
    means = [f"layer {layer} {percent(sum(row) / len(row))}" for layer, row in prompted]
    most, layer, head = max((share, layer, head) for layer, row in prompted for head, share in enumerate(row, 1))
    title = f"Attention to the prompts in the {branch} branch"
    text = "Mean over the heads of each layer with prompts: " + ", ".join(means) + "."
    heat = Heat(values, darkest, [[False] * len(row) for row in values])
    return {
        "heatmap": heatmap(branch, title, text, grid, heat, key="attention", row=20),
        "scale": colour_scale(branch, grid.scale, key="attention-scale"),
        "caption": f"most in head {head} of layer {layer}: {percent(most)}",
    }
