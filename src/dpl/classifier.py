"""A classifier: a frozen backbone, prompts for both branches, and the names of the classes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.data.transforms import normalise
from dpl.prompts.inject import attach
from dpl.prompts.layout import PromptLayout
from dpl.prompts.modules import BranchPrompts, FixedPrompts, PromptMixture, PrunablePrompts
from dpl.prompts.texts import Texts
from dpl.rng import generator

Prompts = TypeVar("Prompts", bound=BranchPrompts)


class ClipClassifier(nn.Module):
    """Logits exp(logit_scale) cos(image, text) over `class_names`, of a frozen backbone; how is the subclass's matter."""

    def __init__(self, backbone: Backbone, class_names: Sequence[str]) -> None:
        super().__init__()
        self.backbone, self.class_names = backbone, tuple(class_names)

    @property
    def image_encoder(self) -> object:
        """What decides `image_features`: classifiers with the same one embed an image alike. The frozen backbone, or prompts."""
        return self.backbone

    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Image embeddings of unit length, of uint8 pixels of the backbone's image size."""
        pixels = normalise(pixels.to(self.backbone.device), self.backbone.mean, self.backbone.std)
        return F.normalize(self.backbone.image_features(pixels))

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Class embeddings of unit length."""
        raise NotImplementedError

    def logits(
        self, image_features: Float[Tensor, "images dim"], text_features: Float[Tensor, "classes dim"]
    ) -> Float[Tensor, "images classes"]:
        """exp(logit_scale) times the cosines of unit vectors."""
        return self.backbone.clip.logit_scale.exp() * image_features @ text_features.T

    def forward(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images classes"]:
        """Logits of uint8 pixels."""
        return self.logits(self.image_features(pixels), self.text_features())


def sentences(template: str, class_names: Sequence[str]) -> list[str]:
    """The template with every class name in its {}."""
    return [template.format(name) for name in class_names]


class ZeroShot(ClipClassifier):
    """The frozen model itself; text averaged over `templates`: normalise(mean of normalise(text)), as CLIP's own ensemble.

    If not `normalised`, it is normalise(mean of text), as PromptSRC's.
    """

    def __init__(self, backbone: Backbone, class_names: Sequence[str], templates: Sequence[str], normalised: bool = True) -> None:
        super().__init__(backbone, class_names)
        self.templates = tuple(templates)
        with torch.no_grad():
            features = [self._embedded(template) for template in self.templates]
            features = [F.normalize(embedded) if normalised else embedded for embedded in features]
            self._text_features = F.normalize(torch.stack(features).mean(dim=0))

    def _embedded(self, template: str) -> Float[Tensor, "classes dim"]:
        branch = self.backbone.text
        texts, nothing = (
            Texts(self.backbone, sentences(template, self.class_names)),
            FixedPrompts([0] * branch.depth, branch.width),
        )
        attachment = texts.attach(nothing)
        try:
            return texts.features(nothing)
        finally:
            attachment.detach()

    @torch.no_grad()
    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Image embeddings of unit length, of uint8 pixels, without gradient."""
        return super().image_features(pixels)

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Class embeddings of unit length, computed once."""
        return self._text_features


class Classifier(ClipClassifier, Generic[Prompts]):
    """The frozen model with prompts in both branches.

    Only the prompts are parameters: the state dict holds them and nothing of the backbone. Many classifiers may share one
    backbone; each puts its prompts on for the length of its own calls, or of a `with classifier.attached()`.
    """

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        template: str,
        image: Prompts,
        text: Prompts,
    ) -> None:
        super().__init__(backbone, class_names)
        self.template = template
        self.image: Prompts = image.to(backbone.device)
        self.text: Prompts = text.to(backbone.device)
        self._texts = Texts(backbone, sentences(template, class_names))
        self._is_attached = False
        self._gate = 1.0

    @property
    def gate(self) -> float:
        """How often each prompt counts, 0-1, in place of once: 1 as trained, 0 is the frozen model."""
        return self._gate

    @gate.setter
    def gate(self, gate: float) -> None:
        self._gate = gate
        for layer in (*self.image.layers, *self.text.layers):
            log_gates = torch.full((len(layer.prompts),), gate, device=layer.prompts.device).log()
            layer.log_gates = None if gate == 1 else log_gates

    @staticmethod
    def fixed(
        backbone: Backbone, class_names: Sequence[str], template: str, layout: PromptLayout, std: float, seed: int
    ) -> "Classifier[FixedPrompts]":
        """Fresh prompts N(0, std^2) in `layout`."""
        return Classifier(backbone, class_names, template, *fixed_prompts(backbone, layout, std, seed))

    @classmethod
    def mixture(
        cls,
        backbone: Backbone,
        class_names: Sequence[str],
        template: str,
        options: Sequence[int],
        std: float,
        seed: int,
    ) -> "Classifier[PromptMixture]":
        """The mixture search's classifier: a mixture over `options` in every layer, prompts at N(0, std^2)."""
        image, text = (
            PromptMixture(branch.depth, options, branch.width, std, generator(seed, "mixture", branch.name))
            for branch in (backbone.image, backbone.text)
        )
        return Classifier(backbone, class_names, template, image, text)

    @classmethod
    def prunable(
        cls, backbone: Backbone, class_names: Sequence[str], template: str, rows: int, std: float, seed: int
    ) -> "Classifier[PrunablePrompts]":
        """The pruning search's classifier: `rows` prompts in every layer, at N(0, std^2)."""
        image, text = (
            PrunablePrompts(branch.depth, rows, branch.width, std, generator(seed, "prunable", branch.name))
            for branch in (backbone.image, backbone.text)
        )
        return Classifier(backbone, class_names, template, image, text)

    @property
    def image_encoder(self) -> object:
        """The image prompts, or the frozen backbone where there are none."""
        return self.image if any(self.layout.image) else self.backbone

    @property
    def layout(self) -> PromptLayout:
        """How many prompt rows each layer has."""
        image, text = ([layer.prompts.shape[0] for layer in prompts.layers] for prompts in (self.image, self.text))
        return PromptLayout(tuple(image), tuple(text))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside, the backbone's branches carry this classifier's prompts; gradient checkpointing needs it around backward."""
        if self._is_attached:
            yield
            return
        with ExitStack() as stack:
            stack.callback(attach(self.backbone.image, self.image).detach)
            stack.callback(self._texts.attach(self.text).detach)
            self._is_attached = True
            try:
                yield
            finally:
                self._is_attached = False

    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Image embeddings of unit length, of uint8 pixels, with the image prompts."""
        with self.attached():
            return super().image_features(pixels)

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Class embeddings of unit length, with the text prompts."""
        with self.attached():
            return F.normalize(self._texts.features(self.text))


def fixed_prompts(backbone: Backbone, layout: PromptLayout, std: float, seed: int) -> tuple[FixedPrompts, FixedPrompts]:
    """Fresh prompts N(0, std^2) for the image and for the text branch."""
    image, text = (
        FixedPrompts(lengths, branch.width, std, generator(seed, "prompts", branch.name))
        for branch, lengths in ((backbone.image, layout.image), (backbone.text, layout.text))
    )
    return image, text
