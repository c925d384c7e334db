"""Figure of the share of each head's attention that goes to the prompts, with the layout above it."""

import numpy as np
from matplotlib.figure import Figure

from dpl.reports.print.layout import bars
from dpl.reports.style import BRANCH, PAGE, RULE, shades, sheet
from dpl.reports.web.attention_heatmap import attention
from dpl.schemas.explanation import Explanation
from dpl.schemas.run_folder import BRANCHES, RunFolder


def draw(run: RunFolder, explanation: Explanation | None) -> Figure | None:
    """Draws both branches on one scale, heads from top to bottom.

    Returns None if the attention was not measured or no layer has prompts.

    Raises:
        DplError: the layers of explanation.json do not match the layout.
    """
    if explanation is None or explanation.attention is None or not attention(run, explanation):
        return None
    shares = {branch: 100 * np.array(explanation.attention[branch]).T for branch in BRANCHES}
    heads = max(len(rows) for rows in shares.values())
    top = max(1.0, *(float(rows.max()) for rows in shares.values()))
    figure = sheet(PAGE, 1.75 + 0.12 * heads)
    upper, lower = figure.subplots(2, 2, height_ratios=(1, 0.25 + 0.13 * heads))
    tallest = max(*run.layout.image, *run.layout.text)
    mesh = None
    for above, below, branch in zip(upper, lower, BRANCHES, strict=True):
        rows, layers = shares[branch].shape
        bars(above, branch, run.layout[branch], tallest)
        above.set_title(f"{branch.capitalize()} branch: mean {shares[branch].mean():.1f} % of the attention", pad=7)
        above.set_ylabel("tokens")
        every = -(-layers // 16)
        above.set_xticks(range(1, layers + 1, every), [str(layer) for layer in range(1, layers + 1, every)])
        mesh = below.pcolormesh(shares[branch], cmap=shades(BRANCH[branch]), vmin=0, vmax=top, edgecolors=RULE, linewidth=0.3)
        below.set_xlim(0.4 - 0.5, layers + 0.1)  # aligns the columns with the bars above
        below.set_ylim(rows, 0)
        step = -(-rows // 6)
        below.set_yticks(np.arange(0, rows, step) + 0.5, [str(row + 1) for row in range(0, rows, step)])
        below.set_xticks([])
        below.set_ylabel("head")
        below.set_xlabel("layer, as above")
        below.tick_params(length=0)
        below.spines[:].set_visible(False)
        bar = figure.colorbar(mesh, cax=below.inset_axes((1.02, 0, 0.02, 1)))
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.ax.set_title("%", loc="left", fontsize=7, fontweight="normal")
    return figure
