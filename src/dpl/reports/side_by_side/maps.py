"""Where the runs look on the same pictures: those that the first run keeps as examples, with the maps of all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dpl.errors import DplError
from dpl.explain.overlay import overlay
from dpl.reports.accuracy import percent
from dpl.reports.pixels import data_uri, square
from dpl.reports.side_by_side.told import Told

_SIZE = 168  # pixels a side of a map over its picture


@dataclass(frozen=True)
class Tile:
    """A picture: what stands above it, what a model says (the class, its probability, whether it is right), and its words."""

    name: str
    source: str
    alt: str
    says: str = ""
    probability: str = ""
    right: bool | None = None


@dataclass(frozen=True)
class Looks:
    """For each example its name, its class and a row of tiles; `notes` say which runs have no maps, and why."""

    letter: str
    examples: Sequence[tuple[str, str, Sequence[Tile]]]
    notes: Sequence[str]


@dataclass(frozen=True)
class _Seen:
    """A run's maps (examples, rows, columns), the names of the classes that it predicts, and their probabilities."""

    maps: np.ndarray
    classes: Sequence[str]
    probabilities: Sequence[float]


def looks(runs: Sequence[Told]) -> Looks | None:
    """Maps of every trained run with the same backbone as the first that has examples; None where no run has.

    The runs are loaded, with one backbone; where one cannot be, a note says so in the place of its maps.
    """
    first = next((one for one in runs if one.explanation and one.explanation.examples), None)
    if first is None:
        return None
    explanation, notes = first.explanation, []
    assert explanation is not None
    seen: dict[str, _Seen] = {}
    names = first.run.config.task.class_names
    for place, model in enumerate(explanation.models):
        said = [example.predictions[place] for example in explanation.examples]
        stored = _Seen(explanation.maps[:, place], [names[one.label] for one in said], [one.probability for one in said])
        # The last of the models is the run's own.
        seen[first.letter if place == len(explanation.models) - 1 else model] = stored
    others, strangers = [], []
    for one in runs:
        if one is not first and one.metrics:
            (others if _same_eyes(one, first) else strangers).append(one)
    if strangers:
        notes.append(f"Another backbone, and so no map of these pictures: {', '.join(one.letter for one in strangers)}.")
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
    return Looks(first.letter, examples, notes)


def _same_eyes(one: Told, other: Told) -> bool:
    """Whether both have the same backbone, as far as their files say."""
    mine, theirs = one.run.config.backbone, other.run.config.backbone
    return (mine.fingerprint, mine.image_size) == (theirs.fingerprint, theirs.image_size) and mine.fingerprint is not None


def _computed(runs: Sequence[Told], pictures: np.ndarray) -> tuple[dict[str, _Seen], list[str]]:
    """What the runs see, by letter, and what stood in the way."""
    import torch

    from dpl.backbones.loading import load_backbone
    from dpl.explain.gradcam import see
    from dpl.runs import class_features, load_run

    seen: dict[str, _Seen] = {}
    try:
        backbone = load_backbone(_here(runs[0].run.config.backbone.name))
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


def _here(name: str) -> str:
    """The backbone as it is on this machine: a page asks no other one. `DplError` where it is not here."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if name == "tiny" or Path(name).is_dir():
        return name
    try:
        return snapshot_download(name, local_files_only=True)
    except (HFValidationError, LocalEntryNotFoundError):
        raise DplError(f"backbone {name}: is not on this machine") from None


def _tile(name: str, seen: _Seen, place: int, true: str, picture: np.ndarray) -> Tile:
    says, right = seen.classes[place], seen.classes[place] == true
    probability = percent(seen.probabilities[place])
    heat = data_uri(overlay(picture, seen.maps[place], _SIZE))
    verdict = "right" if right else "wrong"
    alt = f"Grad-CAM of {name}, which says {says} ({probability}, {verdict})"
    return Tile(name, heat, alt, says, probability, right)
