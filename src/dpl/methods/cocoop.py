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
from dpl.config import FIELD, AugmentedRun, Count, Occasion, Optimization, RateOrZero
from dpl.methods.coop import PHRASE, CoOp, CoOpDesign
from dpl.methods.method import Objective
from dpl.regularization import Regularizer
from dpl.rng import generator

TOKENS_AT_ONCE = 2**16
"""Of the texts of several images: at CLIP's width of 512 about half a gigabyte where no gradient is wanted."""


@dataclass(frozen=True)
class CoCoOpDesign:
    """The context of CoCoOp."""

    context: Count | None = None
    """Context tokens; none: as many as the words of --init have, 16 without."""
    init: str = PHRASE
    """Words whose embeddings the context starts at; none, "": at N(0, std^2)."""
    prompt_std: RateOrZero = 0.02
    """Standard deviation of a start without words."""


@dataclass(frozen=True)
class CoCoOpRun(AugmentedRun):
    """CoCoOp: context words, and a small network that shifts them for every image."""

    method: str = "cocoop"
    design: Annotated[CoCoOpDesign, tyro.conf.arg(name="")] = field(default_factory=CoCoOpDesign)
    train: Optimization = field(default_factory=lambda: Optimization(epochs=27))

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """10 epochs, one image a step, whatever the shots."""
        return {"augmentation": "protocol", "train": Optimization(epochs=10, batch_size=1, lr=2e-3, **FIELD)}


class CoCoOp(CoOp):
    """text(c, x) = encode([SOS] v_1 + s(x) .. v_M + s(x) [class name c] . [EOS]), v and the network s learned.

    s(x) = W2 relu(W1 image(x) + b1) + b2, with as many hidden units as a sixteenth of the embedding's dimensions.
    """

    name = "cocoop"
    Design = CoCoOpDesign
    regularizable = False  # an image's own texts are nothing that a regularizer could compare

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], design: CoCoOpDesign, seed: int = 0
    ) -> None:
        super().__init__(backbone, class_names, templates, CoOpDesign(**vars(design)), seed)
        self.design = design
        dim, draw = backbone.clip.visual_projection.out_features, generator(seed, "meta-net")
        hidden = max(dim // 16, 1)
        self.meta = nn.Sequential(linear(dim, hidden, draw), nn.ReLU(), linear(hidden, backbone.text.width, draw))
        self.meta.to(backbone.device)

    def logits(
        self, image_features: Float[Tensor, "images dim"], text_features: Float[Tensor, "classes dim"]
    ) -> Float[Tensor, "images classes"]:
        """exp(logit_scale) times the cosines of every image with the texts that its own context gives.

        The class embeddings that are given, those of the context without a shift, do not count.
        """
        return self._own_logits(image_features)

    def forward(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images classes"]:
        """Logits of uint8 pixels."""
        return self._own_logits(self.image_features(pixels))

    def objective(
        self,
        pixels: UInt8[Tensor, "images 3 size size"],
        labels: Int[Tensor, "images"],
        regularizer: Regularizer | None = None,
    ) -> Objective:
        """Cross entropy on a batch."""
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
    """A layer whose weights and biases are of `draw`, uniform within 1 / sqrt(inputs), as PyTorch's start is."""
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")  # so that nothing is drawn elsewhere
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=draw)
    return layer
