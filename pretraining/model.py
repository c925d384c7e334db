"""The backbone's shape, its tokenizer, and publishing both as an ordinary Hugging Face checkpoint folder."""

import json
import math
import random
import tempfile
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from pretraining import captions, render

TINY = Path(__file__).parent.parent / "src/dpl/backbones/tiny"
CONTEXT = 32
START, END = "<|startoftext|>", "<|endoftext|>"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI CLIP's
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": render.SIZE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": render.SIZE, "width": render.SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(MEAN),
    "image_std": list(STD),
    "do_convert_rgb": True,
}


def build_tokenizer(samples: int = 20000) -> CLIPTokenizer:
    """The tokenizer of `tiny`, whose merges are learnt from its captions."""
    g = render.generator(0, 7)
    rng = random.Random(7)
    return learn_tokenizer([captions.caption(row, rng)[0] for row in render.draw_attributes(g, samples).tolist()], 700, 20)


def learn_tokenizer(corpus: list[str], vocabulary_size: int, min_frequency: int) -> CLIPTokenizer:
    """A CLIP tokenizer (lower case, byte-level BPE with </w>) whose merges are learnt from a corpus.

    All 256 bytes are in it, alone and ending a word, so any class name can be written; the end token has the largest id.
    """
    bpe = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    split = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(split, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, min_frequency=min_frequency, show_progress=False, end_of_word_suffix="</w>"
    )
    bpe.train_from_iterator(corpus, trainer)
    learnt = json.loads(bpe.to_str())["model"]
    merges: list = [tuple(pair) for pair in learnt["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"{byte}</w>" for byte in alphabet), *("".join(pair) for pair in merges), START, END]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)


def tiny_config(tokenizer: CLIPTokenizer, width: int = 128, layers: int = 6) -> CLIPConfig:
    """48-pixel images in patches of 8, `layers` layers a branch, heads of 32."""
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT,
    }
    branch = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "hidden_act": "gelu",
        "projection_dim": 128,
    }
    vision = branch | {"image_size": render.SIZE, "patch_size": 8}
    return CLIPConfig(text_config=branch | ids, vision_config=vision, projection_dim=128)


def sine_positions(side: int, width: int) -> torch.Tensor:
    """Sines and cosines of a side x side grid's rows and columns, [side * side, width] (as Vaswani et al. 2017)."""
    waves = 1.0 / 100 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * waves
    line = torch.cat([angles.sin(), angles.cos()], 1)
    return torch.cat([line.repeat_interleave(side, 0), line.repeat(side, 1)], 1)


def new_model(config: CLIPConfig) -> CLIPModel:
    """Fresh weights. The positions of patches start as sines of about the patches' own size, not as CLIP's draws of 0.02.

    Beside those a patch's embedding is some ten times larger, and textures are learnt long before the first shape.
    """
    model = CLIPModel(config)
    with torch.no_grad():
        positions = model.vision_model.embeddings.position_embedding.weight
        side = math.isqrt(len(positions) - 1)
        positions[1:] = 0.4 * sine_positions(side, positions.shape[1])
    return model


def normalise(images: torch.Tensor) -> torch.Tensor:
    """[0, 1] -> what the vision branch takes."""
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def publish(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path = TINY) -> None:
    """Write the checkpoint next to `folder` and rename its files into it, so that no reader sees half a file."""
    side = model.vision_model.config.image_size
    preprocessor = PREPROCESSOR | {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        (Path(staging) / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
        for file in Path(staging).iterdir():
            file.chmod(0o644)
            file.replace(folder / file.name)
