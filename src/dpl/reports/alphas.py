"""The search by a mixture, as a report tells it: the probabilities of the options, softmax(alpha)."""

import math
from collections.abc import Sequence

from dpl.reports import charts
from dpl.reports.figures import plural
from dpl.reports.heatmap import Grid
from dpl.reports.preference import Preference, Values, budget
from dpl.reports.run_folder import BRANCHES, RunFolder
from dpl.reports.schema import AlphaEpoch, Branches, Layout
from dpl.reports.settling import settled


def preference(run: RunFolder, lines: Sequence[AlphaEpoch]) -> Preference:
    """A row per option, the longest on top; the layer's choice is outlined."""
    options, epochs, last = run.options, charts.epochs_of(run), lines[-1]
    values = Branches.of(lambda branch: [permille(line.alphas[branch]) for line in lines])
    layouts = [line.layout or most_probable(line, options) for line in lines]
    layers = {branch: len(run.layout[branch]) for branch in BRANCHES}
    difference = charts.by_branch(lambda branch: (line.alpha_difference[branch] for line in lines))
    dominants = charts.by_branch(lambda branch: (line.dominants[branch] for line in lines))
    counted, most = f"Number of dominants (of {charts.layers_of(run)})", max(layers.values())
    marked = settled(epochs, layouts)

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


def most_probable(line: AlphaEpoch, options: Sequence[int]) -> Layout:
    """Each layer's option with the largest alpha: the layout of runs without a budget, which older ones did not keep."""
    return Layout.of(lambda branch: [options[row.index(max(row))] for row in line.alphas[branch]])


def permille(alphas: Sequence[Sequence[float]]) -> Values:
    """(layers x options) raw alphas as probabilities in thousandths."""
    return [[round(1000 * share) for share in softmax(row)] for row in alphas]


def softmax(row: Sequence[float]) -> list[float]:
    """The probabilities of one row of raw (finite) alphas."""
    top = max(row)
    weights = [math.exp(alpha - top) for alpha in row]
    return [weight / sum(weights) for weight in weights]
