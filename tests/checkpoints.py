"""A whole CLIP checkpoint, random and tiny, and a folder of images to go with it: for tests of everything above the prompts."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

SIZE, POSITIONS = 16, 40
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
COLOURS = {"green": (30, 200, 30), "red": (200, 30, 30), "dark_blue": (30, 30, 200)}


def save_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Writes a random CLIP (2 layers a branch, 16 px, patch 8), its tokenizer and preprocessor to `folder`."""
    tokenizer = _tokenizer()
    eos = len(tokenizer) - 1
    text = {"vocab_size": eos + 1, "bos_token_id": eos - 1, "eos_token_id": eos, "pad_token_id": eos}
    text |= {"hidden_size": 24, "intermediate_size": 32, "num_attention_heads": 3, "num_hidden_layers": 2}
    text |= {"max_position_embeddings": POSITIONS}
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2}
    vision |= {"image_size": SIZE, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    bpe.train_from_iterator(["a photo of a dark blue cat."], trainer)
    bpe.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    ends = [(name, bpe.token_to_id(name)) for name in ("<|startoftext|>", "<|endoftext|>")]
    bpe.post_processor = processors.TemplateProcessing(single="<|startoftext|> $A <|endoftext|>", special_tokens=ends)
    names = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, model_max_length=POSITIONS, **names)


def save_images(folder: Path, per_class: int = 20) -> Path:
    """Writes `folder`/colour/0.png ... : noisy squares of one colour per class, split by the program itself."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            pixels = np.clip(np.array(colour) + rng.normal(0, 30, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder
