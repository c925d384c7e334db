"""What a method is: a classifier that can learn from few shots, be saved as its parameters, and be built again from them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.classifier import ClipClassifier
from dpl.config import RunConfig
from dpl.data.fewshot import FewShot
from dpl.data.paths import shown
from dpl.data.task import Task
from dpl.errors import DplError
from dpl.prompts.layout import PromptLayout
from dpl.regularization import Embedded, Regularizer
from dpl.stage import OnStep


@dataclass(frozen=True)
class Inputs:
    """What a run learns from."""

    backbone: Backbone
    task: Task
    shots: FewShot


@dataclass(frozen=True, eq=False)
class Objective:
    """What a step descends, and the logits it is of."""

    loss: Float[Tensor, ""]
    logits: Float[Tensor, "images classes"]

    def backward(self, parameters: list[Tensor]) -> None:
        """Puts the step's gradients into `parameters`."""
        self.loss.backward(inputs=parameters)


class Method(ClipClassifier):
    """A way to adapt a frozen backbone. Its parameters are all that is learned, and all that a run saves.

    A subclass is constructed from (backbone, class names, templates, design, seed): `design` is a frozen dataclass of plain
    values, of its `Design`, that says what is learned; the seed decides where it starts. So a saved method is built again.
    """

    name: ClassVar[str]
    """As `--method` has it."""
    Design: ClassVar[type]
    """The dataclass of `design`."""
    regularizable: ClassVar[bool] = True
    """Whether a regularizer can be added to the objective."""

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str] = (), design: Any = None, seed: int = 0
    ) -> None:
        super().__init__(backbone, class_names)
        self.templates, self.design = tuple(templates), design

    @classmethod
    def check(cls, config: RunConfig, inputs: Inputs) -> None:
        """Raises `DplError` for settings that do not fit the task or the backbone, before anything is written."""
        cls.start(config, inputs)

    @classmethod
    def start(cls, config: Any, inputs: Inputs, run: Path | None = None, on_step: OnStep | None = None) -> "Method":
        """The model that training begins with; with a run folder what takes long is kept there, so that it can be resumed."""
        task = inputs.task
        return cls(inputs.backbone, task.class_names, task.templates, config.design, config.seed)

    def prepare(self, inputs: Inputs, seed: int) -> None:
        """What is to be done before the first step of training, or again before training goes on after a stop."""

    def objective(
        self,
        pixels: UInt8[Tensor, "images 3 size size"],
        labels: Int[Tensor, "images"],
        regularizer: Regularizer | None = None,
    ) -> Objective:
        """Cross entropy on a batch, and what the regularizer adds."""
        images, texts = self.image_features(pixels), self.text_features()
        logits = self.logits(images, texts)
        loss = F.cross_entropy(logits, labels)
        if regularizer:
            loss = loss + regularizer(pixels, Embedded(images, texts, logits, self.image_encoder))
        return Objective(loss, logits)

    def conclude(self, shots: FewShot) -> None:
        """What is to be done after the last step, or all of it where nothing is learned by steps."""

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside, the backbone carries what is learned; for methods that put it there, many calls cost less."""
        yield

    @property
    def layout(self) -> PromptLayout:
        """How many learned context tokens enter the model in front of each layer of each branch."""
        return PromptLayout.uniform(0, self.backbone.image.depth, self.backbone.text.depth)

    @property
    def contexts(self) -> dict[str, list[Tensor]]:
        """The learned context tokens that `layout` counts, (tokens, width) for each of the first layers of "image" and "text".

        Nothing where each class has its own.
        """
        return {"image": [], "text": []}

    @property
    def class_specific(self) -> bool:
        """Whether what is learned belongs to the classes it was learned on."""
        return False

    @property
    def scalars(self) -> Mapping[str, float]:
        """Single numbers that were chosen on the validation shots, by name; saved beside the parameters."""
        return {}

    @scalars.setter
    def scalars(self, values: Mapping[str, float]) -> None:
        if values:
            raise DplError(f"{self.name} has no {', '.join(values)}")

    def for_classes(self, class_names: Sequence[str]) -> "Method":
        """The same learned parameters for other classes; of parameters that belong to classes, those of the same names.

        Raises `DplError` where the parameters belong to classes and a name is not that of one of them.
        """
        state = self.select_classes(self._own_places(class_names)) if self.class_specific else self.state_dict()
        other = type(self)(self.backbone, class_names, self.templates, self.design)
        other.load_state_dict(state)
        other.scalars = self.scalars
        return other

    def select_classes(self, places: Sequence[int]) -> Mapping[str, Tensor]:
        """Where parameters belong to classes, the state dict of those at `places`, in that order: here a row of each tensor."""
        return {name: tensor[list(places)] for name, tensor in self.state_dict().items()}

    def _own_places(self, class_names: Sequence[str]) -> list[int]:
        """Where among the own classes these are; of classes with the same name, each its own."""
        own, asked = Counter(self.class_names), Counter(class_names)
        if stranger := next((name for name, count in asked.items() if own[name] != count), None):
            problem = "none" if not own[stranger] else "not exactly one"
            belongs = f"{self.name}: what it has learned belongs to its own {len(self.class_names)} classes"
            raise DplError(f"{belongs}; {shown(stranger)} is {problem} of them")
        places: dict[str, list[int]] = {}
        for place, name in reversed(list(enumerate(self.class_names))):
            places.setdefault(name, []).append(place)
        return [places[name].pop() for name in class_names]
