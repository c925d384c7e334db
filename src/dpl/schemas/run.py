"""Schemas of the files of a run folder that a report reads. Fields that older runs lack have defaults."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, PlainValidator, model_validator

from dpl.prompts.layout import PromptLayout
from dpl.utils.errors import DplError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Row = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)]


def _largest_first(row: list[float]) -> list[float]:
    if any(before < after for before, after in pairwise(row)):
        raise ValueError("the shares of a layer must be in descending order")
    return row


# Shares of the saliency of a layer's prompts, by rank. Rounding may raise a share slightly above 1.
Ranked = Annotated[list[Annotated[float, Field(ge=0, le=1.001)]], Field(min_length=1), AfterValidator(_largest_first)]

T = TypeVar("T")


class Part(BaseModel):
    """Base class of all schemas: instances are immutable, and unknown fields are ignored."""

    model_config = ConfigDict(frozen=True)


class Branches(Part, Generic[T]):
    """One value for each branch of the backbone."""

    image: T
    text: T

    @classmethod
    def of(cls, value: Callable[[str], T]) -> Self:
        """Makes the values of both branches.

        Args:
            value: called with the name of each branch, "image" and "text".
        """
        return cls(image=value("image"), text=value("text"))

    def __getitem__(self, branch: str) -> T:
        """Returns the value of `branch`, "image" or "text"."""
        return self.image if branch == "image" else self.text


def _layout(content: object) -> PromptLayout:
    try:
        return content if isinstance(content, PromptLayout) else PromptLayout.from_dict(content)
    except DplError as error:
        raise ValueError(str(error)) from None


Layout = Annotated[PromptLayout, PlainValidator(_layout)]
"""A layout in the JSON of a run."""


class Task(Part):
    """The task in config.json: its name, class names and prompt templates."""

    name: str
    class_names: list[str] = []
    templates: list[str] = []


class Backbone(Part):
    """The frozen model in config.json; `width` is the number of values of a token, per branch."""

    name: str
    commit: str | None = None
    fingerprint: str | None = None
    image_size: Positive | None = None
    preprocessing: dict[str, Any] | None = None
    layers: Branches[Positive] | None = None
    width: Branches[Positive] | None = None


class Config(Part):
    """config.json; `kind` is "fit", "search", "train" or "library"."""

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
    """Test results of one class; accuracies are 0-1, or None if the class has no test images."""

    name: str
    images: Count
    accuracy: Share | None = None
    zero_shot_accuracy: Share | None = None


class Confusion(Part):
    """Number of test images of class `true` that the tuned model classified as `predicted`."""

    true: str
    predicted: str
    count: Count


class Bin(Part):
    """Test images with a confidence in one of the bins of equal width from 0 to 1.

    `confidence` and `accuracy` (0-1) are means over the images, None for an empty bin.
    """

    images: Count
    confidence: Share | None = None
    accuracy: Share | None = None

    @model_validator(mode="after")
    def _measured(self) -> "Bin":
        if self.images and (self.confidence is None or self.accuracy is None):
            raise ValueError("a bin with images must have a confidence and an accuracy")
        return self


class Calibration(Part):
    """Expected calibration error (0-1) of a model, and the confidence bins that it is computed from."""

    ece: Share
    bins: Annotated[list[Bin], Field(min_length=1)]


class Calibrations(Part):
    """Calibration of the tuned and the zero-shot model."""

    tuned: Calibration
    zero_shot: Calibration


class Operations(Part):
    """GFLOPs (2 per multiply-add) to embed one image, and to embed all class texts once."""

    image: Amount
    classes: Amount


class UniformOperations(Operations):
    """Operations of a layout with the same `length` in every layer."""

    length: Count


class Cost(Operations):
    """Operations of the run's layout, and for comparison those of the frozen model and of uniform layouts."""

    frozen: Operations
    uniform: list[UniformOperations] = []


class HeadResult(Part):
    """The head in metrics.json: its settings, and the losses of the cross-validation on `held_out` images, if there were any."""

    kind: Literal["text", "residual"]
    weight_decay: Amount | None = None
    ratio: Amount = 1.0
    held_out: Count = 0
    loss: float | None = None
    text_loss: float | None = None

    @property
    def summary(self) -> str:
        """One sentence about the head and how it was chosen."""
        if self.kind == "text":
            what = "the class texts alone"
        else:
            scale = "" if self.ratio == 1 else f", {self.ratio:g} of the model's scale"
            what = f"the class texts plus a residual (weight decay {self.weight_decay:g}{scale})"
        if self.loss is None or self.text_loss is None:
            return what
        compared = f"loss {self.loss:.3f}, of the texts alone {self.text_loss:.3f}"
        return f"{what}; cross-validation on {self.held_out} images: {compared}"


class Metrics(Part):
    """metrics.json; accuracies are 0-1, intervals (low, high). In older runs the intervals and the last five fields are None."""

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
    prompt_scale: Annotated[Share, Field(validation_alias=AliasChoices("prompt_scale", "gate"))] = 1.0
    per_class: list[ClassResult] = []
    confusions: list[Confusion] = []
    seconds: Amount | None = None
    peak_memory_bytes: Count | None = None
    calibration: Calibrations | None = None
    cost: Cost | None = None
    head: HeadResult | None = None


class SearchedEpoch(Part):
    """Fields of a line of history.jsonl that all search methods write; `epoch` counts from 0."""

    epoch: Count
    train_loss: float | None = None
    validation_loss: float | None = None
    seconds: float | None = None


class AlphaEpoch(SearchedEpoch):
    """Epoch of a search by a mixture: raw alphas (layers x options). Older runs stored no layout."""

    field: ClassVar = "alphas"  # lines with this field are of this kind
    alphas: Branches[list[Row]]
    alpha_difference: Branches[float | None]
    dominants: Branches[Count]
    layout: Layout | None = None

    @property
    def matrix(self) -> Branches[list[Row]]:
        """The content of `field`: for each branch a row per layer."""
        return self.alphas

    @staticmethod
    def columns(options: Sequence[int]) -> tuple[int, str]:
        """Returns the number of entries of a row, one per option, and their name in messages.

        Args:
            options: the context lengths of the search.
        """
        return len(options), "options"


class SaliencyEpoch(SearchedEpoch):
    """Epoch of a search by pruning: each prompt's share of the whole model's saliency (layers x prompts), and the layout."""

    field: ClassVar = "saliency"
    saliency: Branches[list[Ranked]]
    layout: Layout

    @property
    def matrix(self) -> Branches[list[Ranked]]:
        """The content of `field`: for each branch a row per layer."""
        return self.saliency

    @staticmethod
    def columns(options: Sequence[int]) -> tuple[int, str]:
        """Returns the number of entries of a row, one per prompt of the longest option, and their name in messages.

        Args:
            options: the context lengths of the search.
        """
        return max(options), "prompts"


SearchEpoch = AlphaEpoch | SaliencyEpoch


class TrainEpoch(Part):
    """Line of history.jsonl written by the training stage; `accuracy` (0-1) is measured on the training batches."""

    epoch: Count
    loss: float | None = None
    accuracy: float | None = None
    seconds: float | None = None


class Line(Part):
    """Any line of history.jsonl. All have a stage; other fields are kept unchanged in `model_extra`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    stage: str
