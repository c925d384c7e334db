"""The most frequent confusions of the tuned model, with pictures of some of the confused images."""

from typing import Any

from PIL import Image

from dpl.reports.web.pixels import EXACT, data_uri, square
from dpl.schemas.explanation import ConfusedPair, Explanation
from dpl.schemas.run_folder import RunFolder


def confusions(run: RunFolder, explanation: Explanation | None) -> dict[str, Any] | None:
    """Returns the confused pairs of metrics.json as table rows.

    Args:
        run: the run.
        explanation: its explanation, with pictures of the pairs; None if it has none.

    Returns:
        The template data; None if there are no confused pairs.
    """
    if run.metrics is None or not run.metrics.confusions:
        return None
    names = run.config.task.class_names
    images = {result.name: result.images for result in run.metrics.per_class}
    # Several classes may have the same name. Both files list pairs of the same names in the same order.
    stored: dict[tuple[str, str], list[ConfusedPair]] = {}
    for pair in explanation.confusions if explanation else []:
        stored.setdefault((names[pair.true], names[pair.predicted]), []).append(pair)
    rows = []
    for pair in run.metrics.confusions:
        found = stored.get((pair.true, pair.predicted))
        rows.append(
            {
                "true": pair.true,
                "predicted": pair.predicted,
                "count": pair.count,
                "part": pair.count / images[pair.true] if images.get(pair.true) else None,
                "pictures": _pictures(explanation, found.pop(0)) if explanation and found else [],
            }
        )
    return {
        "rows": rows,
        "pictured": any(row["pictures"] for row in rows),
        "parted": bool(images),
        "sharp": explanation is not None and explanation.confused.shape[-1] <= EXACT,
    }


def _pictures(explanation: Explanation, pair: ConfusedPair) -> list[tuple[str, str]]:
    """Returns name and data URI of each picture."""
    pictures = (Image.fromarray(square(explanation.confused[index])) for index in pair.pictures)
    return [(name, data_uri(picture)) for name, picture in zip(pair.names, pictures, strict=True)]
