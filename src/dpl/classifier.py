"""CLIP classifiers: a frozen backbone, the class names, and optionally prompts for both branches."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dpl.backbones.loading import Backbone
from dpl.data.pixels.transforms import normalise
from dpl.data.templates import sentences
from dpl.heads import Head
from dpl.prompts.inject import is_prompted, prompted
from dpl.prompts.layout import PromptLayout
from dpl.prompts.modules import BranchPrompts, FixedPrompts, PromptMixture, PrunablePrompts
from dpl.prompts.texts import Texts
from dpl.utils.rng import generator

Prompts = TypeVar("Prompts", bound=BranchPrompts)


class ClipClassifier(nn.Module):
    """Computes logits exp(logit_scale) cos(image, text) over `class_names` with a frozen backbone, or those of a head.

    Subclasses define the text embeddings, and may define the image embeddings.

    Args:
        backbone: the frozen backbone; the classifier does not register it as a submodule.
        class_names: the names of the classes, in the order of the logits.
    """

    def __init__(self, backbone: Backbone, class_names: Sequence[str]) -> None:
        super().__init__()
        self.backbone, self.class_names = backbone, tuple(class_names)
        self.head: Head | None = None
        """The residual head; None: the class embeddings alone."""

    @property
    def image_encoder(self) -> object:
        """The object that determines `image_features`: the frozen backbone, or prompts.

        Classifiers with the same object compute the same embeddings of an image.
        """
        return self.backbone

    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Computes image embeddings of unit length.

        Args:
            pixels: (images, 3, size, size), uint8, of the backbone's image size.

        Returns:
            (images, dim).
        """
        pixels = normalise(pixels.to(self.backbone.device), self.backbone.preprocessing)
        return F.normalize(self.backbone.image_features(pixels))

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Returns class embeddings of unit length, (classes, dim)."""
        raise NotImplementedError

    def logits(
        self, image_features: Float[Tensor, "images dim"], text_features: Float[Tensor, "classes dim"]
    ) -> Float[Tensor, "images classes"]:
        """Computes the logits of the head, or of the class embeddings alone if there is none.

        Args:
            image_features: (images, dim), of unit length.
            text_features: (classes, dim), of unit length.

        Returns:
            (images, classes).
        """
        return self.headed(self.text_logits(image_features, text_features), image_features)

    def text_logits(
        self, image_features: Float[Tensor, "images dim"], text_features: Float[Tensor, "classes dim"]
    ) -> Float[Tensor, "images classes"]:
        """Computes the logits without the head: exp(logit_scale) times the cosines. Arguments as for `logits`."""
        return self.backbone.clip.logit_scale.exp() * image_features @ text_features.T

    def headed(
        self, text_logits: Float[Tensor, "images classes"], image_features: Float[Tensor, "images dim"]
    ) -> Float[Tensor, "images classes"]:
        """Applies the head, if there is one, to the result of `text_logits`."""
        if self.head is None:
            return text_logits
        return self.head.logits(text_logits, image_features, self.backbone.clip.logit_scale.exp())

    def forward(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images classes"]:
        """Computes the logits of images.

        Args:
            pixels: (images, 3, size, size), uint8, of the backbone's image size.

        Returns:
            (images, classes).
        """
        return self.logits(self.image_features(pixels), self.text_features())


class ZeroShot(ClipClassifier):
    """The frozen model with text embeddings averaged over templates, computed once.

    Args:
        backbone: the frozen backbone.
        class_names: the names of the classes.
        templates: sentences with {} for the class name, at least one.
        normalised: true for normalise(mean of normalise(text)), as in CLIP's own ensemble; False for normalise(mean of text), as
            in PromptSRC.

    Example:
        >>> import dpl
        >>> model = dpl.ZeroShot(dpl.load_backbone("tiny"), ["circle", "star"], ["a photo of a {}."])
        >>> model.text_features().shape
        torch.Size([2, 128])
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
            FixedPrompts([0] * branch.depth, branch.width).to(self.backbone.device),
        )
        with texts.prompted(nothing):
            return texts.features(nothing)

    @torch.no_grad()
    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Computes image embeddings without gradient.

        Args:
            pixels: (images, 3, size, size), uint8, of the backbone's image size.

        Returns:
            (images, dim), of unit length.
        """
        return super().image_features(pixels)

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Returns class embeddings of unit length, (classes, dim)."""
        return self._text_features


