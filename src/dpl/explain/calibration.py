"""Calibration: compares a model's confidence with its accuracy."""

from typing import Any

import numpy as np

from dpl.evaluate import Evaluation

BINS = 15


def calibration(evaluation: Evaluation) -> dict[str, Any]:
    """Computes the expected calibration error and the bins of the reliability diagram, in the format of metrics.json.

    Follows Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, with their 15 bins of equal width: bin m holds
    the images with a confidence in ((m - 1) / 15, m / 15]. The first bin includes 0, a confidence that no softmax has.

        ECE = sum_m images_m / images |accuracy_m - confidence_m|

    Args:
        evaluation: the evaluation of a model on the test images.

    Returns:
        "ece": 0-1. "bins": per bin the number of "images", the mean "confidence" and the "accuracy" (both 0-1, None in an
        empty bin).
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
