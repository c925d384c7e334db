"""Logistic regression on features, and the search for C of CoOp's linear probe (KaiyangZhou/CoOp, lpclip)."""

import math
import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int64

GRID = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)
HALVINGS = 8
MOST_STEPS = 1000
NEVER = -1e9  # bias of a class without samples: finite, with probability 0 beside any other class

Vectors = Float64[np.ndarray, "images dim"]
Labels = Int64[np.ndarray, "images"]
Planes = tuple[Float64[np.ndarray, "classes dim"], Float64[np.ndarray, "classes"]]


def best_c(score: Callable[[float], float]) -> float:
    """Searches the C with the highest score: first in `GRID`, then by bisection of a range around the best.

    The range is 0.1 C to 10 C. Each of `HALVINGS` comparisons, in log10, discards the half at the worse end; for equal scores it
    discards the upper half. In `GRID` the first of equal scores wins.

    Args:
        score: returns the score of a C.
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
    """Fits scikit-learn's logistic regression with L2 penalty 1 / (2 c), in at most `MOST_STEPS` steps.

    Classes that are not among `labels` have zero weights and the bias `NEVER`. For two classes scikit-learn fits one plane; each
    class gets half of it with opposite signs, so that the difference of the logits equals scikit-learn's.

    Args:
        features: (images, dim).
        labels: (images,), from 0 to `classes` - 1; at least one class.
        c: inverse strength of the penalty.
        classes: number of classes.

    Returns:
        Weights, (classes, dim), and biases, (classes,).
    """
    # Late: scikit-learn takes a second to import, and the settings of a method are read for --help.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weight, bias, seen = np.zeros((classes, features.shape[1])), np.full(classes, NEVER), np.unique(labels)
    if len(seen) == 1:  # scikit-learn rejects a single class
        bias[seen] = 0
        return weight, bias
    solver = LogisticRegression(C=c, max_iter=MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a C without convergence stays a candidate
        solver.fit(features, labels)
    planes = (solver.coef_, solver.intercept_)
    weight[seen], bias[seen] = planes if len(seen) > 2 else (np.concatenate([-half, half]) for half in (p / 2 for p in planes))
    return weight, bias
