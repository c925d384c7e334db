"""Rasterises outlines with the same bits on all machines: integer arithmetic decides whether a sample lies inside.

A contour is float[corners, 2], (x, y) in pixels, y down, with (0, 0) at the image's top left corner. It is closed: its last
corner connects to the first. Coverage is int64[SIZE, SIZE], the number of a pixel's `FULL` samples inside the contours.
"""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

SIZE = 48
SAMPLES = 4  # per pixel and axis
FULL = SAMPLES * SAMPLES
FINE = 64  # units per pixel; corners are rounded to these units
STEP = FINE // SAMPLES
LINES = SIZE * SAMPLES

Contours = Iterable[Float[np.ndarray, "... 2"]]  # (..., corners, 2): leading dimensions are separate contours


def coverage(contours: Contours) -> Int[np.ndarray, "SIZE SIZE"]:
    """Computes the coverage of each pixel by the nonzero winding rule.

    Overlapping contours of the same direction unite; a contour of the opposite direction cuts a hole. Parts outside the image
    are clipped.

    Args:
        contours: arrays (..., corners, 2) in pixels; leading dimensions are separate contours.

    Returns:
        Coverage, 0 to `FULL`.
    """
    fine = [np.rint(contour * FINE).astype(np.int64) for contour in contours]
    start = np.concatenate([corners.reshape(-1, 2) for corners in fine])
    end = np.concatenate([np.roll(corners, -1, axis=-2).reshape(-1, 2) for corners in fine])
    (x, y), (to_x, to_y) = start.T, end.T
    upper, lower = np.minimum(y, to_y), np.maximum(y, to_y)
    # Sample lines lie at STEP / 2, STEP * 3 / 2, ...: an edge crosses those from `upper` to just before `lower`.
    first, last = (np.clip((end + STEP // 2 - 1) // STEP, 0, LINES) for end in (upper, lower))
    count = last - first
    edge = np.repeat(np.arange(len(x)), count)
    line = np.arange(len(edge)) + (first - np.cumsum(count) + count)[edge]
    crossing = x[edge] - (STEP * line + STEP // 2 - y[edge]) * (x - to_x)[edge] // (to_y - y)[edge]  # rounded up
    column = np.clip((crossing + STEP // 2 - 1) // STEP, 0, LINES)  # the first sample not left of it
    sense = np.where(to_y > y, 1.0, -1.0)[edge]
    turns = np.bincount(line * (LINES + 1) + column, sense, LINES * (LINES + 1)).astype(np.int16)
    inside = np.cumsum(turns.reshape(LINES, LINES + 1)[:, :LINES], axis=1, dtype=np.int16) != 0
    return samples_per_pixel(inside)


def samples_per_pixel(inside: np.ndarray) -> Int[np.ndarray, "SIZE SIZE"]:
    """Counts the samples inside, bool[LINES, LINES], per pixel; returns coverage, 0 to `FULL`."""
    parts = inside.view(np.uint8).reshape(SIZE, SAMPLES, LINES).sum(1, dtype=np.uint8)
    return parts.reshape(SIZE, SIZE, SAMPLES).sum(2, dtype=np.int64)


def stroke(points: Float[np.ndarray, "*batch points 2"], width: float, closed: bool = True) -> np.ndarray:
    """Computes the contours of a line through points, with square ends and corners.

    Args:
        points: points of the line in pixels.
        width: width of the line in pixels.
        closed: connects the last point to the first.

    Returns:
        float[*batch, segments, 4, 2]: a clockwise rectangle per segment; `coverage` unites them.
    """
    if closed:
        points = np.concatenate([points, points[..., :1, :]], -2)
    start, end = points[..., :-1, :], points[..., 1:, :]
    along = end - start
    length = np.sqrt(along[..., :1] ** 2 + along[..., 1:] ** 2)
    along = along / np.maximum(length, 1e-6) * (width / 2)
    across = np.stack([-along[..., 1], along[..., 0]], -1)
    start, end = start - along, end + along
    return np.stack([start + across, start - across, end - across, end + across], -2)


def turning(angle: float, width: float = 1, height: float = 1) -> Float[np.ndarray, "2 2"]:
    """Returns the matrix that scales, then rotates clockwise.

    Args:
        angle: the rotation in radians.
        width: factor of x.
        height: factor of y.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos * width, -sin * height], [sin * width, cos * height]])


def transform(points: Float[np.ndarray, "*n 2"], matrix: Float[np.ndarray, "2 2"], centre: tuple[float, float]) -> np.ndarray:
    """Multiplies points by a matrix and adds a centre; without BLAS, whose rounding may differ between machines.

    Args:
        points: (points, 2).
        matrix: (2, 2).
        centre: (x, y).
    """
    x, y = points[..., 0], points[..., 1]
    return np.stack([matrix[row, 0] * x + matrix[row, 1] * y + centre[row] for row in (0, 1)], -1)


def resampled(contour: Float[np.ndarray, "corners 2"], count: int) -> Float[np.ndarray, "count 2"]:
    """Returns `count` points along a closed contour, spread evenly over its edges and evenly within each edge.

    Corners are kept where `count` is a multiple of their number.
    """
    corners = len(contour)
    place = np.arange(count) * corners / count
    index = place.astype(np.int64)
    part = (place - index)[:, None]
    return contour[index] * (1 - part) + contour[(index + 1) % corners] * part
