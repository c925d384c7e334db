"""Logistic regression on features, and the search for its C that CoOp's linear probe does (KaiyangZhou/CoOp, lpclip)."""

import math
import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int64

GRID = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
HALVINGS = 8
MOST_STEPS = 1000
NEVER = -1e9  # the bias of a class that was never seen: finite, and of probability 0 beside any other

Vectors = Float64[np.ndarray, "images dim"]
Labels = Int64[np.ndarray, "images"]
Planes = tuple[Float64[np.ndarray, "classes dim"], Float64[np.ndarray, "classes"]]


def best_c(score: Callable[[float], float]) -> float:
    """The C of the highest `score`, first of equals, among `GRID`; then `HALVINGS` times the better end of a range around it.

    The range is 0.1 C to 10 C; after every comparison the worse half goes, in log10, and of equal ends the higher one.
    """
    low = math.log10(max(GRID, key=score)) - 1
    high = best = low + 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if score(10**low) < score(10**high):
            best, low = high, middle
        else:
            best, high = low, middle
    return 10**best


def logistic_regression(features: Vectors, labels: Labels, c: float, classes: int) -> Planes:
    """Weights (classes, dim) and biases (classes,) of scikit-learn's, with L2 penalty 1 / (2 c), in at most `MOST_STEPS`.

    Classes that are not among `labels` have weights of zero and the bias `NEVER`. Of two classes the one plane of
    scikit-learn is halved, so that the difference of the logits is its own.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weight, bias, seen = np.zeros((classes, features.shape[1])), np.full(classes, NEVER), np.unique(labels)
    if len(seen) == 1:  # nothing to tell apart, which scikit-learn refuses
        bias[seen] = 0
        return weight, bias
    solver = LogisticRegression(C=c, max_iter=MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a C without a minimum nearby is a candidate like the others
        solver.fit(features, labels)
    planes = (solver.coef_, solver.intercept_)
    weight[seen], bias[seen] = planes if len(seen) > 2 else (np.concatenate([-half, half]) for half in (p / 2 for p in planes))
    return weight, bias
