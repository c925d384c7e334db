"""Loads a CLIP checkpoint: the embedded `tiny`, a folder, or a Hugging Face id. All three end as one folder, read one way."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, CLIPModel, PreTrainedTokenizerBase
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from dpl.backbones.branch import Branch
from dpl.errors import DplError

Precision = Literal["fp32", "bf16"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]
TINY = Path(__file__).parent / "tiny"
_CHECKPOINT_FILES = ["*.json", "*.txt", "*.safetensors"]  # never *.bin: pickles can run code


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen CLIP in eval mode and what belongs to it.

    `mean` and `std` normalise RGB in 0..1; `image_size` is in pixels; `fingerprint` tells checkpoints apart.
    `precision` is what the layers compute in.
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
    precision: Precision = "fp32"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.clip.device

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of every text up to the one that the text branch pools at, its first EOS; nothing is padded.

        Raises `DplError` for a text that does not fit the backbone's positions, rather than cutting its end off.
        """
        config: Any = self.clip.text_model.config
        rows: list[list[int]] = self.tokenizer(list(texts), verbose=False)["input_ids"]
        for text, row in zip(texts, rows, strict=True):
            if len(row) > config.max_position_embeddings:
                fits = f"{self.name} reads {config.max_position_embeddings}; shorten the class name or template"
                raise DplError(f"{text!r}: {len(row)} tokens, {fits}")
        # As transformers' CLIPTextModel pools: configs of before its fix have 2 for EOS, and mean the highest id.
        return [row[: row.index(max(row) if config.eos_token_id == 2 else config.eos_token_id) + 1] for row in rows]

    def autocast(self) -> torch.autocast:
        """Inside, the layers compute in this backbone's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def image_features(self, pixels: Float[Tensor, "images 3 size size"]) -> Float[Tensor, "images dim"]:
        """Projected image embeddings of normalised pixels, fp32, not of unit length."""
        model = self.clip.vision_model
        with self.autocast():
            hidden = model.pre_layrnorm(model.embeddings(pixels))
            cls = torch.zeros(1, dtype=torch.long, device=pixels.device)
            pooled = model.post_layernorm(self.image.read(hidden, cls)[:, 0])
        projection = self.clip.visual_projection
        return projection(pooled.to(projection.weight.dtype))


def load_backbone(name: str = "tiny", device: str = "auto", precision: PrecisionChoice = "auto") -> Backbone:
    """Loads `tiny`, a checkpoint folder or a Hugging Face id, frozen; only an id may use the network.

    With precision "bf16" the weights of linear layers are kept in bfloat16 and computed with in it; all else is fp32: norms,
    the sum of the layers' outputs, softmax, projections. "auto" is bf16 where that is faster: on a GPU or CPU that has it, for
    layers at least 512 wide. Raises `DplError` where there is no such checkpoint, it is not a CLIP,
    or its weights are missing or not safetensors.
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
    fingerprint = _fingerprint(clip)
    if precision == "auto":
        precision = "bf16" if _is_faster_in_bf16(clip) else "fp32"
    if precision == "bf16":
        linear_layers_to_bfloat16(clip)
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
        fingerprint=fingerprint,
        precision=precision,
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


def _is_faster_in_bf16(clip: CLIPModel) -> bool:
    """Measured: ViT-B/16 (width 768) gains, `tiny` (128) loses (docs/performance.md)."""
    vision: Any = clip.config.vision_config
    if vision.hidden_size < 512:
        return False
    if clip.device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return clip.device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def linear_layers_to_bfloat16(clip: CLIPModel) -> None:
    """Once, here: autocast would cast frozen weights anew in every call."""
    for branch in (clip.vision_model, clip.text_model):
        for module in branch.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                torch.nn.Module.to(module, torch.bfloat16)


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
