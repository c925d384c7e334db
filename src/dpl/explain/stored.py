"""explanation.json and explanation.safetensors of a run folder: what is shown of a run beside its numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dpl.errors import DplError
from dpl.files import read_json, write_bytes, write_json
from dpl.printable import printable
from dpl.reports.schema import Branches, Count, Part, Positive, Share

NAMES = "explanation.json"
ARRAYS = "explanation.safetensors"

Kind = Literal["repaired", "right", "wrong", "spoiled"]
"""Zero-shot wrong and tuned right; both right; both wrong; zero-shot right and tuned wrong."""
KINDS: tuple[Kind, ...] = get_args(Kind)
Number = Annotated[float, Field(allow_inf_nan=False)]
# Sums of many rounded numbers may be a little above 1.
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]
Mass = Annotated[float, Field(ge=0, le=1.001)]


class Prediction(Part):
    """The most probable class of an image, an index into the class names, and its probability, 0-1."""

    label: Count
    probability: Share


class Example(Part):
    """A test image: its name and class, and the prediction of every model, in the order of `models`."""

    name: str
    label: Count
    kind: Kind
    predictions: list[Prediction]


class ConfusedPair(Part):
    """How many test images of class `true` the tuned model took for `predicted`.

    `pictures` are the places of some of them in the array `confused`, `names` their names.
    """

    true: Count
    predicted: Count
    count: Positive
    pictures: list[Count]
    names: list[str]


class Word(Part):
    """A word of the vocabulary, and the cosine of its input embedding with a prompt."""

    word: str
    cosine: Cosine


class LayerNorms(Part):
    """The Euclidean norm of every prompt of a layer; layers count from 1."""

    layer: Positive
    norms: list[Number]


class LayerWords(LayerNorms):
    """With the nearest words of every prompt, nearest first."""

    words: list[list[Word]]


class PromptWords(Part):
    """Of the layers with prompts. `token_norm` is the mean norm of the vocabulary's embeddings.

    `chance` is the cosine that the nearest word of a random direction has, 95th percentile.
    """

    image: list[LayerNorms]
    text: list[LayerWords]
    token_norm: Number
    chance: Cosine


class _Stored(Part):
    """explanation.json."""

    models: list[str]
    examples: list[Example]
    confusions: list[ConfusedPair]
    attention: Branches[list[list[Mass]]] | None
    prompts: PromptWords | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """What is kept of a run to be looked at; class numbers are indices into the run's class names.

    `attention` is, for every layer and head, the part of the attention that goes to the layer's prompts. It and `prompts` are
    None where the method has no prompts in layers.
    """

    models: list[str]
    """"zero-shot", "tuned"."""
    examples: list[Example]
    confusions: list[ConfusedPair]
    attention: Branches[list[list[float]]] | None
    prompts: PromptWords | None
    pictures: np.ndarray
    """uint8, (examples, 3, size, size): the pixels that the models saw."""
    maps: np.ndarray
    """float32, (examples, models, rows, columns), 0-1: Grad-CAM of the class that the model predicts."""
    confused: np.ndarray
    """uint8, (images, 3, small, small): smaller pictures for the `confusions`."""


def write_explanation(run: Path, explanation: Explanation) -> None:
    """Writes both files, each whole or not at all; explanation.json last, so that where it is the other is there too."""
    stored = _Stored(**{name: getattr(explanation, name) for name in _Stored.model_fields})
    arrays = {name: np.ascontiguousarray(getattr(explanation, name)) for name in ("pictures", "maps", "confused")}
    write_bytes(run / ARRAYS, save(arrays))
    write_json(run / NAMES, stored.model_dump(mode="json"))


def read_explanation(run: Path) -> Explanation | None:
    """What `write_explanation` wrote; None where there is none, as in older runs.

    Characters that a page cannot hold are replaced. Raises `DplError`, one line that names the file, where one is broken or
    they do not belong together or to the classes of the run.
    """
    if not (run / NAMES).exists():
        return None
    try:
        stored = _Stored.model_validate(printable(read_json(run / NAMES)))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "content"
        raise DplError(f"{run / NAMES}: {field}: {first['msg']}") from None
    try:
        arrays = load((run / ARRAYS).read_bytes())
    except OSError as error:
        raise DplError(f"{run / ARRAYS}: cannot be read ({error.strerror})") from None
    except SafetensorError as error:
        raise DplError(f"{run / ARRAYS}: is broken ({str(error).splitlines()[0]})") from None
    _check_arrays(run / ARRAYS, stored, arrays)
    _check_labels(run, stored)
    parts: dict[str, Any] = {name: getattr(stored, name) for name in _Stored.model_fields}
    return Explanation(**parts, pictures=arrays["pictures"], maps=arrays["maps"], confused=arrays["confused"])


def _check_arrays(path: Path, stored: _Stored, arrays: dict[str, np.ndarray]) -> None:
    """`DplError` unless the arrays are those that explanation.json speaks of, pictures square."""
    examples, pictures = len(stored.examples), sum(len(pair.pictures) for pair in stored.confusions)
    expected: dict[str, tuple[type, tuple[int, int]]] = {
        "pictures": (np.uint8, (examples, 3)),
        "maps": (np.float32, (examples, len(stored.models))),
        "confused": (np.uint8, (pictures, 3)),
    }
    for name, (dtype, shape) in expected.items():
        array = arrays.get(name, np.empty(0))
        fits = array.dtype == dtype and array.ndim == 4 and array.shape[:2] == shape
        if not fits or (name != "maps" and array.shape[2] != array.shape[3]):
            wanted = f"{np.dtype(dtype)} {shape} by two sizes, as explanation.json has it"
            raise DplError(f"{path}: {name} must be {wanted}; got {array.dtype} {array.shape}")
    if any(index >= pictures for pair in stored.confusions for index in pair.pictures):
        raise DplError(f"{path}: explanation.json names more pictures of confused images than there are")


def _check_labels(run: Path, stored: _Stored) -> None:
    """`DplError` unless every class is one of the run's, and every model has a prediction of every example."""
    try:
        classes = len(read_json(run / "config.json")["task"]["class_names"])
    except (KeyError, TypeError):
        raise DplError(f"{run / 'config.json'}: task.class_names must list the classes of the run") from None
    labels = [label for pair in stored.confusions for label in (pair.true, pair.predicted)]
    for example in stored.examples:
        if len(example.predictions) != len(stored.models):
            given = f"{len(example.predictions)} predictions of {len(stored.models)} models"
            raise DplError(f"{run / NAMES}: {example.name}: {given}")
        labels += [example.label, *(prediction.label for prediction in example.predictions)]
    if any(label >= classes for label in labels):
        raise DplError(f"{run / NAMES}: class {max(labels)} is not among the {classes} of config.json")
