"""Stand-ins for CLIP repositories of the Hugging Face hub: the same files, config values, keys and dtypes, small widths."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from dpl.backbones.formats import clip_tokenizer
from tests.conftest import randomise

SIZE = 32
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
PREPROCESSOR = {
    "crop_size": SIZE, "do_center_crop": True, "do_normalize": True, "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": MEAN, "image_std": STD, "resample": 3, "size": SIZE,
}  # fmt: skip
_SPECIAL = ("tokenizer_config.json", "special_tokens_map.json")
Save = Callable[[Path, Mapping[str, Tensor]], None]


def safetensors(name: str = "model.safetensors") -> Save:
    return lambda folder, weights: save_file(dict(weights), folder / name, metadata={"format": "pt"})


def pickle(name: str = "pytorch_model.bin", zipped: bool = True) -> Save:
    def save(folder: Path, weights: Mapping[str, Tensor]) -> None:
        torch.save(dict(weights), folder / name, _use_new_zipfile_serialization=zipped)

    return save


def shards(count: int = 2) -> Save:
    def save(folder: Path, weights: Mapping[str, Tensor]) -> None:
        for number in range(count):
            own = {name: weights[name] for name in sorted(weights)[number::count]}
            save_file(own, folder / f"pytorch_model-{number + 1:05}-of-{count:05}.safetensors", metadata={"format": "pt"})

    return save


@dataclass(frozen=True)
class StandIn:
    """One kind of repository."""

    name: str
    save: Save
    text: Mapping[str, Any] = field(default_factory=dict)
    vision: Mapping[str, Any] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)
    """Changes to text_config, vision_config and the rest of config.json."""
    preprocessor: Mapping[str, Any] | None = field(default_factory=lambda: PREPROCESSOR)
    tokenizer: tuple[str, ...] = (
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
        "special_tokens_map.json",
    )
    beside: tuple[str, ...] = ()
    """Files that must not be touched."""
    dtype: torch.dtype = torch.float32
    has_position_ids: bool = True


_OPENAI: dict[str, Any] = {
    "text": {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1, "hidden_act": "quick_gelu"},
    "top": {"text_config_dict": None, "vision_config_dict": {"patch_size": 16}, "initializer_factor": 1.0},
}
_FLAX = ("flax_model.msgpack", "tf_model.h5", "README.md", ".gitattributes")
_GELU: dict[str, Any] = {"text": {"hidden_act": "gelu"}, "vision": {"hidden_act": "gelu"}}
_OPEN_CLIP_FILES = ("open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")

STAND_INS = (
    StandIn("openai/clip-vit-base-patch16", pickle(), **_OPENAI, beside=_FLAX),
    StandIn("openai/clip-vit-base-patch32", pickle(zipped=False), **_OPENAI, beside=_FLAX),
    StandIn("openai/clip-vit-large-patch14", safetensors(), **_OPENAI, beside=(*_FLAX, "pytorch_model.bin")),
    StandIn("openai/clip-vit-large-patch14-336", pickle(), **_OPENAI, beside=_FLAX),
    StandIn(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", safetensors(), **_GELU, beside=("pytorch_model.bin", *_OPEN_CLIP_FILES),
    ),
    StandIn(
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", safetensors(), **_GELU, beside=("pytorch_model.bin", *_OPEN_CLIP_FILES),
        preprocessor=PREPROCESSOR | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    ),
    StandIn("laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", shards(), **_GELU, beside=("pytorch_model.safetensors.index.json.old",)),
    StandIn(
        "facebook/metaclip-b16-fullcc2.5b", pickle(), beside=("metaclip_b16.bin",), has_position_ids=False,
        tokenizer=("vocab.json", "merges.txt", "added_tokens.json", *_SPECIAL),
        top={"transformers.js_config": {"dtype": "fp16"}, "some_unknown_key": [1, 2], "torch_dtype": "float16"},
    ),
    StandIn("facebook/metaclip-h14-fullcc2.5b", safetensors(), dtype=torch.float16, has_position_ids=False),
    StandIn(
        "wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M", safetensors(), tokenizer=("tokenizer.json", "tokenizer_config.json"),
        preprocessor={
            **PREPROCESSOR, "size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}, "do_rescale": True,
            "rescale_factor": 1 / 255, "do_convert_rgb": True, "image_processor_type": "CLIPImageProcessor",
        },
    ),
    StandIn("patrickjohncyh/fashion-clip", safetensors(), **_OPENAI, beside=("pytorch_model.bin", "onnx.tar")),
    StandIn("flax-community/clip-rsicd-v2", pickle(), **_OPENAI, beside=_FLAX, dtype=torch.float16),
)  # fmt: skip


def write(stand_in: StandIn, folder: Path, seed: int = 0) -> CLIPModel:
    """Writes the repository's files to `folder`; returns the model that transformers makes of its config and weights."""
    folder.mkdir(parents=True)
    text = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, **stand_in.text}
    vision = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3, "num_hidden_layers": 2, "image_size": SIZE}
    vision |= {"patch_size": 16, **stand_in.vision}
    top = {"model_type": "clip", "projection_dim": 20, "logit_scale_init_value": 2.6592, **stand_in.top}
    if "vision_config_dict" in top:  # what it says goes first, and the defaults of what it leaves out
        top["vision_config_dict"] = {**vision, **top["vision_config_dict"]}
    settings = {**top, "text_config": text, "vision_config": vision}
    (folder / "config.json").write_text(json.dumps(settings))
    model = CLIPModel(CLIPConfig.from_dict(json.loads(json.dumps(settings)))).eval()
    randomise(model, seed)
    torch.nn.Module.to(model, stand_in.dtype)
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    if stand_in.has_position_ids:
        weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        weights["vision_model.embeddings.position_ids"] = torch.arange((SIZE // 16) ** 2 + 1)[None]
    stand_in.save(folder, weights)
    torch.nn.Module.to(model, torch.float32)
    if stand_in.preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(stand_in.preprocessor))
    _write_tokenizer(folder, stand_in.tokenizer)
    for name in stand_in.beside:
        (folder / name).write_bytes(b"not to be read")
    return model


def _write_tokenizer(folder: Path, names: tuple[str, ...]) -> None:
    tokenizer: Any = clip_tokenizer()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in backend["model"]["merges"]]
    ends = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    settings = {**ends, "add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77}
    contents = {
        "tokenizer.json": tokenizer.backend_tokenizer.to_str(),
        "vocab.json": json.dumps(backend["model"]["vocab"]),
        "merges.txt": "#version: 0.2\n" + "\n".join(merges) + "\n",
        "added_tokens.json": json.dumps({"<|startoftext|>": 49406, "<|endoftext|>": 49407}),
        "special_tokens_map.json": json.dumps(ends),
        "tokenizer_config.json": json.dumps(settings | {"tokenizer_class": "CLIPTokenizer"}),
    }
    for name in names:
        (folder / name).write_text(contents[name], encoding="utf-8")


def into_cache(folder: Path, name: str, cache: Path, commit: str = "0" * 39 + "1") -> None:
    """Lays the files of `folder` out as the hub's client caches the main branch of the repository `name`."""
    place = cache / f"models--{name.replace('/', '--')}"
    for part in ("blobs", "refs", f"snapshots/{commit}"):
        (place / part).mkdir(parents=True)
    (place / "refs/main").write_text(commit)
    for file in folder.iterdir():
        file.rename(place / "blobs" / file.name)
        (place / "snapshots" / commit / file.name).symlink_to(f"../../blobs/{file.name}")
