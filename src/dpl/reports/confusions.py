"""The most frequent confusions, with pictures of some of the images that were confused."""

from typing import Any

from PIL import Image

from dpl.explain.stored import ConfusedPair, Explanation
from dpl.reports.pixels import EXACT, data_uri, square
from dpl.reports.run_folder import RunFolder


def confusions(run: RunFolder, explanation: Explanation | None) -> dict[str, Any] | None:
    """The pairs of metrics.json as rows, and whether any has pictures; None without pairs."""
    if run.metrics is None or not run.metrics.confusions:
        return None
    names = run.config.task.class_names
    images = {result.name: result.images for result in run.metrics.per_class}
    # Classes may share a name: pairs of the same names stand in the same order in both files.
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
    """Name and data URI of each."""
    pictures = (Image.fromarray(square(explanation.confused[index])) for index in pair.pictures)
    return [(name, data_uri(picture)) for name, picture in zip(pair.names, pictures, strict=True)]
