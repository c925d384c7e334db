"""Sections of the report on the search and training stages: durations, the layout, and the preferences of the search."""

from collections.abc import Callable, Mapping
from typing import Any

from dpl.reports.web import alphas, figures, saliency
from dpl.reports.web.preference import Preference
from dpl.schemas.run import AlphaEpoch, SaliencyEpoch, SearchEpoch
from dpl.schemas.run_folder import BRANCHES, RunFolder

SECTIONS: Mapping[type[SearchEpoch], Callable[[RunFolder, Any], Preference]] = {
    AlphaEpoch: alphas.preference,
    SaliencyEpoch: saliency.preference,
}
"""The module that builds the search section, by the kind of epoch."""


def times(run: RunFolder) -> list[str]:
    """Writes a sentence for each stage that ran: its epochs, and its duration if known for all of them."""
    sentences = []
    for stage, lines in (("search", run.search), ("train", run.train)):
        if lines:
            settings = run.config.settings.get(stage)
            most = settings.get("epochs") if isinstance(settings, dict) else None
            limit = f" of at most {most}" if isinstance(most, int) and most > len(lines) else ""
            seconds = [line.seconds for line in lines if line.seconds is not None]
            took = f" in {figures.duration(sum(seconds))}" if len(seconds) == len(lines) else ""
            name = "search" if stage == "search" else "training"
            sentences.append(f"The {name} stage ran {figures.plural(len(lines), 'epoch')}{limit}{took}.")
    return sentences


def layout(run: RunFolder) -> list[dict[str, Any]]:
    """Returns the layout of each branch.

    Args:
        run: the run.

    Returns:
        Picture, layers, layers with prompts, tokens and parameters of each branch. "parameters" is None if the width of a token
        is unknown, or if the method learns other parameters than one vector per token.
    """
    tallest, width = max(*run.layout.image, *run.layout.text), run.config.backbone.width
    in_all = sum(sum(run.layout[branch]) * width[branch] for branch in BRANCHES) if width else None
    if run.metrics and run.metrics.trainable_parameters != in_all:
        width = None  # each class may have its own tokens, or a network may generate them
    branches = []
    for branch in BRANCHES:
        lengths = run.layout[branch]
        branches.append(
            {
                "name": branch,
                "picture": figures.layout_picture(branch, lengths, tallest, width[branch] if width else None),
                "layers": len(lengths),
                "used": sum(length > 0 for length in lengths),
                "tokens": sum(lengths),
                "parameters": sum(lengths) * width[branch] if width else None,
            }
        )
    return branches


def search(run: RunFolder) -> dict[str, Any] | None:
    """Returns the preferences and the convergence of the search, built by the module in `SECTIONS` for its kind of epoch.

    Args:
        run: the run.

    Returns:
        The template data; None if the run did not search.
    """
    return SECTIONS[type(run.search[0])](run, run.search).section(run) if run.search else None


def given(run: RunFolder) -> bool:
    """Returns whether the user gave the layout."""
    return run.config.settings.get("layout") is not None


def inherits(run: RunFolder) -> bool:
    """Returns whether training started from the prompts of the search; it did not in older runs."""
    return bool(run.search) and run.config.settings.get("inherit") is True
