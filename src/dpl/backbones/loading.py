"""Loads a CLIP checkpoint: the embedded `tiny`, a folder, or a Hugging Face id. All three end as one folder, read one way."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, CLIPModel, PreTrainedTokenizerBase
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from dpl.backbones.branch import Branch
from dpl.errors import DplError

TINY = Path(__file__).parent / "tiny"
_CHECKPOINT_FILES = ["*.json", "*.txt", "*.safetensors"]  # never *.bin: pickles can run code


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen CLIP in eval mode and what belongs to it.

    `mean` and `std` normalise RGB in 0..1; `image_size` is in pixels; `fingerprint` tells checkpoints apart.
    """

    name: str
    clip: CLIPModel
    tokenizer: PreTrainedTokenizerBase
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image: Branch
    text: Branch
    fingerprint: str

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.clip.device

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "texts tokens"]:
        """Token ids, padded to the longest text only: a causal branch pooled at EOS never sees what comes after.

        Raises `DplError` for a text that does not fit the backbone's positions, rather than cutting its end off.
        """
        limit = self.clip.text_model.config.max_position_embeddings
        ids = self.tokenizer(list(texts), padding=True, return_tensors="pt", verbose=False)["input_ids"]
        if ids.shape[1] > limit:
            lengths = [len(self.tokenizer(text, verbose=False)["input_ids"]) for text in texts]
            longest = texts[lengths.index(max(lengths))]
            raise DplError(f"{longest!r}: {max(lengths)} tokens, {self.name} reads {limit}; shorten the class name or template")
        return ids.to(self.device)

    def image_features(self, pixels: Float[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Projected image embeddings of normalised pixels, not of unit length."""
        return self.clip.visual_projection(self.clip.vision_model(pixel_values=pixels).pooler_output)

    def text_features(self, ids: Int[Tensor, "texts tokens"]) -> Float[Tensor, "texts dim"]:
        """Projected text embeddings, not of unit length."""
        return self.clip.text_projection(self.clip.text_model(input_ids=ids).pooler_output)


def load_backbone(name: str = "tiny", device: str = "auto") -> Backbone:
    """Loads `tiny`, a checkpoint folder or a Hugging Face id, fp32, frozen; only an id may use the network.

    Raises `DplError` where there is no such checkpoint, it is not a CLIP, or its weights are missing or not safetensors.
    """
    folder = _folder(name)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise DplError(f"backbone {name}: {folder}/config.json cannot be read ({_first_line(error)})") from None
    if config.model_type != "clip" or not hasattr(config, "vision_config"):
        raise DplError(f"backbone {name}: is a {config.model_type!r} checkpoint, not a CLIP with both branches")
    if not any(folder.glob("*.safetensors")):
        raise DplError(f"backbone {name}: {folder} has no *.safetensors weights; pickled ones are never loaded, convert them")
    clip = _load_weights(name, folder).eval().requires_grad_(False)
    torch.nn.Module.to(clip, _device(device))
    mean, std = _normalisation(folder)
    vision: Any = clip.vision_model.config
    return Backbone(
        name=name,
        clip=clip,
        tokenizer=_load_tokenizer(name, folder),
        image_size=vision.image_size,
        mean=mean,
        std=std,
        image=Branch("image", clip.vision_model),
        text=Branch("text", clip.text_model),
        fingerprint=_fingerprint(clip),
    )


def _folder(name: str) -> Path:
    """The folder of the checkpoint; a Hugging Face id is fetched into the hub's cache first."""
    if name == "tiny":
        return TINY
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise DplError(f"backbone {name}: neither tiny, nor a folder, nor a Hugging Face id like openai/clip-vit-base-patch16")
    try:
        return Path(snapshot_download(name, allow_patterns=_CHECKPOINT_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise DplError(
            f"backbone {name}: no such folder here, and the Hugging Face hub did not give it"
            f" ({_first_line(error)}); check the id and the network, or give a checkpoint folder"
        ) from None


def _load_weights(name: str, folder: Path) -> CLIPModel:
    try:
        loaded: Any = CLIPModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DplError(f"backbone {name}: the weights in {folder} cannot be read ({_first_line(error)})") from None
    clip, info = loaded
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise DplError(f"backbone {name}: {len(missing)} weights are missing in {folder}, the first is {missing[0]}")
    return clip


def _load_tokenizer(name: str, folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DplError(f"backbone {name}: the tokenizer in {folder} cannot be read ({_first_line(error)})") from None


def _normalisation(folder: Path) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std of the checkpoint's preprocessor, CLIP's own where it names none."""
    settings: dict = {}
    for file in (folder / "preprocessor_config.json", folder / "processor_config.json"):
        if file.is_file():
            settings = json.loads(file.read_text())
            settings = settings.get("image_processor", settings)
            break
    red, green, blue = settings.get("image_mean", OPENAI_CLIP_MEAN)
    red_std, green_std, blue_std = settings.get("image_std", OPENAI_CLIP_STD)
    return (red, green, blue), (red_std, green_std, blue_std)


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise DplError(f"device {device}: not available here ({_first_line(error)}); use auto or cpu") from None


def _fingerprint(clip: CLIPModel) -> str:
    """SHA-256 over the shapes of all weights and the bytes of the projections and of the last norms: quick and telling."""
    digest = hashlib.sha256()
    for key, weight in sorted(clip.state_dict().items()):
        digest.update(f"{key}{tuple(weight.shape)}".encode())
        if "projection" in key or "post_layernorm" in key or "final_layer_norm" in key or key == "logit_scale":
            digest.update(weight.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
