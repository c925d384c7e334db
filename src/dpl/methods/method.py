"""The base class of all methods.

A method is a classifier that learns from few shots. A run saves its parameters, and builds the method again from them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.classifier import ClipClassifier
from dpl.config import RunConfig
from dpl.data.fewshot import FewShot
from dpl.data.paths import shown
from dpl.data.pixels.store import ImageStore
from dpl.data.task import Task
from dpl.head_selection import HeadChoice
from dpl.optim.regularization import Embedded, Regularizer
from dpl.optim.stage import Stage
from dpl.prompts.layout import PromptLayout
from dpl.utils.errors import DplError


@dataclass(frozen=True)
class Inputs:
    """Inputs of a run: backbone, task and shots, and the images that the run has decoded so far."""

    backbone: Backbone
    task: Task
    shots: FewShot
    images: ImageStore = field(default_factory=ImageStore)


@runtime_checkable
class SearchStore(Protocol):
    """Keeps the layout and the prompts that a search has found, for the rest of the run."""

    def layout(self) -> PromptLayout | None:
        """Returns the layout that an earlier part of the run has found, if any."""
        ...

    def prompts(self) -> Mapping[str, Tensor]:
        """Returns the prompts in that layout, a state dict."""
        ...

    def save(self, layout: PromptLayout, prompts: Mapping[str, Tensor]) -> None:
        """Keeps the result of the search.

        Args:
            layout: the layout.
            prompts: the prompts in it, a state dict.
        """
        ...


@dataclass(frozen=True, eq=False)
class Objective:
    """Loss and logits of one training step."""

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "images classes"]

    def backward(self, parameters: list[Tensor]) -> None:
        """Computes the gradients of the loss and accumulates them.

        Args:
            parameters: the parameters whose `grad` is written.
        """
        self.loss.backward(inputs=parameters)


class Method(ClipClassifier):
    """A way to adapt a frozen backbone. Its state dict and `scalars` hold everything that it learns.

    Every subclass has the constructor (backbone, class names, templates, design, seed), so that a saved method can be built
    again. `design`, an instance of the subclass's `Config`, is a frozen dataclass of plain values that defines the learned
    parameters; `seed` decides their initial values.
    """

    name: ClassVar[str]
    """The name that `--method` takes."""
    Config: ClassVar[type]
    """The dataclass of `design`."""
    regularizable: ClassVar[bool] = True
    """Whether a regularizer can be added to the objective."""
    head_choice: HeadChoice = HeadChoice()
    """How the head of a model that was just trained has been chosen; not saved with the model."""

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str] = (), design: Any = None, seed: int = 0
    ) -> None:
        super().__init__(backbone, class_names)
        self.templates, self.design = tuple(templates), design

    @classmethod
    def check(cls, config: RunConfig, inputs: Inputs) -> None:
        """Checks the settings before anything is written.

        Args:
            config: the settings of the run.
            inputs: backbone, task and shots.

        Raises:
            DplError: a setting does not fit the task or the backbone.
        """
        cls.start(config, inputs)

    @classmethod
    def start(
        cls, config: Any, inputs: Inputs, stage: Callable[[str], Stage] = Stage, found: SearchStore | None = None
    ) -> "Method":
        """Builds the model before training.

        Args:
            config: the settings of the run.
            inputs: backbone, task and shots.
            stage: makes the stage of a long computation from its name: its progress and its checkpoints.
            found: keeps what a search has found, so that a stopped run does not search again; none: nothing is kept.

        Returns:
            The model with its initial parameters.
        """
        task = inputs.task
        return cls(inputs.backbone, task.class_names, task.templates, config.design, config.seed)

    def on_train_start(self, inputs: Inputs, seed: int) -> None:
        """Prepares the model for training: called before the first step, and again before a stopped training is resumed.

        Args:
            inputs: backbone, task and shots.
            seed: seed of all random draws.
        """

    def objective(
        self,
        pixels: UInt8[Tensor, "images 3 size size"],
        labels: Int[Tensor, "images"],
        regularizer: Regularizer | None = None,
    ) -> Objective:
        """Computes the loss of a batch: cross entropy plus the terms of the regularizer.

        Args:
            pixels: uint8 images of the backbone's image size.
            labels: class indices.
            regularizer: adds its terms to the loss; none: cross entropy alone.

        Returns:
            The loss and the logits.
        """
        images, texts = self.image_features(pixels), self.text_features()
        logits = self.logits(images, texts)
        loss = F.cross_entropy(logits, labels)
        if regularizer:
            loss = loss + regularizer(pixels, Embedded(images, texts, logits, self.image_encoder))
        return Objective(loss, logits)

    def on_train_end(self, inputs: Inputs) -> None:
        """Finishes the model after the last training step. Methods without training steps do all their work here.

        Args:
            inputs: the backbone, the task and the shots.
        """

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside the context, the learned parameters are attached to the backbone.

        For methods that attach parameters to the backbone, this makes many calls cheaper; for others it does nothing.
        """
        yield

    @property
    def layout(self) -> PromptLayout:
        """Number of learned context tokens that enter in front of each layer of each branch."""
        return PromptLayout.uniform(0, self.backbone.image.depth, self.backbone.text.depth)

    @property
    def contexts(self) -> dict[str, list[Tensor]]:
        """The learned context tokens that `layout` counts: by branch, "image" and "text", (tokens, width) for each of the
        first layers.

        Empty if each class has its own context.
        """
        return {"image": [], "text": []}

    @property
    def class_specific(self) -> bool:
        """Whether the method has per-class parameters. Methods without them accept new class names."""
        return False

    @property
    def scalars(self) -> Mapping[str, float]:
        """Numbers that were chosen on the validation shots, by name; saved with the parameters."""
        return {}

    @scalars.setter
    def scalars(self, values: Mapping[str, float]) -> None:
        if values:
            raise DplError(f"{self.name} has no {', '.join(values)}")

    @property
    def scalar_choices(self) -> Sequence[Mapping[str, float]]:
        """Values of `scalars` among which the head may choose anew, the present ones first."""
        return (self.scalars,)

    def for_classes(self, class_names: Sequence[str]) -> "Method":
        """Builds the method with the same learned parameters for other classes.

        Args:
            class_names: the new class names. A method with per-class parameters accepts names of its own classes only, each as
                often as it occurs among them, and selects their parameters.

        Returns:
            A new method of the same type. It keeps the head if all names are among the own classes; a head knows no other
            classes, so with other names the method classifies by the texts.

        Raises:
            DplError: the method has per-class parameters, and a name is not among its classes, or not as often.
        """
        state = self.select_classes(self._own_places(class_names)) if self.class_specific else self.state_dict()
        other = type(self)(self.backbone, class_names, self.templates, self.design)
        other.load_state_dict(state)
        other.scalars = self.scalars
        if self.head and Counter(class_names) <= Counter(self.class_names):
            other.head = self.head.select(self._own_places(class_names))
        return other

    def select_classes(self, places: Sequence[int]) -> Mapping[str, Tensor]:
        """Selects the parameters of some classes, for methods with per-class parameters.

        By default each tensor has a row per class, and the rows at `places` are selected.

        Args:
            places: indices of the classes, in the order of the result.

        Returns:
            The state dict for these classes.
        """
        return {name: tensor[list(places)] for name, tensor in self.state_dict().items()}

    def _own_places(self, class_names: Sequence[str]) -> list[int]:
        """Indices of `class_names` among the own classes; classes with the same name get different indices."""
        own, asked = Counter(self.class_names), Counter(class_names)
        if stranger := next((name for name, count in asked.items() if own[name] != count), None):
            problem = "none" if not own[stranger] else "not exactly one"
            belongs = f"{self.name}: its learned parameters belong to its own {len(self.class_names)} classes"
            raise DplError(f"{belongs}; {shown(stranger)} is {problem} of them")
        places: dict[str, list[int]] = {}
        for place, name in reversed(list(enumerate(self.class_names))):
            places.setdefault(name, []).append(place)
        return [places[name].pop() for name in class_names]
