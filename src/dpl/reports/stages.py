"""What the two stages did, as a report shows it: how long they took, the layout, and the search by its kind's room."""

from collections.abc import Callable, Mapping
from typing import Any

from dpl.reports import alphas, figures, saliency
from dpl.reports.preference import Preference
from dpl.reports.run_folder import BRANCHES, RunFolder
from dpl.reports.schema import AlphaEpoch, SaliencyEpoch, SearchEpoch

ROOMS: Mapping[type[SearchEpoch], Callable[[RunFolder, Any], Preference]] = {
    AlphaEpoch: alphas.preference,
    SaliencyEpoch: saliency.preference,
}


def times(run: RunFolder) -> list[str]:
    """A sentence for each stage that ran: its epochs, and its seconds where they are known."""
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
    """For each branch: its picture, tokens, parameters (None: not known, or not just the tokens'), layers with prompts."""
    tallest, width = max(*run.layout.image, *run.layout.text), run.config.backbone.width
    in_all = sum(sum(run.layout[branch]) * width[branch] for branch in BRANCHES) if width else None
    if run.metrics and run.metrics.trainable_parameters != in_all:
        width = None  # every class may have tokens of its own, or a network may make them
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
    """What the search preferred and how it converged, as the room of its kind tells; None where the layout was given."""
    return ROOMS[type(run.search[0])](run, run.search).section(run) if run.search else None


def given(run: RunFolder) -> bool:
    """Whether the person gave the layout."""
    return run.config.settings.get("layout") is not None


def inherits(run: RunFolder) -> bool:
    """Whether training went on with the search's prompts; older runs did not."""
    return bool(run.search) and run.config.kind == "fit" and run.config.settings.get("inherit") is True
