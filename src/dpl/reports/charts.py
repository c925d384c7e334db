"""The line charts of convergence: title, legend and picture of each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from dpl.reports.accuracy import percent
from dpl.reports.run_folder import BRANCHES, RunFolder
from dpl.reports.schema import Layout
from dpl.reports.settling import settled
from dpl.reports.svg import Series, line_chart


def chart(key: str, title: str, epochs: Sequence[int], series: Sequence[Series], **axes: Any) -> dict[str, Any]:
    """`series` over `epochs` (from 1); `axes` are those of `line_chart`."""
    legend = [(line.name, line.style, _last(line, axes.get("percent", False))) for line in series]
    gaps = any(line.has_gaps for line in series)
    return {"title": title, "legend": legend, "gaps": gaps, "picture": line_chart(key, title, epochs, series, **axes)}


def _last(line: Series, as_percent: bool) -> str:
    if line.last is None:
        return "not finite" if line.has_gaps else "none"
    return percent(line.last) if as_percent else f"{line.last:.3g}"


def by_branch(values: Callable[[str], Iterable[float | None]]) -> list[Series]:
    """A line for each branch."""
    return [Series(branch, tuple(values(branch)), branch) for branch in BRANCHES]


def epochs_of(run: RunFolder) -> list[int]:
    """The epochs of the search, from 1."""
    return [line.epoch + 1 for line in run.search]


def tokens(run: RunFolder, layouts: Sequence[Layout]) -> dict[str, Any]:
    """The tokens of the `layouts` after each epoch of the search."""
    lines = by_branch(lambda branch: (sum(layout[branch]) for layout in layouts))
    marked = settled(epochs_of(run), layouts)
    return chart("tokens", "Prompt tokens of the layout so far", epochs_of(run), lines, whole=True, settled=marked)


def changes(run: RunFolder, layouts: Sequence[Layout]) -> dict[str, Any]:
    """In how many layers each epoch of the search changed the length."""
    lines, marked = changed(layouts), settled(epochs_of(run), layouts)
    title = f"Layers whose length changed (of {layers_of(run)})"
    return chart("changes", title, epochs_of(run), lines, whole=True, settled=marked)


def changed(layouts: Sequence[Layout]) -> list[Series]:
    """For each branch the number of layers whose length is another than one epoch before, none for the first epoch."""

    def counts(branch: str) -> Iterator[int | None]:
        yield None
        for before, after in pairwise(layouts):
            yield sum(old != new for old, new in zip(before[branch], after[branch], strict=True))

    return by_branch(counts)


def search_losses(run: RunFolder) -> dict[str, Any]:
    """Both losses of the search."""
    lines = [
        Series("training", tuple(line.train_loss for line in run.search), "first"),
        Series("validation", tuple(line.validation_loss for line in run.search), "second"),
    ]
    return chart("search-loss", "Loss in the search stage", epochs_of(run), lines)


def layers_of(run: RunFolder) -> str:
    """How many layers a chart counts: `6 layers`, where the branches differ `12 image and 6 text layers`."""
    image, text = len(run.layout.image), len(run.layout.text)
    return f"{image} layers" if image == text else f"{image} image and {text} text layers"


def training(run: RunFolder) -> list[dict[str, Any]]:
    """The charts of the training stage, none where it did not run."""
    if not run.train:
        return []
    epochs = [line.epoch + 1 for line in run.train]
    loss = Series("training", tuple(line.loss for line in run.train), "first")
    accuracy = Series("training batches", tuple(line.accuracy for line in run.train), "first")
    return [
        chart("train-loss", "Loss in the training stage", epochs, [loss]),
        chart("train-accuracy", "Accuracy on the training batches", epochs, [accuracy], top=1, percent=True),
    ]
