"""Random-weight CLIPs of the true shapes, without a download, and made-up classes for them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from dpl.backbones.branch import Branch
from dpl.backbones.choices import Precision
from dpl.backbones.clip import linear_layers_to_bfloat16
from dpl.backbones.formats import clip_tokenizer
from dpl.backbones.formats.hugging_face import preprocessor_config
from dpl.backbones.identity import Identity
from dpl.backbones.loading import Backbone
from dpl.backbones.preprocessing import Preprocessing
from dpl.backbones.quick_gelu import replace_quick_gelu
from dpl.utils.files import write_json

TEMPLATE = "a photo of a {}."
OPENING = 5  # BOS and the template's four tokens
NAME_LENGTHS = (3, 4, 5)  # tokens of a class name, in turn


@dataclass(frozen=True)
class BranchShape:
    """One transformer; its MLP is four times as wide."""

    width: int
    layers: int
    heads: int

    @property
    def mlp(self) -> int:
        """Width inside the MLP."""
        return 4 * self.width


@dataclass(frozen=True)
class ClipShape:
    """A CLIP: `patch` and `size` in pixels, `positions` in tokens."""

    image: BranchShape
    text: BranchShape
    projection: int
    patch: int
    size: int = 224
    vocabulary: int = 49408
    positions: int = 77

    @property
    def patches(self) -> int:
        """Patches of an image; its tokens are one more."""
        return (self.size // self.patch) ** 2


SHAPES = {
    "vit-b/16": ClipShape(BranchShape(768, 12, 12), BranchShape(512, 12, 8), projection=512, patch=16),
    "vit-l/14": ClipShape(BranchShape(1024, 24, 16), BranchShape(768, 12, 12), projection=768, patch=14),
    "vit-l/14-336": ClipShape(BranchShape(1024, 24, 16), BranchShape(768, 12, 12), projection=768, patch=14, size=336),
    # For the tests and for trying a command out.
    "tiny": ClipShape(BranchShape(32, 3, 4), BranchShape(24, 2, 3), 20, patch=8, size=16, vocabulary=128, positions=16),
}


def class_names(count: int) -> list[str]:
    """`count` different names of 3, 4 and 5 made-up words in turn; one word is one token."""
    lengths = (NAME_LENGTHS[index % len(NAME_LENGTHS)] for index in range(count))
    return [" ".join(f"n{(index + word) % count}" for word in range(length)) for index, length in enumerate(lengths)]


def sentence_lengths(classes: int) -> list[int]:
    """Tokens of every class's sentence: the opening, the name, "." and EOS."""
    return [OPENING + NAME_LENGTHS[index % len(NAME_LENGTHS)] + 2 for index in range(classes)]


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Every word, and the full stop, is one token, between BOS and EOS, the last two of the vocabulary."""
    words = [".", "a", "of", "photo", *(f"n{number}" for number in range(vocabulary - 6))]
    ids = {word: index for index, word in enumerate([*words, "<bos>", "<eos>"])}
    tokenizer = Tokenizer(models.WordLevel(ids))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(word, ids[word]) for word in ("<bos>", "<eos>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")


def random_backbone(
    shape: ClipShape, precision: Precision = "fp32", device: str | torch.device = "cpu", seed: int = 1
) -> Backbone:
    """A frozen CLIP of this shape with random weights, read by `word_tokenizer`, as `load_backbone` would give it."""
    with torch.device("meta"):  # no memory is ever used for weights of another precision
        clip = CLIPModel._from_config(_config(shape), attn_implementation="sdpa", dtype=torch.float32)
    clip = clip.eval().requires_grad_(False)
    replace_quick_gelu(clip)
    if precision == "bf16":
        linear_layers_to_bfloat16(clip)
    torch.nn.Module.to_empty(clip, device=device)
    _randomise(clip, torch.Generator(device).manual_seed(seed))
    return Backbone(
        name="random",
        clip=clip,
        tokenizer=word_tokenizer(shape.vocabulary),
        preprocessing=Preprocessing(shape.size, shape.size),
        image=Branch("image", clip.vision_model),
        text=Branch("text", clip.text_model),
        identity=Identity("random", "", "", ""),
        precision=precision,
    )


def write_checkpoint(shape: ClipShape, folder: Path, seed: int = 1) -> None:
    """Writes a checkpoint folder of this shape: random weights, CLIP's tokenizer and preprocessing."""
    random_backbone(shape, seed=seed).clip.save_pretrained(folder)
    clip_tokenizer(shape.positions).save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", preprocessor_config(shape.size))


def random_batch(shape: ClipShape, images: int, classes: int, device: torch.device, seed: int) -> tuple[Tensor, Tensor]:
    """uint8 pixels of `images` images, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (images, 3, shape.size, shape.size), generator=generator, dtype=torch.uint8)
    return pixels.to(device), torch.randint(0, classes, (images,), generator=generator).to(device)


def _config(shape: ClipShape) -> CLIPConfig:
    def sizes(branch: BranchShape) -> dict[str, Any]:
        names = {"hidden_size": branch.width, "intermediate_size": branch.mlp, "num_hidden_layers": branch.layers}
        return {**names, "num_attention_heads": branch.heads, "hidden_act": "quick_gelu"}

    bos, eos = shape.vocabulary - 2, shape.vocabulary - 1
    text = {"vocab_size": shape.vocabulary, "max_position_embeddings": shape.positions, "bos_token_id": bos, "eos_token_id": eos}
    vision = {"image_size": shape.size, "patch_size": shape.patch}
    return CLIPConfig(
        text_config={**sizes(shape.text), **text, "pad_token_id": eos},
        vision_config={**sizes(shape.image), **vision},
        projection_dim=shape.projection,
    )


@torch.no_grad()
def _randomise(clip: CLIPModel, generator: torch.Generator) -> None:
    """Weights of ordinary size, so that nothing grows or dies out over the layers; in place."""
    for name, weight in clip.named_parameters():
        if name == "logit_scale":
            weight.fill_(100.0).log_()
        elif weight.dim() < 2 and "class_embedding" not in name:
            weight.normal_(generator=generator).mul_(0.02).add_(float(name.endswith("weight")))  # norms and biases
        elif "embedding" in name and "patch" not in name:
            weight.normal_(generator=generator).mul_(0.5)
        else:
            weight.normal_(generator=generator).mul_(weight[0].numel() ** -0.5)
    for embeddings in (clip.vision_model.embeddings, clip.text_model.embeddings):
        positions = cast(Tensor, embeddings.position_ids)
        positions.copy_(torch.arange(positions.shape[-1], device=positions.device).expand_as(positions))
