"""CLIP-LoRA: low-rank additions to the attention's projections of both branches, by peft's own layers.

Zanella and Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models", CVPR Workshops 2024;
github.com/MaxZanella/CLIP-LoRA.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
import tyro
from annotated_types import Ge, Lt, MinLen
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.backbones.low_rank import low_rank
from dpl.classifier import sentences
from dpl.config import AugmentedRun, Count, Occasion, Rate, Training
from dpl.methods.method import Method, Objective
from dpl.prompts.inputs import ContextText, ContextTexts
from dpl.regularization import Regularizer
from dpl.rng import derive_seed, generator

PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}


@dataclass(frozen=True)
class ClipLoraDesign:
    """What is added to which projections."""

    rank: Count = 2
    """Rank of every addition."""
    alpha: Rate = 1.0
    """An addition counts alpha / sqrt(rank) times."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.25
    """Part of an addition's inputs that a training step leaves out, 0 to below 1."""
    targets: Annotated[tuple[Literal["q", "k", "v", "o"], ...], MinLen(1)] = ("q", "k", "v")
    """Projections of the attention that get one: query, key, value, output; in all layers of both branches."""


@dataclass(frozen=True)
class ClipLoraRun(AugmentedRun):
    """CLIP-LoRA: low-rank additions to the attention's projections."""

    method: str = "clip-lora"
    design: Annotated[ClipLoraDesign, tyro.conf.arg(name="")] = field(default_factory=ClipLoraDesign)
    train: Training = field(default_factory=Training)

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """500 steps per shot, the cosine by step down to 1e-6; crops of 50-100 %."""
        adamw: dict[str, Any] = {"lr": 2e-4, "weight_decay": 1e-2, "warmup_epochs": 0, "clip_norm": 0.0}
        train = Training(steps=500 * occasion.shots, batch_size=32, schedule="step", final_lr=1e-6, **adamw)
        return {"augmentation": "gentle", "train": train}


class ClipLora(Method):
    """W x + alpha / sqrt(rank) B A dropout(x) in place of W x; A starts kaiming-uniform (a = sqrt 5), B at 0.

    Text is of the first template. The tokens that all texts open with are computed once, and so dropped out alike in all.
    """

    name = "clip-lora"
    Design = ClipLoraDesign
    steps: Tensor
    """Steps that were trained, which name the draws of dropout."""

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: ClipLoraDesign, seed: int = 0
    ) -> None:
        super().__init__(backbone, class_names, templates, design)
        self._seed, self._is_attached = seed, False
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.additions = nn.ModuleDict()
        self._places: list[tuple[nn.Module, str, Any]] = []  # a list: W is the backbone's, not ours to register and save
        for branch in (backbone.image, backbone.text):
            for index, layer in enumerate(branch.layers):
                for target in design.targets:
                    where = PROJECTIONS[target]
                    lora = low_rank(getattr(layer.attention, where), design.rank, design.alpha, design.dropout)
                    down, up = lora.lora_A["dpl"], lora.lora_B["dpl"]
                    draw = generator(seed, "lora", branch.name, index, target)
                    start = nn.init.kaiming_uniform_(torch.empty(down.weight.shape), a=math.sqrt(5), generator=draw)
                    down.weight = nn.Parameter(start.to(backbone.device))
                    up.weight = nn.Parameter(torch.zeros(up.weight.shape, device=backbone.device))
                    self.additions[f"{branch.name}_{index}_{target}"] = nn.ModuleDict({"A": down, "B": up})
                    self._places.append((layer.attention, where, lora))
        rows = backbone.tokenize(sentences(templates[0], class_names))
        self._texts = ContextTexts(backbone, [ContextText.around(row, 0) for row in rows])

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside, peft's layers are in the places of the projections."""
        if self._is_attached:
            yield
            return
        with ExitStack() as stack:
            for attention, where, lora in self._places:
                stack.callback(setattr, attention, where, getattr(attention, where))
                setattr(attention, where, lora)
            self._is_attached = True
            stack.callback(setattr, self, "_is_attached", False)
            yield

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        """Inside, dropout takes place; its draws depend on the seed and the step only."""
        device = self.backbone.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(derive_seed(self._seed, "dropout", int(self.steps)))
            for _, _, lora in self._places:
                lora.lora_dropout.train()
            try:
                yield
            finally:
                for _, _, lora in self._places:
                    lora.lora_dropout.eval()

    def objective(
        self,
        pixels: UInt8[Tensor, "images 3 size size"],
        labels: Int[Tensor, "images"],
        regularizer: Regularizer | None = None,
    ) -> Objective:
        """The usual one, with dropout."""
        with self._dropping():
            objective = super().objective(pixels, labels, regularizer)
        self.steps += 1
        return objective

    @property
    def image_encoder(self) -> object:
        """The method itself, as its additions are in the image branch."""
        return self

    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Image embeddings of unit length, of uint8 pixels, with the additions."""
        with self.attached():
            return super().image_features(pixels)

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Class embeddings of unit length, with the additions."""
        nothing = torch.empty(0, self.backbone.text.width, device=self.backbone.device)
        with self.attached():
            return F.normalize(self._texts.features(nothing))
