"""The run folder: creating, reading, saving and loading runs."""

import hashlib
import json
import math
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import Tensor

from dpl.backbones.choices import PrecisionChoice, Resize
from dpl.backbones.identity import ROUNDING, first_fingerprint
from dpl.backbones.loading import Backbone, announce, load_backbone
from dpl.backbones.preprocessing import Preprocessing
from dpl.config import RunConfig, command, from_dict
from dpl.data.fewshot import FewShot
from dpl.data.paths import shown
from dpl.data.task import Item, Task
from dpl.data.templates import check_template
from dpl.heads import Head, HeadSettings
from dpl.methods import KINDS, kind_of, method_spec, run_settings
from dpl.methods.method import Method
from dpl.prompts.layout import PromptLayout
from dpl.utils.errors import DplError
from dpl.utils.files import read_json, write_bytes, write_json, write_text
from dpl.utils.validation import validated

LIBRARY = "library"
"""The kind of a run folder that `save_run` has written."""
ANY_RESIZE: Resize = "crop"
"""The resize policy to load the backbone of a run with; the run's own preprocessing replaces it, so any checkpoint will do."""
_PARAMETERS, _CLASS_FEATURES = "prompts.safetensors", "class_features.safetensors"
_HEAD = "head.safetensors"
_FOUND = Path("checkpoint", "found.safetensors")
_FILES = (
    "layout.json",
    _PARAMETERS,
    _HEAD,
    _CLASS_FEATURES,
    "metrics.json",
    "explanation.json",
    "explanation.safetensors",
    "history.jsonl",
    "report.html",
    "explain.html",
    "config.json",
)


def check_new(run: Path, overwrite: bool) -> None:
    """Checks that `run` can become a run folder without loss of other files.

    Args:
        run: the folder; it need not exist.
        overwrite: whether a run in it may be replaced.

    Raises:
        DplError: `run` is a file, holds other files than a run, or holds a run and `overwrite` is false.
    """
    if not run.exists():
        return
    if not run.is_dir():
        raise DplError(f"{run}: is a file; give another --out")
    if not any(run.iterdir()):
        return
    if not is_run(run):
        raise DplError(f"{run}: holds other files than a run; give another --out")
    if not overwrite:
        raise DplError(f"{run}: holds a run already; give another --out, go on with --resume {run}, or add --overwrite")


def is_run(run: Path) -> bool:
    """Whether `run` has the config.json of a run of dpl."""
    try:
        config = read_json(run / "config.json")
    except DplError:
        return False
    return isinstance(config, dict) and {"dpl", "task", "backbone"} <= set(config)


def create(run: Path, config: RunConfig, task: Task, shots: FewShot, backbone: Backbone) -> None:
    """Makes `run` a new run folder with its config.json; removes the files of a former run in it.

    Raises:
        DplError: the folder cannot be made.
    """
    _make(run)
    kind = kind_of(config)
    write_json(
        run / "config.json",
        {
            **_describe(backbone, config.method, task.name, task.class_names, task.templates),
            "kind": kind,
            "data": config.data,
            "test_images": len(task.test),
            "shots": {"train": item_names(shots.train), "val": item_names(shots.val)},
            "settings": plain_settings(config),
            "versions": {"python": platform.python_version(), "torch": version("torch"), "transformers": version("transformers")},
            "command": command(kind, config),
        },
    )


def _make(run: Path) -> None:
    """Makes the folder, without the files of a former run."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DplError(f"{run}: cannot be made ({error.strerror}); give another --out") from None
    for name in _FILES:
        (run / name).unlink(missing_ok=True)
    shutil.rmtree(run / "checkpoint", ignore_errors=True)


def plain_settings(config: RunConfig) -> dict[str, Any]:
    """Returns the settings as values for JSON; paths become strings."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}


