"""Report section of a search by a mixture: the probabilities of the options, softmax(alpha)."""

import math
from collections.abc import Sequence

from dpl.prompts.layout import PromptLayout
from dpl.reports.web import charts
from dpl.reports.web.convergence import settled_epoch
from dpl.reports.web.figures import plural
from dpl.reports.web.heatmap import Grid
from dpl.reports.web.preference import Preference, Values, budget
from dpl.schemas.run import AlphaEpoch, Branches
from dpl.schemas.run_folder import BRANCHES, RunFolder


def preference(run: RunFolder, lines: Sequence[AlphaEpoch]) -> Preference:
    """Builds the search section of a run from its epochs.

    The heatmaps have a row per option, the longest on top, and outline each layer's chosen option.

    Args:
        run: the run.
        lines: the epochs of its search, at least one, in order.
    """
    options, epochs, last = run.options, charts.epochs_of(run), lines[-1]
    values = Branches.of(lambda branch: [permille(line.alphas[branch]) for line in lines])
    layouts = [line.layout or most_probable(line, options) for line in lines]
    layers = {branch: len(run.layout[branch]) for branch in BRANCHES}
    difference = charts.by_branch(lambda branch: (line.alpha_difference[branch] for line in lines))
    dominants = charts.by_branch(lambda branch: (line.dominants[branch] for line in lines))
    counted, most = f"Number of dominants (of {charts.layers_of(run)})", max(layers.values())
    marked = settled_epoch(epochs, layouts)

    def describe(branch: str) -> str:
        rows = values[branch][-1]
        best = [f"layer {layer} {options[row.index(max(row))]} ({max(row) / 10:.0f} %)" for layer, row in enumerate(rows, 1)]
        return "At the end, the most probable number of tokens of each layer: " + ", ".join(best) + "."

    def caption(branch: str) -> str:
        return f"at the end {last.dominants[branch]} of {plural(layers[branch], 'layer')} single-dominant"

    return Preference(
        words="alphas.html.j2",
        facts={
            "budget": budget(run, "token"),
            "open": sum(layers[branch] - last.dominants[branch] for branch in BRANCHES),
            "layers": sum(layers.values()),
        },
        grid=Grid("tokens", options, [plural(option, "token") for option in options], "%", ("0 %", "50 %", "100 %")),
        values=values,
        darkest=[1000] * len(lines),
        layouts=layouts,
        outlined=lambda length: [option == length for option in options],
        titles=Branches.of(lambda branch: f"Alpha matrix of the {branch} branch"),
        descriptions=Branches.of(describe),
        captions=Branches.of(caption),
        charts=[
            charts.chart("difference", "Alpha difference", epochs, difference, settled=marked),
            charts.chart("dominants", counted, epochs, dominants, top=most, whole=True, settled=marked),
            charts.changes(run, layouts),
            charts.tokens(run, layouts),
            charts.search_losses(run),
        ],
    )


def most_probable(line: AlphaEpoch, options: Sequence[int]) -> PromptLayout:
    """Returns each layer's option with the largest alpha.

    This is the layout of a search without a budget. Older runs did not store the layout of an epoch.

    Args:
        line: the epoch.
        options: the context lengths of the search.
    """
    return PromptLayout(*(tuple(options[row.index(max(row))] for row in line.alphas[branch]) for branch in BRANCHES))


def permille(alphas: Sequence[Sequence[float]]) -> Values:
    """Converts raw alphas (layers x options) to probabilities in thousandths."""
    return [[round(1000 * share) for share in softmax(row)] for row in alphas]


def softmax(row: Sequence[float]) -> list[float]:
    """Returns the probabilities (0-1) of one row of raw, finite alphas."""
    top = max(row)
    weights = [math.exp(alpha - top) for alpha in row]
    return [weight / sum(weights) for weight in weights]
