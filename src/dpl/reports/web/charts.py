"""Line charts of the convergence section: title, legend and picture of each chart."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from dpl.prompts.layout import PromptLayout
from dpl.reports.web.accuracy import percent
from dpl.reports.web.convergence import settled_epoch
from dpl.reports.web.svg import Series, line_chart
from dpl.schemas.run_folder import BRANCHES, RunFolder


def chart(key: str, title: str, epochs: Sequence[int], series: Sequence[Series], **axes: Any) -> dict[str, Any]:
    """Draws `series` over `epochs` (from 1) and returns title, legend and picture; passes `axes` on to `line_chart`.

    "gaps" is true if a series has a value that is not finite.
    """
    legend = [(line.name, line.style, _last(line, axes.get("percent", False))) for line in series]
    gaps = any(line.has_gaps for line in series)
    return {"title": title, "legend": legend, "gaps": gaps, "picture": line_chart(key, title, epochs, series, **axes)}


def _last(line: Series, as_percent: bool) -> str:
    if line.last is None:
        return "not finite" if line.has_gaps else "none"
    return percent(line.last) if as_percent else f"{line.last:.3g}"


def by_branch(values: Callable[[str], Iterable[float | None]]) -> list[Series]:
    """Makes a series for each branch.

    Args:
        values: returns the values per epoch of a branch, "image" or "text".
    """
    return [Series(branch, tuple(values(branch)), branch) for branch in BRANCHES]


def epochs_of(run: RunFolder) -> list[int]:
    """Returns the epochs of the search, counted from 1."""
    return [line.epoch + 1 for line in run.search]


def tokens(run: RunFolder, layouts: Sequence[PromptLayout]) -> dict[str, Any]:
    """Draws the number of tokens of the layout after each epoch of the search.

    Args:
        run: the run.
        layouts: one layout per epoch.
    """
    lines = by_branch(lambda branch: (sum(layout[branch]) for layout in layouts))
    marked = settled_epoch(epochs_of(run), layouts)
    return chart("tokens", "Prompt tokens of the layout so far", epochs_of(run), lines, whole=True, settled=marked)


def changes(run: RunFolder, layouts: Sequence[PromptLayout]) -> dict[str, Any]:
    """Draws the number of layers whose length each epoch of the search changed.

    Args:
        run: the run.
        layouts: one layout per epoch.
    """
    lines, marked = changed(layouts), settled_epoch(epochs_of(run), layouts)
    title = f"Layers whose length changed (of {layers_of(run)})"
    return chart("changes", title, epochs_of(run), lines, whole=True, settled=marked)


def changed(layouts: Sequence[PromptLayout]) -> list[Series]:
    """Counts, for each branch and epoch, the layers whose length differs from the epoch before.

    Args:
        layouts: one layout per epoch.

    Returns:
        A series per branch; None for the first epoch.
    """

    def counts(branch: str) -> Iterator[int | None]:
        yield None
        for before, after in pairwise(layouts):
            yield sum(old != new for old, new in zip(before[branch], after[branch], strict=True))

    return by_branch(counts)


def search_losses(run: RunFolder) -> dict[str, Any]:
    """Draws the training and the validation loss of the search."""
    lines = [
        Series("training", tuple(line.train_loss for line in run.search), "first"),
        Series("validation", tuple(line.validation_loss for line in run.search), "second"),
    ]
    return chart("search-loss", "Loss in the search stage", epochs_of(run), lines)


def layers_of(run: RunFolder) -> str:
    """Writes the number of layers: `6 layers`, or `12 image and 6 text layers` if the branches differ."""
    image, text = len(run.layout.image), len(run.layout.text)
    return f"{image} layers" if image == text else f"{image} image and {text} text layers"


def training(run: RunFolder) -> list[dict[str, Any]]:
    """Draws the loss and the accuracy of the training stage; an empty list if it did not run."""
    if not run.train:
        return []
    epochs = [line.epoch + 1 for line in run.train]
    loss = Series("training", tuple(line.loss for line in run.train), "first")
    accuracy = Series("training batches", tuple(line.accuracy for line in run.train), "first")
    return [
        chart("train-loss", "Loss in the training stage", epochs, [loss]),
        chart("train-accuracy", "Accuracy on the training batches", epochs, [accuracy], top=1, percent=True),
    ]