def _describe(backbone: Backbone, method: str, task: str, class_names: Sequence[str], templates: Sequence[str]) -> dict[str, Any]:
    """The part of config.json that `load_run` needs."""
    return {
        "dpl": version("differentiable-prompt-learning"),
        "method": method,
        "task": {"name": task, "class_names": class_names, "templates": templates},
        "backbone": {
            "name": str(Path(backbone.name).resolve()) if Path(backbone.name).exists() else backbone.name,
            "commit": backbone.commit,
            "fingerprint": backbone.fingerprint,
            "identity": asdict(backbone.identity),
            "image_size": backbone.image_size,
            "preprocessing": asdict(backbone.preprocessing),
            "precision": backbone.precision,
            "layers": {"image": backbone.image.depth, "text": backbone.text.depth},
            "width": {"image": backbone.image.width, "text": backbone.text.width},
        },
    }


def item_names(items: Sequence[Item]) -> list[str]:
    """Returns the names of the images, as config.json keeps them."""
    return [item.name for item in items]


def read_config(run: Path) -> dict[str, Any]:
    """Reads the config.json of a run.

    Raises:
        DplError: `run` is not a run folder.
    """
    if not run.is_dir():
        raise DplError(f"{run}: no such run folder")
    if not is_run(run):
        raise DplError(f"{run}: is not a run folder (no config.json of dpl in it)")
    return read_json(run / "config.json")


def settings_of(run: Path) -> RunConfig:
    """Reads the settings that `run` was made with; a model that `save_run` has written without any has the defaults.

    Raises:
        DplError: `run` is not a run folder, or a setting is out of range.
    """
    config = read_config(run)
    kind: str = config["kind"] if config.get("kind") in KINDS else "fit"
    return from_dict(run_settings(kind, config["method"]), config.get("settings", {"data": "", "method": config["method"]}))


def check_resumable(run: Path) -> None:
    """Checks that `run` was begun by a command.

    Raises:
        DplError: `run` is no run folder, or was not made by dpl fit, search or train.
    """
    if read_config(run).get("kind") not in KINDS:
        raise DplError(f"{run}: was not made by dpl fit, search or train; there is nothing to go on with")


def check_backbone(run: Path, backbone: Backbone) -> tuple[str, ...]:
    """Checks that `run` was made with this backbone: its weights, activation, heads, pooling, preprocessing and tokenizer.

    Returns:
        Notes for the user: the weights are the same in another rounding, or the run is too old for a complete check.

    Raises:
        DplError: the run was made with another backbone; the message names the differences.
    """
    made_with = read_config(run)["backbone"]
    made = f"{run}: was made with backbone {made_with['name']}"
    if "identity" not in made_with:
        if made_with["fingerprint"] != first_fingerprint(backbone.clip):
            raise DplError(f"{made}, whose weights differ from those of {backbone.name}")
        part = "covers a part of the backbone's weights only; that all are the same cannot be checked"
        return (f"{run}: was written by an earlier dpl, whose fingerprint {part}",)
    differences = backbone.identity.differences(made_with["identity"])
    if differences == [ROUNDING]:
        return (f"{made}; the weights of {backbone.name} are the same in another rounding (fp16 or fp32)",)
    if differences:
        raise DplError(f"{made}, whose {' and '.join(differences)} differ from those of {backbone.name}")
    return ()


def with_own_preprocessing(run: Path, backbone: Backbone) -> Backbone:
    """Returns `backbone` with the preprocessing that `run` was made with.

    Old runs do not store it. They used a fixed one: the shortest side is resized with a bicubic filter, and the centre is
    cropped.

    Raises:
        DplError: the stored preprocessing cannot be read.
    """
    kept = read_config(run)["backbone"].get("preprocessing")
    if kept:
        own = validated(Preprocessing, kept, f"{run / 'config.json'}: preprocessing")
    else:
        own = replace(backbone.preprocessing.with_resize("crop"), resample="bicubic")
    return backbone if own == backbone.preprocessing else replace(backbone, preprocessing=own)


