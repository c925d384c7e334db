"""Report section of a search by pruning: each prompt's share of the whole model's saliency."""

from collections.abc import Sequence

from dpl.reports.web import charts
from dpl.reports.web.accuracy import percent
from dpl.reports.web.heatmap import Grid
from dpl.reports.web.preference import Preference, Values, budget
from dpl.schemas.run import Branches, SaliencyEpoch
from dpl.schemas.run_folder import BRANCHES, RunFolder


def preference(run: RunFolder, lines: Sequence[SaliencyEpoch]) -> Preference:
    """Builds the search section of a run from its epochs.

    The heatmaps have a row per prompt, ranked by saliency within its layer, the most salient at the bottom. They outline the
    prompts that the layout keeps.

    Args:
        run: the run.
        lines: the epochs of its search, at least one, in order.
    """
    epochs, last = charts.epochs_of(run), lines[-1]
    values = Branches.of(lambda branch: [_tenths(line.saliency[branch]) for line in lines])
    longest, layers = max(run.options), {branch: len(run.layout[branch]) for branch in BRANCHES}
    darkest = [max(1, *(max(row) for branch in BRANCHES for row in values[branch][epoch])) for epoch in range(len(lines))]
    parts = charts.by_branch(lambda branch: (sum(map(sum, line.saliency[branch])) for line in lines))
    layouts = [line.layout for line in lines]
    kept = sum(sum(row[:length]) for branch in BRANCHES for row, length in _rows(run, last, branch))
    changed = [int(line.last) for line in charts.changed(layouts) if line.last is not None]

    def describe(branch: str) -> str:
        texts = [
            f"layer {layer} {length} ({1000 * row[0]:.1f} ‰)" for layer, (row, length) in enumerate(_rows(run, last, branch), 1)
        ]
        return "At the end, the kept prompts of each layer, and the share of its most salient one: " + ", ".join(texts) + "."

    def caption(branch: str) -> str:
        part = percent(sum(map(sum, last.saliency[branch])))
        return f"at the end {part} of the saliency; {sum(run.layout[branch])} of {longest * layers[branch]} kept"

    return Preference(
        words="saliency.html.j2",
        facts={
            "budget": budget(run, "prompt"),
            "longest": longest,
            "tokens": run.layout.tokens,
            "prompts": longest * sum(layers.values()),
            "kept": percent(min(kept, 1.0)),
            "largest": f"{darkest[-1] / 10:.0f}\u202f‰",
            "changed": sum(changed),
            "layers": sum(layers.values()),
        },
        grid=Grid(
            "rank",
            range(1, longest + 1),
            [f"prompt {rank} of {longest} by saliency" for rank in range(1, longest + 1)],
            "‰",
            ("0", "half", "largest share"),
        ),
        values=values,
        darkest=darkest,
        layouts=layouts,
        outlined=lambda length: [rank <= length for rank in range(1, longest + 1)],
        titles=Branches.of(lambda branch: f"Saliency of the {branch} branch"),
        descriptions=Branches.of(describe),
        captions=Branches.of(caption),
        charts=[
            charts.tokens(run, layouts),
            charts.chart("parts", "Part of the saliency", epochs, parts, top=1, percent=True),
            charts.changes(run, layouts),
            charts.search_losses(run),
        ],
    )


def _tenths(shares: Sequence[Sequence[float]]) -> Values:
    """Converts shares (layers x prompts, 0-1) to tenths of a permille."""
    return [[round(10_000 * share) for share in row] for row in shares]


def _rows(run: RunFolder, line: SaliencyEpoch, branch: str) -> list[tuple[list[float], int]]:
    """Returns each layer's shares and the number of its prompts in the run's layout."""
    return list(zip(line.saliency[branch], run.layout[branch], strict=True))
