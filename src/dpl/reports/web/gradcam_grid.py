"""Section of the report with Grad-CAM maps of example images, grouped by which of the models was right."""

from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from dpl.reports.web.pixels import EXACT, data_uri, square
from dpl.schemas.explanation import Example, Explanation
from dpl.schemas.run_folder import RunFolder

KINDS = {
    "repaired": ("Repaired", "zero-shot wrong, tuned right"),
    "spoiled": ("Spoiled", "zero-shot right, tuned wrong"),
    "wrong": ("Wrong", "both wrong"),
    "right": ("Right", "both right"),
}
"""The title of each kind of example and its meaning, in the order of the page."""
SIZE = 192  # pixels per side of a picture with its map


def gradcam_grid(run: RunFolder, explanation: Explanation | None) -> dict[str, Any] | None:
    """Returns the examples of a run with their maps.

    Args:
        run: the run.
        explanation: its explanation; None if it has none.

    Returns:
        "groups": title, meaning and examples of each kind that has any. "scale": the colours of the maps as a data URI. "views":
            the number of pictures of an example. "sharp": whether the pictures are so small that the page stores every pixel
            exactly. None without examples.
    """
    if explanation is None or not explanation.examples:
        return None
    from dpl.reports.overlay import scale  # late, as matplotlib is slow to import and pages without pictures do not need it

    cards = [(example.kind, _card(run, explanation, place, example)) for place, example in enumerate(explanation.examples)]
    groups = [(*words, [card for kind, card in cards if kind == key]) for key, words in KINDS.items()]
    return {
        "groups": [group for group in groups if group[2]],
        "scale": data_uri(scale(160, 10)),
        "views": 1 + len(explanation.models),
        "sharp": explanation.pictures.shape[-1] <= EXACT,
    }


def _card(run: RunFolder, explanation: Explanation, place: int, example: Example) -> dict[str, Any]:
    from dpl.reports.overlay import overlay  # late, as above

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
    """Names the ninth of the picture with the largest value.

    Args:
        heat: a map, at least 0.

    Returns:
        Text such as "upper left" or "centre"; None if all values are 0.

    Example:

        >>> where(np.eye(6)[:1] * 0), where(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
        (None, 'upper right')
    """
    if heat.max() <= 0:
        return None
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    upright = ("upper", "middle", "lower")[min(3 * int(row) // heat.shape[0], 2)]
    across = ("left", "centre", "right")[min(3 * int(column) // heat.shape[1], 2)]
    return "centre" if (upright, across) == ("middle", "centre") else f"{upright} {across}"
