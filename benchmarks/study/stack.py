"""Many runs of one task trained at once: the frozen layers see the images of all runs in one batch, each run its own prompts.

A step of `tiny` on 16 images is mostly the cost of starting its many small operations; ten runs in one batch share that. What
a run computes is the same as alone (tests hold it to `dpl.train_prompts`): the frozen layers treat images one by one, prompts
belong to the images of their run, gradients are clipped and stepped run by run. Rows that a run lacks in a layer are masked.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dpl.backbones.branch import Attend, Layer
from dpl.backbones.loading import Backbone
from dpl.classifier import Classifier
from dpl.config import Optimization
from dpl.data.fewshot import FewShot
from dpl.data.pixels.batches import TrainingBatches
from dpl.data.pixels.transforms import normalise
from dpl.data.task import Task
from dpl.data.templates import sentences
from dpl.optim.optimizer import learning_rate, make_optimizer, parameters_of, set_learning_rate
from dpl.prompts.modules import LayerPrompts, MixtureLayer
from dpl.prompts.texts import Packing, pack
from dpl.prompts.visibility import fused_attention, upcast_on_cpu
from dpl.utils.errors import DplError

Member = TypeVar("Member", bound=LayerPrompts)


class StackedLayer(Generic[Member]):
    """The prompts of all runs in one layer, (runs, rows, width); a run's images attend to its own."""

    def __init__(self, layer: Layer, members: Sequence[Member]) -> None:
        self._layer, self._members = layer, members
        self.rows = max(len(member.prompts) for member in members)
        self.prompts = torch.stack([F.pad(m.prompts.detach(), (0, 0, 0, self.rows - len(m.prompts))) for m in members])
        self.prompts.requires_grad_()
        lacking = self.prompts.new_zeros(self.prompts.shape[:2])
        for own, member in zip(lacking, members, strict=True):
            own[len(member.prompts) :] = float("-inf")
        self._lacking = lacking if any(len(member.prompts) < self.rows for member in members) else None

    @property
    def parameters(self) -> list[Tensor]:
        """What is learned here by the prompts' optimiser."""
        return [self.prompts] if self.rows else []

    def write_back(self) -> None:
        """Gives the runs what was learned for them."""
        with torch.no_grad():
            for member, own in zip(self._members, self.prompts, strict=True):
                member.prompts.copy_(own[: len(member.prompts)])

    def read(self, hidden: Tensor, asked: Tensor | slice, mask: Tensor) -> Tensor:
        """`Layer.read` of (runs * images, tokens, width); `mask`, (tokens, tokens) or (1, tokens), is added to scores."""
        return self._layer.read(hidden, asked, self._attend(mask if len(mask) == 1 else mask[asked]))

    def _attend(self, mask: Tensor) -> Attend:
        attention, normed = self._layer.attention, self._layer.norm(self.prompts)
        own_key, own_value = (
            project(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for project in (attention.k_proj, attention.v_proj)
        )
        return lambda query, key, value: self._mix(query, key, value, own_key, own_value, mask, attention.scale)

    def _mix(
        self, query: Tensor, key: Tensor, value: Tensor, own_key: Tensor, own_value: Tensor, mask: Tensor, scale: float
    ) -> Any:
        """Attention over tokens and prompts; `own_key` and `own_value` are (runs, heads, rows, head_dim)."""
        images = len(query) // len(own_key)
        if self.rows:
            key = torch.cat([key, own_key.repeat_interleave(images, dim=0)], dim=2)
            value = torch.cat([value, own_value.repeat_interleave(images, dim=0)], dim=2)
        return fused_attention(query, key, value, self._added(mask, images), scale)

    def _added(self, mask: Tensor, images: int) -> Tensor | None:
        """What is added to scores, (#runs * images, 1, #queries, tokens + rows): `mask`, and -inf for rows that a run lacks."""
        if self._lacking is None:
            return F.pad(mask, (0, self.rows))[None, None] if len(mask) > 1 else None
        lacking = self._lacking.to(mask.dtype).repeat_interleave(images, dim=0)[:, None, None]
        size = (len(lacking), 1, len(mask), -1)
        return torch.cat([mask.expand(size), lacking.expand(size)], dim=-1)


class StackedMixture(StackedLayer[MixtureLayer]):
    """The same with the paper's mixture and its alphas, (runs, options): docs/method.md's one pass, with one maximum for all."""

    def __init__(self, layer: Layer, members: Sequence[MixtureLayer]) -> None:
        super().__init__(layer, members)
        options = torch.tensor(members[0].options, device=self.prompts.device)
        self._owner = F.one_hot(torch.repeat_interleave(options), len(options)).to(self.prompts.dtype).T
        self.alphas = torch.stack([member.alphas.detach() for member in members]).requires_grad_()

    def write_back(self) -> None:
        """Gives the runs what was learned for them."""
        super().write_back()
        with torch.no_grad():
            for member, own in zip(self._members, self.alphas, strict=True):
                member.alphas.copy_(own)

    def _mix(
        self, query: Tensor, key: Tensor, value: Tensor, own_key: Tensor, own_value: Tensor, mask: Tensor, scale: float
    ) -> Any:
        images, dtype = len(query) // len(own_key), query.dtype
        with torch.autocast(query.device.type, enabled=False):
            query, key, value, own_key, own_value = (
                upcast_on_cpu(part) for part in (query * scale, key, value, own_key, own_value)
            )
            own_key, own_value = (part.repeat_interleave(images, dim=0) for part in (own_key, own_value))
            scores = torch.cat([query @ key.mT + mask, query @ own_key.mT], dim=-1)
            tokens, prompts = (scores - scores.detach().amax(dim=-1, keepdim=True)).exp().split([key.shape[2], self.rows], dim=-1)
            sums = tokens.sum(dim=-1, keepdim=True) + prompts @ self._owner.T
            shares = self.alphas.softmax(dim=-1).repeat_interleave(images, dim=0)[:, None, None] / sums
            mixed = (tokens @ value) * shares.sum(dim=-1, keepdim=True) + (prompts * (shares @ self._owner)) @ own_value
        return mixed.to(dtype)


class Stack:
    """The models of many runs of one task, as one: `logits` of the images of all."""

    def __init__(self, models: Sequence[Classifier], kind: type[StackedLayer[Any]] = StackedLayer) -> None:
        first = models[0]
        self._backbone, self.runs = first.backbone, len(models)
        self._packing = pack(first.backbone.tokenize(sentences(first.template, first.class_names)))
        self._image, self._text = (
            [kind(layer, [getattr(model, name).layers[index] for model in models]) for index, layer in enumerate(branch.layers)]
            for name, branch in (("image", first.backbone.image), ("text", first.backbone.text))
        )
        scale = upcast_on_cpu(first.backbone.clip.logit_scale)
        self._every, tokens = scale.new_zeros(1, 1), len(self._packing.ids)
        self._causal = scale.new_zeros(tokens, tokens).masked_fill(~_sees(self._packing).to(scale.device), float("-inf"))

    @property
    def layers(self) -> list[StackedLayer[Any]]:
        """Those of the image branch, then those of the text branch."""
        return [*self._image, *self._text]

    def write_back(self) -> None:
        """Gives the models what was learned for them."""
        for layer in self.layers:
            layer.write_back()

    def logits(self, pixels: Tensor, streams: Tensor) -> Tensor:
        """(runs, images, classes) of uint8 pixels (streams, images, 3, size, size); run r looks at those of streams[r]."""
        images, texts = F.normalize(self._image_features(pixels, streams), dim=-1), F.normalize(self._text_features(), dim=-1)
        return self._backbone.clip.logit_scale.exp() * images @ texts.mT

    def _image_features(self, pixels: Tensor, streams: Tensor) -> Tensor:
        backbone, model = self._backbone, self._backbone.clip.vision_model
        with backbone.autocast():
            hidden = model.pre_layrnorm(model.embeddings(normalise(pixels.flatten(0, 1), backbone.preprocessing)))
            hidden, cls = hidden.unflatten(0, pixels.shape[:2]), streams.new_zeros(1)
            pooled = model.post_layernorm(self._read(self._image, hidden, streams, cls, self._every)[:, :, 0])
        return _projected(backbone.clip.visual_projection, pooled)

    def _text_features(self) -> Tensor:
        model: Any = self._backbone.clip.text_model
        ids, positions, ends, order = self._packing.tensors(self._backbone.device)
        with self._backbone.autocast():
            hidden = model.embeddings(input_ids=ids.mT, position_ids=positions.mT).transpose(0, 1)[None]
            one = ids.new_zeros(self.runs)
            pooled = model.final_layer_norm(self._read(self._text, hidden, one, ends, self._causal)[:, 0])
        return _projected(self._backbone.clip.text_projection, pooled)[:, order]

    def _read(self, layers: Sequence[StackedLayer[Any]], hidden: Tensor, of_runs: Tensor, asked: Tensor, mask: Tensor) -> Tensor:
        """(runs, images, len(asked), width) of hidden (streams, images, tokens, width); run r has the stream of_runs[r].

        In front of the first layer with prompts a stream is computed once for all its runs.
        """
        mask, images = mask.expand(-1, hidden.shape[2]), hidden.shape[1]
        first = next((index for index, layer in enumerate(layers) if layer.rows), len(layers))
        for index, layer in enumerate(layers):
            if index == first:
                hidden = hidden[of_runs]
            read = layer.read(hidden.flatten(0, 1), asked if index == len(layers) - 1 else slice(None), mask)
            hidden = read.unflatten(0, (-1, images))
        return hidden if first < len(layers) else hidden[of_runs]


def _projected(projection: Any, pooled: Tensor) -> Tensor:
    return projection(pooled.to(projection.weight.dtype))


def _sees(packing: Packing) -> Tensor:
    """(tokens, tokens): True where a token of the packed row sees another: the opening, and its own text up to itself."""
    text = torch.zeros(len(packing.ids), dtype=torch.long, device="cpu")
    starts = [packing.tokens.opening, *(end + 1 for end in packing.ends)]
    for index, (start, stop) in enumerate(zip(starts, starts[1:], strict=False), start=1):
        text[start:stop] = index
    return ((text == 0) | (text == text[:, None])).tril()


class Streams:
    """The training batches of many runs; those with the same shots and seed share a stream."""

    def __init__(
        self, backbone: Backbone, task: Task, draws: Sequence[tuple[FewShot, int]], config: Optimization, stage: str
    ) -> None:
        keys = [(id(shots), seed) for shots, seed in draws]
        distinct = dict(zip(keys, draws, strict=True))
        self.of_runs = torch.tensor([list(distinct).index(key) for key in keys], device=backbone.device)
        self._batches = [
            TrainingBatches(shots.train, backbone, task.augmentation, config, seed, stage) for shots, seed in distinct.values()
        ]

    def __len__(self) -> int:
        """Steps per epoch."""
        return len(self._batches[0])

    def epoch(self, epoch: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(step, pixels (streams, images, 3, size, size), labels (runs, images))."""
        for batches in zip(*(batches.epoch(epoch) for batches in self._batches), strict=True):
            pixels, labels = (torch.stack([batch[part] for batch in batches]) for part in (1, 2))
            yield batches[0][0], pixels, labels[self.of_runs]


def mean_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of every run, (runs,); raises `DplError` where one is not finite."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape).mean(dim=1)
    if not losses.isfinite().all():
        raise DplError(f"the losses of the runs are {losses.tolist()}: one of them is not finite")
    return losses


def train_stacked(
    models: Sequence[Classifier], task: Task, draws: Sequence[tuple[FewShot, int]], config: Optimization, stage: str = "train"
) -> None:
    """What `dpl.train.train` does by steps with each of the `models`, on the shots and with the seed of its draw."""
    stack = Stack(models)
    parameters = [parameter for layer in stack.layers for parameter in layer.parameters]
    if not parameters:
        return
    streams, optimizer = Streams(models[0].backbone, task, draws, config, stage), make_optimizer(config, parameters)
    for epoch in range(config.epochs):
        for step, pixels, labels in streams.epoch(epoch):
            set_learning_rate(optimizer, learning_rate(config, epoch, step / len(streams)))
            optimizer.zero_grad(set_to_none=True)
            mean_losses(stack.logits(pixels, streams.of_runs), labels).sum().backward(inputs=parameters_of(optimizer))
            _clip(parameters, config.clip_norm)
            optimizer.step()
    stack.write_back()


def _clip(parameters: Sequence[Tensor], norm: float) -> None:
    """As `torch.nn.utils.clip_grad_norm_`, run by run; 0: not at all."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not norm:
        return
    norms = sum(gradient.flatten(1).square().sum(dim=1) for gradient in gradients)
    factors = (norm / (torch.as_tensor(norms).sqrt() + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factors[:, None, None])
