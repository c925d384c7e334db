"""Outlines of shapes: `SHAPES` are in the embedded backbone's pretraining data, `UNSEEN` are not.

A figure is a list of contours, float[corners, 2] in [-1, 1], y down. The first contour is clockwise, holes are
counter-clockwise.
"""

import math

import numpy as np

Figure = list[np.ndarray]


def _wheel(corners: int, *radii: float, turn: float = 0.0) -> np.ndarray:
    """Evenly spaced points around the centre, the first on top; each of the `corners` has one point per radius in turn."""
    count = corners * len(radii)
    angles = [turn + 2 * math.pi * k / count for k in range(count)]
    return np.array([(radii[k % len(radii)] * math.sin(a), -radii[k % len(radii)] * math.cos(a)) for k, a in enumerate(angles)])


def _arc(x: float, y: float, radius: float, start: float, end: float, count: int = 24) -> np.ndarray:
    """Points on a circle from `start` to `end` degrees, clockwise from the top."""
    angles = [math.radians(start + (end - start) * k / (count - 1)) for k in range(count)]
    return np.array([(x + radius * math.sin(a), y - radius * math.cos(a)) for a in angles])


def _figure(*corners: tuple[float, float]) -> Figure:
    return [np.array(corners, dtype=np.float64)]


def _joined(*parts: np.ndarray) -> Figure:
    return [np.concatenate(parts)]


def _heart() -> np.ndarray:
    angles = [2 * math.pi * k / 40 for k in range(40)]
    wave = [13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a) for a in angles]
    return np.array([(math.sin(a) ** 3, -w / 16) for a, w in zip(angles, wave, strict=True)])


CIRCLE = _wheel(48, 1.0)
SHAPES: dict[str, Figure] = {
    "circle": [CIRCLE],
    "square": _figure((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    "triangle": _figure((0, -0.9), (1, 0.8), (-1, 0.8)),
    "star": [_wheel(5, 1.0, 0.42)],
    "heart": [_heart()],
    "cross": _figure((-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3),
                     (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3)),
    "diamond": _figure((0, -1), (0.72, 0), (0, 1), (-0.72, 0)),
    "pentagon": [_wheel(5, 1.0)],
    "hexagon": [_wheel(6, 1.0)],
    "ring": [CIRCLE, CIRCLE[::-1] * 0.58],
    "arrow": _figure((-1, -0.25), (0.15, -0.25), (0.15, -0.75), (1, 0), (0.15, 0.75), (0.15, 0.25), (-1, 0.25)),
    "crescent": _joined(_arc(0, 0, 1, 135.4, 379.6), _arc(0.45, -0.1, 0.85, 352.3, 162.8)),
}  # fmt: skip

CORNERED: dict[str, Figure] = {
    "triangle": [_wheel(3, 1.0)],
    "square": [_wheel(4, 1.0)],
    "pentagon": [_wheel(5, 1.0)],
    "hexagon": [_wheel(6, 1.0)],
    "octagon": [_wheel(8, 1.0)],
    "circle": [CIRCLE],
    "star with three points": [_wheel(3, 1.0, 0.24)],
    "star with four points": [_wheel(4, 1.0, 0.36)],
    "star with five points": [_wheel(5, 1.0, 0.45)],
    "star with six points": [_wheel(6, 1.0, 0.5)],
    "star with eight points": [_wheel(8, 1.0, 0.58)],
}
"""Figures that differ in the number of corners."""

UNSEEN: dict[str, Figure] = {
    "droplet": _joined(_arc(0, 0.35, 0.62, 65, 295), np.array([(0.0, -1.0)])),
    "leaf": _joined(_arc(-0.75, 0, 1.25, 37, 143, 16), _arc(0.75, 0, 1.25, 217, 323, 16)),
    "lightning": _figure((0.55, -1), (0.05, -0.25), (0.6, -0.25), (-0.35, 1), (-0.1, 0.15), (-0.6, 0.15), (0.25, -1)),
    "house": _figure((0, -1), (1, -0.15), (0.75, -0.15), (0.75, 0.9), (-0.75, 0.9), (-0.75, -0.15), (-1, -0.15)),
    "fish": _joined(_arc(-0.2, 0.6, 1.0, -53, 53, 10), np.array([(1.0, -0.6), (1.0, 0.6)]), _arc(-0.2, -0.6, 1.0, 127, 233, 10)),
    "key": [
        *_joined(
            _arc(-0.5, 0, 0.5, 108, 432),
            np.array([(1, -0.15), (1, 0.5), (0.78, 0.5), (0.78, 0.15), (0.55, 0.15), (0.55, 0.45), (0.33, 0.45), (0.33, 0.15)]),
        ),
        CIRCLE[::-1] * 0.22 - (0.5, 0),
    ],
    "tree": _figure((0, -1), (0.55, -0.3), (0.3, -0.3), (0.8, 0.45), (0.16, 0.45), (0.16, 1), (-0.16, 1), (-0.16, 0.45),
                    (-0.8, 0.45), (-0.3, -0.3), (-0.55, -0.3)),
    "mushroom": _joined(_arc(0, 0, 0.95, -90, 90), np.array([(0.3, 0.0), (0.38, 0.9), (-0.38, 0.9), (-0.3, 0.0)])),
}  # fmt: skip

# BARS are the bars of a seven-segment display in a cell of [-0.5, 0.5] x [-1, 1]: top, upper right, lower right, bottom, lower
# left, upper left, middle. LIT has the indices of the lit bars of each digit.
BARS = ((-0.5, -1, 0.5, -1), (0.5, -1, 0.5, 0), (0.5, 0, 0.5, 1), (-0.5, 1, 0.5, 1), (-0.5, 0, -0.5, 1), (-0.5, -1, -0.5, 0),
        (-0.5, 0, 0.5, 0))  # fmt: skip
LIT = ("012345", "12", "01346", "01236", "1256", "02356", "023456", "012", "0123456", "012356")
