"""The run folder: what a person or a program needs of a run, and nothing else."""

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from dpl.backbones.loading import Backbone, PrecisionChoice, load_backbone
from dpl.config import RunConfig, SearchRun, TrainRun, command, from_dict
from dpl.data.fewshot import FewShot
from dpl.data.task import Item, Task
from dpl.errors import DplError
from dpl.files import read_json, write_bytes, write_json, write_text
from dpl.methods import method_row
from dpl.methods.method import Method
from dpl.prompts.layout import PromptLayout

_DPL_ONLY: dict[str, type[RunConfig]] = {"search": SearchRun, "train": TrainRun}
KINDS = ("fit", *_DPL_ONLY)
_PARAMETERS = "prompts.safetensors"
_FOUND = Path("checkpoint", "found.safetensors")
_FILES = (
    "layout.json",
    _PARAMETERS,
    "class_features.safetensors",
    "metrics.json",
    "explanation.json",
    "explanation.safetensors",
    "history.jsonl",
    "report.html",
    "explain.html",
    "config.json",
)


def run_settings(kind: str, method: str) -> type[RunConfig]:
    """The settings of a run of `kind`, one of `KINDS`; `DplError` where the method has no such run."""
    row = method_row(method)
    if kind in _DPL_ONLY and method != "dpl":
        raise DplError(f"dpl {kind} is for the method dpl; use dpl fit --method {method}")
    return _DPL_ONLY.get(kind) or row.run()


def check_new(run: Path, overwrite: bool) -> None:
    """`DplError` where `run` cannot become a run folder without harm: it holds a run already, or something else."""
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
    """Whether `run` holds a run of ours: a config.json that says so."""
    try:
        config = read_json(run / "config.json")
    except DplError:
        return False
    return isinstance(config, dict) and {"dpl", "task", "backbone"} <= set(config)


def create(run: Path, config: RunConfig, task: Task, shots: FewShot, backbone: Backbone) -> None:
    """Makes `run` a fresh run folder with its config.json; files of a former run there go."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DplError(f"{run}: cannot be made ({error.strerror}); give another --out") from None
    for name in _FILES:
        (run / name).unlink(missing_ok=True)
    shutil.rmtree(run / "checkpoint", ignore_errors=True)
    kind = next((kind for kind, cls in _DPL_ONLY.items() if type(config) is cls), "fit")
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


def plain_settings(config: RunConfig) -> dict[str, Any]:
    """The settings as JSON has them."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}


def _describe(backbone: Backbone, method: str, task: str, class_names: Sequence[str], templates: Sequence[str]) -> dict[str, Any]:
    """The part of config.json that `load_run` needs."""
    return {
        "dpl": version("differentiable-prompt-learning"),
        "method": method,
        "task": {"name": task, "class_names": class_names, "templates": templates},
        "backbone": {
            "name": str(Path(backbone.name).resolve()) if Path(backbone.name).is_dir() else backbone.name,
            "fingerprint": backbone.fingerprint,
            "image_size": backbone.image_size,
            "precision": backbone.precision,
            "layers": {"image": backbone.image.depth, "text": backbone.text.depth},
            "width": {"image": backbone.image.width, "text": backbone.text.width},
        },
    }


def item_names(items: Sequence[Item]) -> list[str]:
    """What the run remembers of its images."""
    return [item.name for item in items]


def read_config(run: Path) -> dict[str, Any]:
    """The run's config.json; `DplError` where `run` is no run folder."""
    if not run.is_dir():
        raise DplError(f"{run}: no such run folder")
    if not is_run(run):
        raise DplError(f"{run}: is not a run folder (no config.json of dpl in it)")
    return read_json(run / "config.json")


def settings_of(run: Path) -> RunConfig:
    """The settings that `run` was started with."""
    config = read_config(run)
    if config.get("kind") not in KINDS or "settings" not in config:
        raise DplError(f"{run}: was not made by dpl fit, search or train; there is nothing to go on with")
    return from_dict(run_settings(config["kind"], config["method"]), config["settings"])


def check_backbone(run: Path, backbone: Backbone) -> None:
    """`DplError` where `run` was made with another backbone."""
    made_with = read_config(run)["backbone"]
    if made_with["fingerprint"] != backbone.fingerprint:
        raise DplError(f"{run}: was made with backbone {made_with['name']}, whose weights differ from those of {backbone.name}")


