"""The files of a run folder as a report reads them; fields that older runs lack have defaults."""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Row = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)]


T = TypeVar("T")


class Part(BaseModel):
    """What all parts have: they do not change, and unknown fields are passed over."""

    model_config = ConfigDict(frozen=True)


class Branches(Part, Generic[T]):
    """One value for each branch of the backbone."""

    image: T
    text: T

    def __getitem__(self, branch: str) -> T:
        """The value of `branch`, "image" or "text"."""
        return self.image if branch == "image" else self.text


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


class Metrics(Part):
    """metrics.json; accuracies 0-1, intervals (low, high) or None in older runs."""

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
    per_class: list[ClassResult] = []
    confusions: list[Confusion] = []


class SearchEpoch(Part):
    """A line of history.jsonl written by the search; `epoch` counts from 0, alphas are raw (layers x options)."""

    epoch: Count
    train_loss: float | None = None
    validation_loss: float | None = None
    alphas: Branches[list[Row]]
    alpha_difference: Branches[float | None]
    dominants: Branches[Count]
    seconds: float | None = None


class TrainEpoch(Part):
    """A line of history.jsonl written by the training stage; `accuracy` (0-1) is that of the training batches."""

    epoch: Count
    loss: float | None = None
    accuracy: float | None = None
    seconds: float | None = None


class Stage(Part):
    """What every line of history.jsonl has."""

    stage: str


Layout = Branches[Annotated[list[Count], Field(min_length=1)]]
