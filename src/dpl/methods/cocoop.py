"""CoCoOp: context words, and a small network that shifts them for every image.

Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022; github.com/KaiyangZhou/CoOp.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.config import FIELD, Count, HeadedRun, Optimization, Protocol, RateOrZero
from dpl.methods.coop import PHRASE, CoOp, CoOpConfig
from dpl.methods.method import Objective
from dpl.optim.regularization import Regularizer
from dpl.utils.rng import generator

TOKENS_AT_ONCE = 2**16
"""Tokens computed at once in the texts of several images: half a gigabyte at CLIP's width of 512, without gradients."""


@dataclass(frozen=True)
class CoCoOpConfig:
    """The context of CoCoOp."""

    context: Count | None = None
    """Number of context tokens; none: as many as --init has, or 16 without --init."""
    init: str = PHRASE
    """Words whose embeddings are the initial context; "": N(0, std^2)."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of the initial context without --init."""


@dataclass(frozen=True)
class CoCoOpRun(HeadedRun):
    """CoCoOp: context words, and a small network that shifts them for every image."""

    method: str = "cocoop"
    design: Annotated[CoCoOpConfig, tyro.conf.arg(name="")] = field(default_factory=CoCoOpConfig)
    train: Optimization = field(default_factory=lambda: Optimization(epochs=27))

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: 10 epochs with one image per step, for any number of shots."""
        return {**super().paper_settings(protocol), "train": Optimization(epochs=10, batch_size=1, lr=2e-3, **FIELD)}


class CoCoOp(CoOp):
    """CoOp with a context that a learned network shifts for every image x.

    text(c, x) = encode([SOS] v_1 + s(x) .. v_M + s(x) [class name c] . [EOS]); the context v and the network s are learned.
    s(x) = W2 relu(W1 image(x) + b1) + b2, with a sixteenth of the embedding's dimensions as hidden units, at least one.
    """

    name = "cocoop"
    Config = CoCoOpConfig
    regularizable = False  # every image has its own texts, and the regularizers compare one text per class

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: CoCoOpConfig, seed: int = 0
    ) -> None:
        super().__init__(backbone, class_names, templates, CoOpConfig(**vars(design)), seed)
        self.design = design
        dim, draw = backbone.clip.visual_projection.out_features, generator(seed, "meta-net")
        hidden = max(dim // 16, 1)
        self.meta = nn.Sequential(linear(dim, hidden, draw), nn.ReLU(), linear(hidden, backbone.text.width, draw))
        self.meta.to(backbone.device)

    def text_logits(
        self, image_features: Float[Tensor, "images dim"], text_features: Float[Tensor, "classes dim"]
    ) -> Float[Tensor, "images classes"]:
        """Computes exp(logit_scale) times the cosines of every image with the texts of its own shifted context.

        Args:
            image_features: image embeddings of unit length.
            text_features: ignored; the texts depend on the image.

        Returns:
            The logits.
        """
        return self._own_logits(image_features)

    def forward(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images classes"]:
        """Computes the logits of images.

        Args:
            pixels: (images, 3, size, size), uint8, of the backbone's image size.

        Returns:
            (images, classes).
        """
        images = self.image_features(pixels)
        return self.headed(self._own_logits(images), images)

    def objective(
        self,
        pixels: UInt8[Tensor, "images 3 size size"],
        labels: Int[Tensor, "images"],
        regularizer: Regularizer | None = None,
    ) -> Objective:
        """Computes cross entropy on a batch.

        Args:
            pixels: uint8 images of the backbone's image size.
            labels: class indices.
            regularizer: not used.

        Returns:
            The loss and the logits.
        """
        logits = self(pixels)
        return Objective(F.cross_entropy(logits, labels), logits)

    def _own_logits(self, images: Float[Tensor, "images dim"]) -> Float[Tensor, "images classes"]:
        at_once = max(1, TOKENS_AT_ONCE // self._texts.tokens)
        cosines = [self._cosines(chunk) for chunk in images.split(at_once)]
        return self.backbone.clip.logit_scale.exp() * torch.cat(cosines)

    def _cosines(self, images: Float[Tensor, "images dim"]) -> Float[Tensor, "images classes"]:
        texts = self._texts.features(self.context + self.meta(images)[:, None])
        return torch.einsum("id,icd->ic", images, F.normalize(texts, dim=-1))


def linear(inputs: int, outputs: int, draw: torch.Generator) -> nn.Linear:
    """Makes a linear layer with weights and biases uniform within +-1 / sqrt(inputs), as PyTorch initialises them.

    Args:
        inputs: number of input features.
        outputs: number of output features.
        draw: the generator of all values.

    Returns:
        The layer, on the CPU.
    """
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")  # no draws from the global generator
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=draw)
    return layer
