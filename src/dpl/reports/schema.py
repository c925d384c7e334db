"""The files of a run folder as a report reads them; fields that older runs lack have defaults."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Row = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)]


def _largest_first(row: list[float]) -> list[float]:
    if any(before < after for before, after in pairwise(row)):
        raise ValueError("the shares of a layer must stand largest first")
    return row


# The shares that a layer's prompts have of the saliency, by rank; rounding may take a share above 1.
Ranked = Annotated[list[Annotated[float, Field(ge=0, le=1.001)]], Field(min_length=1), AfterValidator(_largest_first)]

T = TypeVar("T")


class Part(BaseModel):
    """What all parts have: they do not change, and unknown fields are passed over."""

    model_config = ConfigDict(frozen=True)


class Branches(Part, Generic[T]):
    """One value for each branch of the backbone."""

    image: T
    text: T

    @classmethod
    def of(cls, value: Callable[[str], T]) -> Self:
        """The `value` of each."""
        return cls(image=value("image"), text=value("text"))

    def __getitem__(self, branch: str) -> T:
        """The value of `branch`, "image" or "text"."""
        return self.image if branch == "image" else self.text


Layout = Branches[Annotated[list[Count], Field(min_length=1)]]


class Task(Part):
    """The part of config.json that says what was classified."""

    name: str
    class_names: list[str] = []
    templates: list[str] = []


class Backbone(Part):
    """The part of config.json that says which frozen model was adapted; `width` in numbers per token."""

    name: str
    fingerprint: str | None = None
    image_size: Positive | None = None
    layers: Branches[Positive] | None = None
    width: Branches[Positive] | None = None


class Config(Part):
    """config.json; `kind` is "fit", "search" or "train"."""

    dpl: str = ""
    method: str = "dpl"
    kind: str | None = None
    data: str = ""
    task: Task
    backbone: Backbone
    settings: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    command: str = ""


class ClassResult(Part):
    """Test results of one class; accuracies 0-1, None where the class has no test images."""

    name: str
    images: Count
    accuracy: Share | None = None
    zero_shot_accuracy: Share | None = None


class Confusion(Part):
    """How many test images of class `true` were taken for `predicted`."""

    true: str
    predicted: str
    count: Count


class Bin(Part):
    """Test images whose confidence lies in one of the equal steps from 0 to 1; both means are None where there are none."""

    images: Count
    confidence: Share | None = None
    accuracy: Share | None = None

    @model_validator(mode="after")
    def _measured(self) -> "Bin":
        if self.images and (self.confidence is None or self.accuracy is None):
            raise ValueError("a bin with images must have a confidence and an accuracy")
        return self


class Calibration(Part):
    """How true the confidence of a model is: the expected calibration error (0-1), and the bins that it is of."""

    ece: Share
    bins: Annotated[list[Bin], Field(min_length=1)]


class Calibrations(Part):
    """Those of the tuned and of the zero-shot model."""

    tuned: Calibration
    zero_shot: Calibration


class Operations(Part):
    """GFLOPs (2 per multiply-add) to embed one image, and to embed all class texts once."""

    image: Amount
    classes: Amount


class UniformOperations(Operations):
    """Those of a layout with the same `length` in every layer."""

    length: Count


class Cost(Operations):
    """The operations of the run's layout, and those of others to compare."""

    frozen: Operations
    uniform: list[UniformOperations] = []


class Metrics(Part):
    """metrics.json; accuracies 0-1, intervals (low, high) or None in older runs, as the last four."""

    accuracy: Share
    accuracy_interval: tuple[Share, Share] | None = None
    zero_shot_accuracy: Share
    zero_shot_interval: tuple[Share, Share] | None = None
    zero_shot_ensemble_accuracy: Share | None = None
    classes: Positive
    shots: Count | None = None
    seed: int
    test_images: Positive
    trainable_parameters: Count
    gate: Share = 1.0
    per_class: list[ClassResult] = []
    confusions: list[Confusion] = []
    seconds: Amount | None = None
    peak_memory_bytes: Count | None = None
    calibration: Calibrations | None = None
    cost: Cost | None = None


class SearchedEpoch(Part):
    """What lines of history.jsonl have whichever search wrote them; `epoch` counts from 0."""

    epoch: Count
    train_loss: float | None = None
    validation_loss: float | None = None
    seconds: float | None = None


class AlphaEpoch(SearchedEpoch):
    """An epoch of the mixture: raw alphas (layers x options). Older runs kept no layout."""

    field: ClassVar = "alphas"  # tells this kind from the others
    alphas: Branches[list[Row]]
    alpha_difference: Branches[float | None]
    dominants: Branches[Count]
    layout: Layout | None = None

    @property
    def matrix(self) -> Branches[list[Row]]:
        """What `field` holds: for each branch a row per layer."""
        return self.alphas

    @staticmethod
    def columns(options: Sequence[int]) -> tuple[int, str]:
        """How many entries a row has, and of what: one per option."""
        return len(options), "options"


class SaliencyEpoch(SearchedEpoch):
    """An epoch of pruning: each prompt's share of the whole model's saliency (layers x prompts), and the layout they give."""

    field: ClassVar = "saliency"
    saliency: Branches[list[Ranked]]
    layout: Layout

    @property
    def matrix(self) -> Branches[list[Ranked]]:
        """What `field` holds: for each branch a row per layer."""
        return self.saliency

    @staticmethod
    def columns(options: Sequence[int]) -> tuple[int, str]:
        """How many entries a row has, and of what: one per prompt of the longest option."""
        return max(options), "prompts"


SearchEpoch = AlphaEpoch | SaliencyEpoch


class TrainEpoch(Part):
    """A line of history.jsonl written by the training stage; `accuracy` (0-1) is that of the training batches."""

    epoch: Count
    loss: float | None = None
    accuracy: float | None = None
    seconds: float | None = None


class Line(Part):
    """What every line of history.jsonl has; its other fields are kept as they are, in `model_extra`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    stage: str
