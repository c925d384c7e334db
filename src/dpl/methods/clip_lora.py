"""CLIP-LoRA: low-rank additions to the attention projections of both branches.

Zanella and Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models", CVPR Workshops 2024;
github.com/MaxZanella/CLIP-LoRA.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
import tyro
from annotated_types import Ge, Lt, MinLen
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.backbones.low_rank import LowRank, with_dropout, with_low_rank
from dpl.config import Count, HeadedRun, Protocol, Rate, Training
from dpl.data.templates import sentences
from dpl.methods.method import Method, Objective
from dpl.optim.regularization import Regularizer
from dpl.prompts.context_tokens import ContextText, ContextTexts
from dpl.utils.rng import derive_seed, generator

PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}


@dataclass(frozen=True)
class ClipLoraConfig:
    """Rank, scale, dropout and targets of the low-rank additions."""

    rank: Count = 2
    """Rank of every addition."""
    alpha: Rate = 1.0
    """Scale of an addition: alpha / sqrt(rank)."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.25
    """Dropout of an addition's inputs, 0 to below 1."""
    targets: Annotated[tuple[Literal["q", "k", "v", "o"], ...], MinLen(1)] = ("q", "k", "v")
    """Attention projections with an addition (q, k, v, o), in all layers of both branches."""


@dataclass(frozen=True)
class ClipLoraRun(HeadedRun):
    """CLIP-LoRA: low-rank additions to the attention's projections."""

    method: str = "clip-lora"
    design: Annotated[ClipLoraConfig, tyro.conf.arg(name="")] = field(default_factory=ClipLoraConfig)
    train: Training = field(default_factory=Training)

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: 500 steps per shot, a cosine schedule by step down to 1e-6, crops of 50-100 %."""
        adamw: dict[str, Any] = {"lr": 2e-4, "weight_decay": 1e-2, "warmup_epochs": 0, "clip_norm": 0.0}
        train = Training(steps=500 * protocol.shots, batch_size=32, schedule="step", final_lr=1e-6, **adamw)
        return {**super().paper_settings(protocol), "augmentation": "gentle", "train": train}


class ClipLora(Method):
    """Replaces W x by W x + alpha / sqrt(rank) B A dropout(x); A starts kaiming-uniform (a = sqrt 5), B at 0.

    The texts use the first template. The opening tokens that all texts share are computed once, so dropout is the same for them
    in all texts.
    """

    name = "clip-lora"
    Config = ClipLoraConfig
    steps: Tensor
    """Number of training steps so far; it determines the draws of dropout."""

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: ClipLoraConfig, seed: int = 0
    ) -> None:
        super().__init__(backbone, class_names, templates, design)
        self._seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.additions = nn.ModuleDict()
        self._by_layer: dict[nn.Module, LowRank] = {}  # a dict, so that the backbone's W is neither registered nor saved
        scale = design.alpha / math.sqrt(design.rank)
        for branch in (backbone.image, backbone.text):
            for index, layer in enumerate(branch.layers):
                for target in design.targets:
                    frozen = getattr(layer.attention, PROJECTIONS[target])
                    draw = generator(seed, "lora", branch.name, index, target)
                    down = torch.empty(design.rank, frozen.in_features)
                    down = nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=draw).to(backbone.device)
                    addition = LowRank(down, frozen.out_features, scale, design.dropout)
                    self.additions[f"{branch.name}_{index}_{target}"] = self._by_layer[frozen] = addition
        rows = backbone.tokenize(sentences(templates[0], class_names))
        self._texts = ContextTexts(backbone, [ContextText.around(row, 0) for row in rows])

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside the context, the projections of the backbone have the additions, for the running thread."""
        with with_low_rank(self._by_layer):
            yield

    def objective(
        self,
        pixels: UInt8[Tensor, "images 3 size size"],
        labels: Int[Tensor, "images"],
        regularizer: Regularizer | None = None,
    ) -> Objective:
        """Computes the objective of `Method.objective` with dropout, and counts the step."""
        draws = torch.Generator(self.backbone.device)
        with with_dropout(draws.manual_seed(derive_seed(self._seed, "dropout", int(self.steps)))):
            objective = super().objective(pixels, labels, regularizer)
        self.steps += 1
        return objective

    @property
    def image_encoder(self) -> object:
        """This method, because its additions change the image branch."""
        return self

    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Computes image embeddings with the additions.

        Args:
            pixels: (images, 3, size, size), uint8, of the backbone's image size.

        Returns:
            (images, dim), of unit length.
        """
        with self.attached():
            return super().image_features(pixels)

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Computes the class embeddings with the additions, of unit length."""
        nothing = torch.empty(0, self.backbone.text.width, device=self.backbone.device)
        with self.attached():
            return F.normalize(self._texts.features(nothing))
