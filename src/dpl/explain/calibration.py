"""Calibration: whether a model that says 80 % is right in 80 % of the cases."""

from typing import Any

import numpy as np

from dpl.evaluate import Evaluation

BINS = 15


def calibration(evaluation: Evaluation) -> dict[str, Any]:
    """The expected calibration error, and the bins of the reliability diagram that it is of (what metrics.json holds).

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, with their 15 bins of equal width: bin m holds the images
    whose confidence lies in ((m - 1) / 15, m / 15]; a confidence of 0, which no softmax has, would be in the first.

        ECE = sum_m images_m / images |accuracy_m - confidence_m|

    All values are 0-1; mean confidence and accuracy of an empty bin are None.
    """
    confidences = evaluation.confidences.astype(np.float64)
    places = np.searchsorted(np.arange(1, BINS) / BINS, confidences, side="left")
    right = evaluation.labels == evaluation.predictions
    images = np.bincount(places, minlength=BINS)
    confidence, accuracy = (np.bincount(places, values, BINS) / images.clip(1) for values in (confidences, right))
    return {
        "ece": min(float((images * np.abs(accuracy - confidence)).sum() / len(confidences)), 1.0),
        "bins": [
            {"images": count, "confidence": min(mean, 1.0) if count else None, "accuracy": share if count else None}
            for count, mean, share in zip(images.tolist(), confidence.tolist(), accuracy.tolist(), strict=True)
        ],
    }
