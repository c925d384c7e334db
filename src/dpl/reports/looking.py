"""Where the models look: examples with their maps, grouped by who was right."""

from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from dpl.explain.stored import Example, Explanation
from dpl.reports.pixels import EXACT, data_uri, square
from dpl.reports.run_folder import RunFolder

KINDS = {
    "repaired": ("Repaired", "zero-shot wrong, tuned right"),
    "spoiled": ("Spoiled", "zero-shot right, tuned wrong"),
    "wrong": ("Wrong", "both wrong"),
    "right": ("Right", "both right"),
}
"""The title of each kind of example and what it means, in the order of the page."""
SIZE = 192  # pixels a side of a map over its picture


def looking(run: RunFolder, explanation: Explanation | None) -> dict[str, Any] | None:
    """The groups of examples, and the colours of the maps; None without examples."""
    if explanation is None or not explanation.examples:
        return None
    from dpl.explain.overlay import scale  # matplotlib takes its time: only where there is something to paint

    cards = [(example.kind, _card(run, explanation, place, example)) for place, example in enumerate(explanation.examples)]
    groups = [(*words, [card for kind, card in cards if kind == key]) for key, words in KINDS.items()]
    return {
        "groups": [group for group in groups if group[2]],
        "scale": data_uri(scale(160, 10)),
        "views": 1 + len(explanation.models),
        "sharp": explanation.pictures.shape[-1] <= EXACT,
    }


def _card(run: RunFolder, explanation: Explanation, place: int, example: Example) -> dict[str, Any]:
    from dpl.explain.overlay import overlay

    names, picture = run.config.task.class_names, square(explanation.pictures[place])
    views = []
    for model, prediction, heat in zip(explanation.models, example.predictions, explanation.maps[place], strict=True):
        right = prediction.label == example.label
        views.append(
            {
                "model": model,
                "picture": data_uri(overlay(picture, heat, SIZE)),
                "where": where(heat),
                "named": names[prediction.label],
                "probability": prediction.probability,
                "right": right,
            }
        )
    return {
        "name": example.name,
        "true": names[example.label],
        "picture": data_uri(Image.fromarray(picture)),
        "views": views,
    }


def where(heat: Float[np.ndarray, "rows columns"]) -> str | None:
    """Where the most heat is, in words: `upper left`, `centre`; None where there is none."""
    if heat.max() <= 0:
        return None
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    upright = ("upper", "middle", "lower")[min(3 * int(row) // heat.shape[0], 2)]
    across = ("left", "centre", "right")[min(3 * int(column) // heat.shape[1], 2)]
    return "centre" if (upright, across) == ("middle", "centre") else f"{upright} {across}"