def save_run(run: Path | str, model: Method) -> None:
    """Writes a trained method as a run folder that `load_run` and `dpl predict` read: classes, layout, parameters.

    Raises `DplError` where `run` holds anything already.
    """
    run = Path(run)
    check_new(run, overwrite=False)
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / "config.json", _describe(model.backbone, model.name, run.name, model.class_names, model.templates))
    save_layout(run, model.layout)
    save_parameters(run, model)
    save_class_features(run, model)


def save_layout(run: Path, layout: PromptLayout) -> None:
    """Writes layout.json."""
    write_text(run / "layout.json", layout.to_json() + "\n")


def save_found_prompts(run: Path, prompts: Mapping[str, Tensor]) -> None:
    """Keeps, while the run goes on, the prompts that the search has learned."""
    (run / "checkpoint").mkdir(exist_ok=True)
    write_bytes(run / _FOUND, save({key: tensor.cpu().contiguous() for key, tensor in prompts.items()}))


def found_prompts(run: Path) -> dict[str, Tensor]:
    """What `save_found_prompts` wrote."""
    return load_file(run / _FOUND)


def save_parameters(run: Path, model: Method) -> None:
    """Writes prompts.safetensors: the learned parameters only, and in its header, as JSON, how the method is built again."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    design = asdict(model.design) if model.design else {}
    header = {"method": model.name, "design": design, "scalars": dict(model.scalars)}
    # One entry: safetensors writes several in an order that changes from process to process.
    write_bytes(run / _PARAMETERS, save(tensors, metadata={"dpl": json.dumps(header)}))


@torch.no_grad()
def save_class_features(run: Path, model: Method) -> Float[Tensor, "classes dim"]:
    """Computes the class embeddings and writes them to class_features.safetensors, beside what they were computed from."""
    features = model.text_features()
    tensors = {"class_features": features.cpu().contiguous()}
    write_bytes(run / "class_features.safetensors", save(tensors, metadata={"of": _sources(run, model)}))
    return features


@torch.no_grad()
def class_features(run: Path, model: Method) -> Float[Tensor, "classes dim"]:
    """The class embeddings of `run`, as stored; computed where there are none, or not of these prompts, classes and backbone."""
    try:
        with safe_open(run / "class_features.safetensors", framework="pt") as file:
            if (file.metadata() or {}).get("of") == _sources(run, model):
                return file.get_tensor("class_features").to(model.backbone.device)
    except (OSError, SafetensorError):
        pass
    return model.text_features()


def _sources(run: Path, model: Method) -> str:
    """SHA-256 of what the class embeddings are of; those computed in another precision are taken as they are."""
    digest = hashlib.sha256((run / _PARAMETERS).read_bytes())
    digest.update(json.dumps([model.class_names, model.templates, model.backbone.fingerprint]).encode())
    return digest.hexdigest()


def load_run(
    run: Path | str, backbone: str | Backbone | None = None, device: str = "auto", precision: PrecisionChoice = "auto"
) -> Method:
    """The trained method of a run folder; needs the folder and the backbone only.

    `backbone` says where the backbone is now, if it moved, or is the loaded one. Raises `DplError` where the run is not trained
    (yet), is no run, or was made with another backbone.
    """
    run = Path(run)
    config = read_config(run)
    if not (run / _PARAMETERS).is_file():
        raise DplError(f"{run}: has no trained prompts; finish it with dpl fit --resume {run}, or use dpl train")
    if isinstance(backbone, Backbone):
        loaded = backbone
    else:
        loaded = load_backbone(backbone or config["backbone"]["name"], device, precision)
    check_backbone(run, loaded)
    try:
        with safe_open(run / _PARAMETERS, framework="pt") as file:
            header = json.loads((file.metadata() or {})["dpl"])
        method, task = method_row(header["method"]).load(), config["task"]
        design = TypeAdapter(method.Design).validate_python(header["design"])
        model = method(loaded, task["class_names"], task["templates"], design)
        model.load_state_dict(load_file(run / _PARAMETERS))
        model.scalars = header["scalars"]
        if PromptLayout.load(run / "layout.json") != model.layout:
            raise ValueError("layout.json has another layout")
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise DplError(f"{run / _PARAMETERS}: does not fit the run ({str(error).splitlines()[0]})") from None
    return model.eval()
