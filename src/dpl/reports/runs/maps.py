"""Grad-CAM maps of several runs on the same pictures: the stored examples of the first run that has any."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dpl.reports.overlay import overlay
from dpl.reports.runs.runs_table import ComparedRun
from dpl.reports.web.accuracy import percent
from dpl.reports.web.pixels import data_uri, square
from dpl.utils.errors import DplError

_SIZE = 168  # pixels per side of a picture with its map


@dataclass(frozen=True)
class Tile:
    """A picture with its heading `name`, its data URI, its text alternative, and a model's prediction.

    The prediction is the class `predicted` with its probability as text; `right` is None for the picture without a map.
    """

    name: str
    source: str
    alt: str
    predicted: str = ""
    probability: str = ""
    right: bool | None = None


@dataclass(frozen=True)
class SharedMaps:
    """Name, class and tiles of each example of run `letter`; `notes` name the runs without maps, with the reasons."""

    letter: str
    examples: Sequence[tuple[str, str, Sequence[Tile]]]
    notes: Sequence[str]


@dataclass(frozen=True)
class _Seen:
    """Maps (examples, rows, columns) of a run, the names of its predicted classes, and their probabilities (0-1)."""

    maps: np.ndarray
    classes: Sequence[str]
    probabilities: Sequence[float]


def shared_maps(runs: Sequence[ComparedRun]) -> SharedMaps | None:
    """Collects the maps of all runs on the examples of the first run that stores any.

    Computes the maps of every other trained run with the same backbone and preprocessing; these runs share one loaded
    backbone. A note replaces the maps of a run that cannot be loaded or has another backbone or preprocessing.

    Args:
        runs: the runs.

    Returns:
        The examples; None if no run stores any.
    """
    first = next((one for one in runs if one.explanation and one.explanation.examples), None)
    if first is None:
        return None
    explanation, notes = first.explanation, []
    assert explanation is not None
    seen: dict[str, _Seen] = {}
    names = first.run.config.task.class_names
    for place, model in enumerate(explanation.models):
        predictions = [example.predictions[place] for example in explanation.examples]
        stored = _Seen(
            explanation.maps[:, place], [names[one.label] for one in predictions], [one.probability for one in predictions]
        )
        # The last of the models is the run's own.
        seen[first.letter if place == len(explanation.models) - 1 else model] = stored
    others, excluded = [], []
    for one in runs:
        if one is not first and one.metrics:
            (others if _same_pixels(one, first) else excluded).append(one)
    if excluded:
        letters = ", ".join(one.letter for one in excluded)
        notes.append(f"Another backbone or preprocessing, and so no map of these pictures: {letters}.")
    if others:
        found, problems = _computed(others, explanation.pictures)
        seen |= found
        notes += problems
    ordered = [name for name in seen if name not in {one.letter for one in runs}]
    ordered += [one.letter for one in runs if one.letter in seen]
    examples = []
    for place, example in enumerate(explanation.examples):
        true, picture = names[example.label], square(explanation.pictures[place])
        tiles = [Tile("the picture", data_uri(Image.fromarray(picture)), f"A test image of the class {true}")]
        for name in ordered:
            tiles.append(_tile(name, seen[name], place, true, picture))
        examples.append((example.name, true, tiles))
    return SharedMaps(first.letter, examples, notes)


def _same_pixels(one: ComparedRun, other: ComparedRun) -> bool:
    """Returns whether two runs have the same backbone and, if both record it, the same preprocessing."""
    mine, theirs = one.run.config.backbone, other.run.config.backbone
    if mine.preprocessing and theirs.preprocessing and mine.preprocessing != theirs.preprocessing:
        return False
    return (mine.fingerprint, mine.image_size) == (theirs.fingerprint, theirs.image_size) and mine.fingerprint is not None


def _computed(runs: Sequence[ComparedRun], pictures: np.ndarray) -> tuple[dict[str, _Seen], list[str]]:
    """Computes maps and predictions of the runs, by letter; also returns notes on the runs that could not be loaded."""
    # Late: only runs whose maps are not stored need the model, and a page without it is written in a second.
    import torch

    from dpl.backbones.loading import load_backbone
    from dpl.explain.gradcam import see
    from dpl.runs import ANY_RESIZE, class_features, load_run

    seen: dict[str, _Seen] = {}
    try:
        made_with = runs[0].run.config.backbone
        backbone = load_backbone(made_with.name, revision=made_with.commit, download=False, resize=ANY_RESIZE)
    except DplError as error:
        return seen, [f"No maps of {', '.join(one.letter for one in runs)}: {error}."]
    notes = []
    for one in runs:
        try:
            model = load_run(one.folder, backbone)
            found = see(model, torch.from_numpy(pictures), None, class_features(one.folder, model))
        except DplError as error:
            notes.append(f"No maps of {one.letter}: {error}.")
            continue
        labels = found.labels.tolist()
        probabilities = [float(row[label]) for row, label in zip(found.probabilities.cpu(), labels, strict=True)]
        names = one.run.config.task.class_names
        seen[one.letter] = _Seen(found.maps.cpu().numpy(), [names[label] for label in labels], probabilities)
    return seen, notes


def _tile(name: str, seen: _Seen, place: int, true: str, picture: np.ndarray) -> Tile:
    predicted, right = seen.classes[place], seen.classes[place] == true
    probability = percent(seen.probabilities[place])
    heat = data_uri(overlay(picture, seen.maps[place], _SIZE))
    verdict = "right" if right else "wrong"
    alt = f"Grad-CAM of {name}, which predicts {predicted} ({probability}, {verdict})"
    return Tile(name, heat, alt, predicted, probability, right)
