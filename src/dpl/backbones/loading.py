"""Loads a backbone: the embedded `tiny`, a checkpoint folder or file, or a Hugging Face id."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPModel, PreTrainedTokenizerBase

from dpl.backbones.branch import Branch
from dpl.backbones.checkpoint import read_checkpoint
from dpl.backbones.choices import Precision, PrecisionChoice, Resize
from dpl.backbones.clip import build, check_pooling, function_settings, linear_parameters, pooled_at
from dpl.backbones.devices import find_device, find_precision
from dpl.backbones.identity import Identity, digest, tokenizer_digest
from dpl.backbones.preprocessing import Preprocessing, read_preprocessing
from dpl.backbones.sources import OnFetch, open_source
from dpl.backbones.weights import Placement, fill
from dpl.utils.errors import DplError

TINY = Path(__file__).parent / "tiny"
CALLS_KEPT = 128
"""`Backbone.tokenize` keeps the results of so many calls: a call per template, and the largest ensemble has 80."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen CLIP in eval mode, with its tokenizer, preprocessing and branches.

    Attributes:
        name: tiny, a path, or a hub id without the revision.
        clip: the model.
        tokenizer: its tokenizer.
        preprocessing: the steps from an image to the model's pixels.
        image: the layers of the image branch.
        text: the layers of the text branch.
        identity: digests that tell checkpoints apart.
        precision: the precision of the layers' computation.
        commit: the hub's commit; None for a folder or file.
        notes: notes for the user, one line each.
    """

    name: str
    clip: CLIPModel
    tokenizer: PreTrainedTokenizerBase
    preprocessing: Preprocessing
    image: Branch
    text: Branch
    identity: Identity
    precision: Precision = "fp32"
    commit: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def image_size(self) -> int:
        """Side of the model's square input, in pixels."""
        return self.preprocessing.size

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.clip.device

    @property
    def fingerprint(self) -> str:
        """Digest that differs between backbones with different features, apart from the rounding by `precision`."""
        return digest([self.identity.fingerprint, asdict(self.preprocessing)])

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenises texts, each up to the token that the text branch pools at, its first EOS.

        Args:
            texts: sentences.

        Returns:
            The token ids of every text, without padding.

        The results of the last calls are kept, because the models of a run ask for the same sentences.

        Raises:
            DplError: a text does not fit the backbone's positions, or would be pooled at another token than its end.
        """
        return [row.copy() for row in self._tokenize(tuple(texts))]

    @cached_property
    def _tokenize(self) -> Callable[[tuple[str, ...]], list[list[int]]]:
        # Without a reference to `self`, so that the memory is released with the last reference to the backbone.
        return lru_cache(maxsize=CALLS_KEPT)(partial(_tokenized, self.name, self.tokenizer, self.clip.text_model.config))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_tokenize"}

    def autocast(self) -> torch.autocast:
        """Returns a context manager in which the layers compute in this backbone's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def image_features(self, pixels: Float[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Computes projected image embeddings.

        Args:
            pixels: (images, 3, size, size), normalised.

        Returns:
            (images, dim) in fp32, not of unit length.
        """
        model = self.clip.vision_model
        with self.autocast():
            hidden = model.pre_layrnorm(model.embeddings(pixels))
            cls = torch.zeros(1, dtype=torch.long, device=pixels.device)
            pooled = model.post_layernorm(self.image.read(hidden, cls)[:, 0])
        projection = self.clip.visual_projection
        return projection(pooled.to(projection.weight.dtype))


def _tokenized(name: str, tokenizer: Any, config: Any, texts: tuple[str, ...]) -> list[list[int]]:
    rows: list[list[int]] = tokenizer(list(texts), verbose=False)["input_ids"]
    found = []
    for text, row in zip(texts, rows, strict=True):
        if len(row) > config.max_position_embeddings:
            fits = f"{name} reads {config.max_position_embeddings}; shorten the class name or template"
            raise DplError(f"{text!r}: {len(row)} tokens, {fits}")
        place = pooled_at(row, config.eos_token_id)
        if place is None or row[place] != row[-1]:
            raise DplError(f"{text!r}: {name} would not pool this text at its end; leave out special tokens")
        found.append(row[: place + 1])
    return found


def announce(say: Callable[[str], None]) -> OnFetch:
    """Makes a download callback that announces each file above 20 MB once.

    Args:
        say: receives one line per file.
    """
    said: set[str] = set()

    def on_fetch(name: str, done: int, total: int) -> None:
        if total > 20 and name not in said:
            said.add(name)
            say(f"fetching {name}, {total} MB")

    return on_fetch


def load_backbone(
    name: str = "tiny",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    *,
    revision: str | None = None,
    allow_pickle: bool = True,
    download: bool = True,
    on_fetch: OnFetch | None = None,
    resize: Resize = "checkpoint",
) -> Backbone:
    """Loads a backbone, frozen.

    With precision "bf16" the linear layers have weights in bfloat16 and compute in it. Everything else is fp32: norms, the sum of
    the layers' outputs, softmax, projections. "auto" is bf16 where that is faster: on a GPU or CPU that supports it, for layers
    at least 512 wide.

    Args:
        name: `tiny`, a checkpoint folder, a file of weights (OpenAI's .pt, open_clip's, a single .safetensors), or a Hugging Face
            id, also as `id@revision`. Only an id may use the network.
        device: "auto" or a device of torch.
        precision: the precision of the layers' computation.
        revision: the branch, tag, pull request or commit of a Hugging Face id.
        allow_pickle: whether pickled weights may be read if a checkpoint has no others; only tensors are read, no code runs.
        download: whether files that the local cache lacks may be fetched from the hub.
        on_fetch: follows downloads: file name, megabytes fetched, total megabytes.
        resize: policy that makes images square, instead of the checkpoint's rule.

    Returns:
        The backbone in eval mode; its parameters need no gradients.

    Raises:
        DplError: there is no such checkpoint, it is not a CLIP, its preprocessing is not supported, or a file of it is missing,
            broken or not allowed.

    Example:
        >>> import dpl
        >>> backbone = dpl.load_backbone("tiny")
        >>> backbone.image_size, backbone.image.depth, backbone.text.depth
        (48, 6, 6)
    """
    source = open_source(str(TINY) if name == "tiny" else name, revision, download, on_fetch)
    found = read_checkpoint(source, allow_pickle)
    check_pooling(found.label, found.config, found.tokenizer)
    vision: Any = found.config.vision_config
    try:
        preprocessing = read_preprocessing(found.preprocessor, vision.image_size, resize)
    except DplError as error:
        raise DplError(f"backbone {found.label}: preprocessor_config.json: {error}") from None
    clip, place = build(found.label, found.config), find_device(device)
    precision = find_precision(precision, place, vision.hidden_size)
    narrow = linear_parameters(clip) if precision == "bf16" else frozenset()
    digests, notes = fill(found.label, clip, found.tensors, Placement(place, narrow))
    torch.nn.Module.to(clip, place)  # the buffers
    weights, half = digests.joined()
    return Backbone(
        name=name.removeprefix("hf-hub:").partition("@")[0] if found.commit else name,
        clip=clip,
        tokenizer=found.tokenizer,
        preprocessing=preprocessing,
        image=Branch("image", clip.vision_model),
        text=Branch("text", clip.text_model),
        identity=Identity(
            weights=weights,
            half=half,
            function=digest(function_settings(found.config)),
            tokenizer=tokenizer_digest(found.tokenizer),
        ),
        precision=precision,
        commit=found.commit,
        notes=(*found.notes, *notes),
    )
