"""What the two stages did, as a report shows it: the layout, the alphas over the epochs, the charts of convergence."""

import json
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from dpl.reports import figures
from dpl.reports.accuracy import percent
from dpl.reports.run_folder import BRANCHES, RunFolder
from dpl.reports.svg import Series, line_chart


def times(run: RunFolder) -> list[str]:
    """A sentence for each stage that ran: its epochs, and its seconds where they are known."""
    sentences = []
    for stage, lines in (("search", run.search), ("train", run.train)):
        if lines:
            settings = run.config.settings.get(stage)
            most = settings.get("epochs") if isinstance(settings, dict) else None
            limit = f" of at most {most}" if isinstance(most, int) and most > len(lines) else ""
            seconds = [line.seconds for line in lines if line.seconds is not None]
            took = f" in {_duration(sum(seconds))}" if len(seconds) == len(lines) else ""
            name = "search" if stage == "search" else "training"
            sentences.append(f"The {name} stage ran {figures.plural(len(lines), 'epoch')}{limit}{took}.")
    return sentences


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f}\u202fs"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def layout(run: RunFolder) -> list[dict[str, Any]]:
    """For each branch: its picture, tokens, parameters (None: width not known), layers with prompts."""
    tallest = max(*run.layout.image, *run.layout.text)
    branches = []
    for branch in BRANCHES:
        lengths, width = run.layout[branch], run.config.backbone.width
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


def alphas(run: RunFolder) -> dict[str, Any]:
    """The final heatmaps, and every epoch's probabilities (permille, layer by layer) for the page's slider."""
    history: dict[str, Any] = {"options": run.options, "strong": figures.STRONG}
    branches = []
    for branch in BRANCHES:
        epochs = [figures.permille(line.alphas[branch]) for line in run.search]
        picks = [[_largest(row) for row in line.alphas[branch]] for line in run.search]
        # The last epoch shows the layout the run really has, should it not be what the alphas say.
        kept = [run.options.index(length) if length in run.options else -1 for length in run.layout[branch]]
        branches.append(
            {
                "name": branch,
                "heatmap": figures.heatmap(branch, epochs[-1], run.options, kept),
                "scale": figures.colour_scale(branch),
                "dominants": run.search[-1].dominants[branch],
                "layers": len(kept),
                "differs": kept != picks[-1],
            }
        )
        shares = [[share for row in epoch for share in row] for epoch in epochs]
        history[branch] = {"shares": shares, "chosen": [*picks[:-1], kept]}
    epochs = [line.epoch + 1 for line in run.search]
    open_layers = sum(branch["layers"] - branch["dominants"] for branch in branches)
    return {
        "branches": branches,
        "open": open_layers,
        "layers": sum(branch["layers"] for branch in branches),
        "epochs": epochs,
        "json": script_json(history | {"epochs": epochs}),
    }


def script_json(value: Any) -> Markup:
    """JSON that is safe inside <script>: nothing in it can end the element or open a comment."""
    text = json.dumps(value, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _largest(row: Sequence[float]) -> int:
    return row.index(max(row))


def charts(run: RunFolder) -> dict[str, list[dict[str, Any]]]:
    """The line charts of both stages: title, legend and picture; no charts for a stage that did not run."""
    shown: dict[str, list[dict[str, Any]]] = {"search": [], "train": []}
    epochs = [line.epoch + 1 for line in run.search]
    if run.search:
        image, text = len(run.layout.image), len(run.layout.text)
        layers = f"{image} layers" if image == text else f"{image} image and {text} text layers"
        differences = [Series(name, tuple(line.alpha_difference[name] for line in run.search), name) for name in BRANCHES]
        dominants = [Series(name, tuple(line.dominants[name] for line in run.search), name) for name in BRANCHES]
        tokens = [
            Series(name, tuple(sum(run.options[_largest(row)] for row in line.alphas[name]) for line in run.search), name)
            for name in BRANCHES
        ]
        losses = [
            Series("training", tuple(line.train_loss for line in run.search), "first"),
            Series("validation", tuple(line.validation_loss for line in run.search), "second"),
        ]
        shown["search"] = [
            _chart("difference", "Alpha difference", epochs, differences),
            _chart("dominants", f"Number of dominants (of {layers})", epochs, dominants, top=max(image, text), whole=True),
            _chart("tokens", "Prompt tokens of the layout so far", epochs, tokens, whole=True),
            _chart("search-loss", "Loss in the search stage", epochs, losses),
        ]
    if run.train:
        epochs = [line.epoch + 1 for line in run.train]
        loss = Series("training", tuple(line.loss for line in run.train), "first")
        accuracy = Series("training batches", tuple(line.accuracy for line in run.train), "first")
        shown["train"] = [
            _chart("train-loss", "Loss in the training stage", epochs, [loss]),
            _chart("train-accuracy", "Accuracy on the training batches", epochs, [accuracy], top=1, percent=True),
        ]
    return shown


def _chart(key: str, title: str, epochs: list[int], series: list[Series], **axes: Any) -> dict[str, Any]:
    legend = [(line.name, line.style, _shown(line.last, axes.get("percent", False))) for line in series]
    gaps = any(line.has_gaps for line in series)
    return {"title": title, "legend": legend, "gaps": gaps, "picture": line_chart(key, title, epochs, series, **axes)}


def _shown(value: float | None, as_percent: bool) -> str:
    return "not finite" if value is None else percent(value) if as_percent else f"{value:.3g}"