class Classifier(ClipClassifier, Generic[Prompts]):
    """The frozen model with prompts in both branches.

    Only the prompts are parameters; the state dict contains nothing of the backbone. Many classifiers may share one backbone, in
    any number of threads: each call adds the prompts for its own thread only.

    Args:
        backbone: the frozen backbone.
        class_names: the names of the classes.
        template: a sentence with {} for the class name.
        image: the prompts of the image branch, which move to the backbone's device.
        text: the prompts of the text branch, which move to the backbone's device.

    Raises:
        DplError: a sentence is too long for the backbone.
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
        self._prompt_scale = 1.0

    @property
    def prompt_scale(self) -> float:
        """Multiplier of every prompt's term in the attention's softmax, 0-1: 1 is the trained model, 0 the frozen model."""
        return self._prompt_scale

    @prompt_scale.setter
    def prompt_scale(self, scale: float) -> None:
        self._prompt_scale = scale
        for layer in (*self.image.layers, *self.text.layers):
            log_gates = torch.full((len(layer.prompts),), scale, device=layer.prompts.device).log()
            layer.log_gates = None if scale == 1 else log_gates

    @staticmethod
    def fixed(
        backbone: Backbone, class_names: Sequence[str], template: str, layout: PromptLayout, std: float, seed: int
    ) -> "Classifier[FixedPrompts]":
        """Creates a classifier with fresh prompts in `layout`.

        Args:
            backbone: the frozen backbone.
            class_names: the names of the classes.
            template: a sentence with {} for the class name.
            layout: the number of prompts of every layer.
            std: standard deviation of the initial prompts, N(0, std^2).
            seed: seed of the initial prompts.

        Raises:
            DplError: the layout does not fit the backbone, or a sentence is too long for it.
        """
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
        """Creates the classifier of the mixture search.

        Args:
            backbone: the frozen backbone.
            class_names: the names of the classes.
            template: a sentence with {} for the class name.
            options: context lengths, ascending from 0, to mix in every layer.
            std: standard deviation of the initial prompts, N(0, std^2).
            seed: seed of the initial prompts and alphas.

        Raises:
            DplError: the options do not ascend from 0, or there are fewer than two.
        """
        image, text = (
            PromptMixture(branch.depth, options, branch.width, std, generator(seed, "mixture", branch.name))
            for branch in (backbone.image, backbone.text)
        )
        return Classifier(backbone, class_names, template, image, text)

    @classmethod
    def prunable(
        cls, backbone: Backbone, class_names: Sequence[str], template: str, rows: int, std: float, seed: int
    ) -> "Classifier[PrunablePrompts]":
        """Creates the classifier of the pruning search.

        Args:
            backbone: the frozen backbone.
            class_names: the names of the classes.
            template: a sentence with {} for the class name.
            rows: number of prompts in every layer.
            std: standard deviation of the initial prompts, N(0, std^2).
            seed: seed of the initial prompts.
        """
        image, text = (
            PrunablePrompts(branch.depth, rows, branch.width, std, generator(seed, "prunable", branch.name))
            for branch in (backbone.image, backbone.text)
        )
        return Classifier(backbone, class_names, template, image, text)

    @property
    def image_encoder(self) -> object:
        """The image prompts, or the frozen backbone if the layout has none."""
        return self.image if any(self.layout.image) else self.backbone

    @property
    def layout(self) -> PromptLayout:
        """The number of prompts in each layer."""
        image, text = ([layer.prompts.shape[0] for layer in prompts.layers] for prompts in (self.image, self.text))
        return PromptLayout(tuple(image), tuple(text))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Context manager: the backbone's branches have this classifier's prompts inside, for the running thread.

        With gradient checkpointing, the backward pass must run inside as well.
        """
        with ExitStack() as stack:
            if not is_prompted(self.backbone.image, self.image):
                stack.enter_context(prompted(self.backbone.image, self.image))
            if not is_prompted(self.backbone.text, self.text):
                stack.enter_context(self._texts.prompted(self.text))
            yield

    def image_features(self, pixels: UInt8[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Computes image embeddings with the image prompts.

        Args:
            pixels: (images, 3, size, size), uint8, of the backbone's image size.

        Returns:
            (images, dim), of unit length.
        """
        with self.attached():
            return super().image_features(pixels)

    def text_features(self) -> Float[Tensor, "classes dim"]:
        """Computes class embeddings of unit length, (classes, dim), with the text prompts."""
        with self.attached():
            return F.normalize(self._texts.features(self.text))


def fixed_prompts(backbone: Backbone, layout: PromptLayout, std: float, seed: int) -> tuple[FixedPrompts, FixedPrompts]:
    """Creates fresh prompts in a layout.

    Args:
        backbone: the frozen backbone.
        layout: the number of prompts of every layer.
        std: standard deviation of the initial prompts, N(0, std^2).
        seed: seed of the initial prompts.

    Returns:
        The prompts of the image and of the text branch, on the CPU.
    """
    image, text = (
        FixedPrompts(lengths, branch.width, std, generator(seed, "prompts", branch.name))
        for branch, lengths in ((backbone.image, layout.image), (backbone.text, layout.text))
    )
    return image, text