def save_run(
    run: Path | str,
    model: Method,
    about: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    *,
    overwrite: bool = False,
) -> None:
    """Writes a trained method as a run folder that `load_run`, `dpl predict` and `dpl report` read.

    Args:
        run: the folder.
        model: the trained method.
        about: further entries of config.json, such as "settings".
        history: the records of the training, one per epoch.
        overwrite: replace a run in the folder.

    Raises:
        DplError: `run` is a file or not empty, or cannot be written.

    Example:
        >>> import dpl
        >>> backbone = dpl.load_backbone("tiny")
        >>> design = dpl.DplConfig(dpl.PromptLayout.uniform(1, backbone.image.depth, backbone.text.depth))
        >>> dpl.save_run("runs/saved", dpl.Dpl(backbone, ["cat", "dog"], ["a photo of a {}."], design))
    """
    run = Path(run)
    check_new(run, overwrite)
    _make(run)
    described = _describe(model.backbone, model.name, run.name, model.class_names, model.templates)
    write_json(run / "config.json", {**described, "kind": LIBRARY, **(about or {})})
    save_layout(run, model.layout)
    save_head(run, model)
    save_parameters(run, model)
    save_class_features(run, model)
    write_text(run / "history.jsonl", "".join(f"{json.dumps(record, allow_nan=False)}\n" for record in history))


def save_layout(run: Path, layout: PromptLayout) -> None:
    """Writes layout.json."""
    write_text(run / "layout.json", layout.to_json() + "\n")


@dataclass(frozen=True)
class FoundInRun:
    """A `SearchStore` in a run folder: layout.json marks the search as finished; the prompts stay until the run is finished."""

    run: Path

    def layout(self) -> PromptLayout | None:
        """Reads the layout; None if there is none yet."""
        path = self.run / "layout.json"
        return PromptLayout.load(path) if path.exists() else None

    def prompts(self) -> Mapping[str, Tensor]:
        """Reads the prompts that the search has learned."""
        return load_file(self.run / _FOUND)

    def save(self, layout: PromptLayout, prompts: Mapping[str, Tensor]) -> None:
        """Writes the prompts and then the layout."""
        (self.run / "checkpoint").mkdir(exist_ok=True)
        write_bytes(self.run / _FOUND, serialized({key: tensor.cpu().contiguous() for key, tensor in prompts.items()}))
        save_layout(self.run, layout)


def save_parameters(run: Path, model: Method) -> None:
    """Writes prompts.safetensors: the learned parameters only.

    Its header holds, as JSON, the method's name, design and scalars, from which `load_run` builds the method again.
    """
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    design = asdict(model.design) if model.design else {}
    header = {"method": model.name, "design": design, "scalars": dict(model.scalars)}
    # A single entry, because safetensors writes several in an order that varies between processes.
    write_bytes(run / _PARAMETERS, serialized(tensors, metadata={"dpl": json.dumps(header)}))


def save_head(run: Path, model: Method) -> None:
    """Writes head.safetensors, with the settings of the head as JSON in its header; removes it if the model has no head."""
    if model.head is None:
        (run / _HEAD).unlink(missing_ok=True)
        return
    tensors = {"residual": model.head.residual.cpu().contiguous()}
    write_bytes(run / _HEAD, serialized(tensors, metadata={"dpl": json.dumps(asdict(model.head.settings))}))


def _read_head(run: Path, model: Method) -> Head | None:
    """Reads the head of a run; None if it has none.

    Raises:
        DplError: the file cannot be read or does not fit the model.
    """
    if not (run / _HEAD).exists():
        return None
    try:
        with safe_open(run / _HEAD, framework="pt") as file:
            settings = validated(HeadSettings, json.loads((file.metadata() or {})["dpl"]), "settings")
            residual = _finite({"residual": file.get_tensor("residual")})["residual"]
        shape = (len(model.class_names), model.backbone.clip.visual_projection.out_features)
        if residual.shape != shape or residual.dtype != torch.float32:
            raise ValueError(f"must be {shape[0]} x {shape[1]} in float32")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DplError(f"{run / _HEAD}: does not fit the run ({str(error).splitlines()[0]})") from None
    return Head(residual.to(model.backbone.device), settings)


@torch.no_grad()
def save_class_features(run: Path, model: Method) -> Float[Tensor, "classes dim"]:
    """Computes the class embeddings and writes them to class_features.safetensors, with a digest of their sources.

    Returns:
        The class embeddings, of unit length.
    """
    features = model.text_features()
    stored = features.float().cpu().contiguous()
    header = json.dumps({"sources": _sources(run, model), "content": _digest(stored)})
    write_bytes(run / _CLASS_FEATURES, serialized({"class_features": stored}, metadata={"dpl": header}))
    return features


