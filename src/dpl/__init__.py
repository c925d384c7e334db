"""dpl: differentiable prompt learning for frozen vision-language models.

The names below are the library; each is imported when first used, so that `import dpl` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpl.backbones.loading import Backbone, load_backbone
    from dpl.classifier import Classifier, ZeroShot
    from dpl.config import FitRun, SearchConfig, TrainConfig
    from dpl.data.fewshot import sample
    from dpl.data.task import load_task
    from dpl.data.transforms import load_image
    from dpl.errors import DplError
    from dpl.evaluate import evaluate_classifier, predict
    from dpl.methods.dpl import train_prompts
    from dpl.pipeline import fit
    from dpl.prompts.layout import PromptLayout
    from dpl.runs import load_run, save_run
    from dpl.search import search_layout

_HOME = {
    "Backbone": "backbones.loading",
    "Classifier": "classifier",
    "DplError": "errors",
    "FitRun": "config",
    "PromptLayout": "prompts.layout",
    "SearchConfig": "config",
    "TrainConfig": "config",
    "ZeroShot": "classifier",
    "evaluate_classifier": "evaluate",
    "fit": "pipeline",
    "load_backbone": "backbones.loading",
    "load_image": "data.transforms",
    "load_run": "runs",
    "load_task": "data.task",
    "predict": "evaluate",
    "sample": "data.fewshot",
    "save_run": "runs",
    "search_layout": "search",
    "train_prompts": "methods.dpl",
}
__all__ = [
    "Backbone", "Classifier", "DplError", "FitRun", "PromptLayout", "SearchConfig", "TrainConfig", "ZeroShot",
    "evaluate_classifier", "fit", "load_backbone", "load_image", "load_run", "load_task", "predict", "sample", "save_run",
    "search_layout", "train_prompts",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dpl' has no attribute {name!r}")
    value = getattr(import_module(f"dpl.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
