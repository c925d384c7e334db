"""Reads and writes explanation.json and explanation.safetensors of a run folder: examples, maps, prompt words and attention."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dpl.schemas.run import Branches, Count, Part, Positive, Share
from dpl.utils.errors import DplError
from dpl.utils.files import read_json, write_bytes, write_json
from dpl.utils.text import printable
from dpl.utils.validation import validated

NAMES = "explanation.json"
ARRAYS = "explanation.safetensors"

Kind = Literal["repaired", "right", "wrong", "spoiled"]
"""Zero-shot wrong and tuned right; both right; both wrong; zero-shot right and tuned wrong."""
KINDS: tuple[Kind, ...] = get_args(Kind)
Number = Annotated[float, Field(allow_inf_nan=False)]
# Sums of many rounded numbers may be slightly above 1.
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]
Mass = Annotated[float, Field(ge=0, le=1.001)]


class Prediction(Part):
    """Most probable class of an image, as an index into the class names, and its probability (0-1)."""

    label: Count
    probability: Share


class Example(Part):
    """A test image: its name, class and kind, and the prediction of every model in the order of `models`."""

    name: str
    label: Count
    kind: Kind
    predictions: list[Prediction]


class ConfusedPair(Part):
    """Number of test images of class `true` that the tuned model classified as `predicted`.

    `pictures` are indices of some of them in the array `confused`, `names` their names.
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
    """Norms of a layer with the nearest words of every prompt, nearest first."""

    words: list[list[Word]]


class PromptWords(Part):
    """Norms and words of the layers with prompts.

    `token_norm` is the mean norm of the input embeddings of the vocabulary's words. `chance` is the 95th percentile of the
    cosine between a random direction and its nearest word.
    """

    image: list[LayerNorms]
    text: list[LayerWords]
    token_norm: Number
    chance: Cosine


class _Stored(Part):
    """Content of explanation.json."""

    models: list[str]
    examples: list[Example]
    confusions: list[ConfusedPair]
    attention: Branches[list[list[Mass]]] | None
    prompts: PromptWords | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """Examples, maps and prompt statistics stored with a run; class numbers are indices into the run's class names.

    `attention` is the share of attention that goes to the prompts, for every layer and head (0-1). `attention` and `prompts`
    are None if the method learns no prompts, or if its parameters are not finite.
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
    """Writes both files, each atomically. Writes explanation.json last, so that its presence implies the other file's.

    Args:
        run: the run folder.
        explanation: the content.

    Raises:
        DplError: a file cannot be written.
    """
    stored = _Stored(**{name: getattr(explanation, name) for name in _Stored.model_fields})
    arrays = {name: np.ascontiguousarray(getattr(explanation, name)) for name in ("pictures", "maps", "confused")}
    write_bytes(run / ARRAYS, save(arrays))
    write_json(run / NAMES, stored.model_dump(mode="json"))


def read_explanation(run: Path) -> Explanation | None:
    """Reads the files of `write_explanation`. Replaces characters that a page cannot hold.

    Args:
        run: the run folder.

    Returns:
        The explanation; None if explanation.json does not exist, as in older runs.

    Raises:
        DplError: a file is broken, or the files contradict each other or the classes of the run; one line that names the file.
    """
    if not (run / NAMES).exists():
        return None
    stored = validated(_Stored, printable(read_json(run / NAMES)), run / NAMES)
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
    """Raises `DplError` unless types and shapes of the arrays fit explanation.json and the pictures are square."""
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
    """Raises `DplError` unless the run has every class, and every example has a prediction of every model."""
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