@torch.no_grad()
def class_features(run: Path, model: Method) -> Float[Tensor, "classes dim"]:
    """Returns the class embeddings of `run`.

    They are read from class_features.safetensors. If that is missing or damaged, or belongs to other parameters, classes,
    templates or another backbone, they are computed.
    """
    try:
        with safe_open(run / _CLASS_FEATURES, framework="pt") as file:
            header = json.loads((file.metadata() or {})["dpl"])
            if header["sources"] == _sources(run, model):
                stored = file.get_tensor("class_features")
                if header["content"] == _digest(stored):
                    return stored.to(model.backbone.device)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        pass
    return model.text_features()


def _digest(tensor: Tensor) -> str:
    """SHA-256 of the dtype, the shape and the bytes of a tensor on the CPU."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _sources(run: Path, model: Method) -> str:
    """SHA-256 of the sources of the class embeddings. It does not cover the precision: embeddings of another one are reused."""
    digest = hashlib.sha256((run / _PARAMETERS).read_bytes())
    digest.update(json.dumps([model.class_names, model.templates, model.backbone.fingerprint]).encode())
    return digest.hexdigest()


def load_run(
    run: Path | str,
    backbone: str | Backbone | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    *,
    revision: str | None = None,
    allow_pickle: bool = True,
    download: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Method:
    """Loads the trained method of a run folder; needs the folder and the backbone only. Keeps the preprocessing of the run.

    Args:
        run: the run folder.
        backbone: the loaded backbone, or its new path or name if it moved; none: the one that the run names.
        device, precision, revision, allow_pickle, download: as for `load_backbone`; by default a backbone of the hub is loaded
            at the run's commit.
        say: receives notes for the user, for example about reading pickled weights.

    Returns:
        The method, in eval mode.

    Raises:
        DplError: `run` is no run folder, is not trained (yet), does not fit its files, or was made with another backbone.

    Example:
        >>> import dpl
        >>> backbone = dpl.load_backbone("tiny")
        >>> design = dpl.DplConfig(dpl.PromptLayout.uniform(1, backbone.image.depth, backbone.text.depth))
        >>> dpl.save_run("runs/kept", dpl.Dpl(backbone, ["cat", "dog"], ["a photo of a {}."], design))
        >>> dpl.load_run("runs/kept", backbone).class_names
        ('cat', 'dog')
    """
    run = Path(run)
    config = read_config(run)
    if not (run / _PARAMETERS).is_file():
        raise DplError(f"{run}: has no trained prompts; finish it with dpl fit --resume {run}, or use dpl train")
    if isinstance(backbone, Backbone):
        loaded = backbone
    else:
        made_with = config["backbone"]
        loaded = load_backbone(
            backbone or made_with["name"],
            device,
            precision,
            revision=revision or (None if backbone else made_with.get("commit")),
            allow_pickle=allow_pickle,
            download=download,
            on_fetch=announce(say),
            resize=ANY_RESIZE,
        )
        for note in loaded.notes:
            say(note)
    for note in check_backbone(run, loaded):
        say(note)
    loaded = with_own_preprocessing(run, loaded)
    try:
        with safe_open(run / _PARAMETERS, framework="pt") as file:
            header = json.loads((file.metadata() or {})["dpl"])
        method, task = method_spec(header["method"]).load(), config["task"]
        for template in task["templates"]:
            check_template(template, f"{run / 'config.json'}: template {shown(template[:80])!r}")
        design = validated(method.Config, header["design"], f"{run / _PARAMETERS}: design")
        model = method(loaded, task["class_names"], task["templates"], design)
        model.load_state_dict(_finite(load_file(run / _PARAMETERS)))
        model.scalars = {name: _finite_number(name, value) for name, value in header["scalars"].items()}
        if PromptLayout.load(run / "layout.json") != model.layout:
            raise ValueError("layout.json has another layout")
    except DplError:
        raise
    except (SafetensorError, RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise DplError(f"{run / _PARAMETERS}: does not fit the run ({str(error).splitlines()[0]})") from None
    model.head = _read_head(run, model)
    return model.eval()


def _finite(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns `tensors`; `ValueError` if one holds a number that is not finite."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")
    return tensors


def _finite_number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a finite number")
    return value
