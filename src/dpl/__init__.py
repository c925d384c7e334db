"""dpl: differentiable prompt learning for frozen vision-language models.

The names in `__all__` are the public library. Each is imported on first use, so that `import dpl` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpl.backbones.branch import Branch, Layer
    from dpl.backbones.identity import Identity
    from dpl.backbones.loading import Backbone, load_backbone
    from dpl.backbones.preprocessing import Preprocessing
    from dpl.classifier import Classifier, ClipClassifier, ZeroShot
    from dpl.config import FitRun, Optimization, Penalties, Protocol, RunConfig, SearchConfig, TrainConfig
    from dpl.data.fewshot import FewShot, sample
    from dpl.data.load import load_task
    from dpl.data.pixels.decode import UnreadableImage
    from dpl.data.pixels.store import ImageStore, Reader
    from dpl.data.pixels.transforms import load_image
    from dpl.data.task import Augmentation, Encoded, Item, Task
    from dpl.estimator import FewShotClassifier
    from dpl.evaluate import Evaluation, evaluate_classifier, predict
    from dpl.methods.dpl import Dpl, DplConfig
    from dpl.methods.method import Inputs, Method, Objective, SearchStore
    from dpl.optim.regularization import Regularizer
    from dpl.optim.stage import Stage
    from dpl.pipeline import fit
    from dpl.prompts.attach import AttachedPrompts, attach_prompts
    from dpl.prompts.layout import PromptLayout
    from dpl.prompts.modules import BranchPrompts, FixedPrompts, PromptMixture, PrunablePrompts
    from dpl.runs import load_run, save_run
    from dpl.search import SearchResult, search_layout
    from dpl.search.base import SearchMethod, Validation
    from dpl.train import train_prompts
    from dpl.utils.errors import DplError

_HOME = {
    "AttachedPrompts": "prompts.attach",
    "Augmentation": "data.task",
    "Backbone": "backbones.loading",
    "Branch": "backbones.branch",
    "BranchPrompts": "prompts.modules",
    "Classifier": "classifier",
    "ClipClassifier": "classifier",
    "Dpl": "methods.dpl",
    "DplConfig": "methods.dpl",
    "DplError": "utils.errors",
    "Encoded": "data.task",
    "Evaluation": "evaluate",
    "FewShot": "data.fewshot",
    "FewShotClassifier": "estimator",
    "FitRun": "config",
    "FixedPrompts": "prompts.modules",
    "Identity": "backbones.identity",
    "ImageStore": "data.pixels.store",
    "Inputs": "methods.method",
    "Item": "data.task",
    "Layer": "backbones.branch",
    "Method": "methods.method",
    "Objective": "methods.method",
    "Optimization": "config",
    "Penalties": "config",
    "Preprocessing": "backbones.preprocessing",
    "PromptLayout": "prompts.layout",
    "PromptMixture": "prompts.modules",
    "Protocol": "config",
    "PrunablePrompts": "prompts.modules",
    "Reader": "data.pixels.store",
    "Regularizer": "optim.regularization",
    "RunConfig": "config",
    "SearchConfig": "config",
    "SearchMethod": "search.base",
    "SearchResult": "search",
    "SearchStore": "methods.method",
    "Stage": "optim.stage",
    "Task": "data.task",
    "TrainConfig": "config",
    "UnreadableImage": "data.pixels.decode",
    "Validation": "search.base",
    "ZeroShot": "classifier",
    "attach_prompts": "prompts.attach",
    "evaluate_classifier": "evaluate",
    "fit": "pipeline",
    "load_backbone": "backbones.loading",
    "load_image": "data.pixels.transforms",
    "load_run": "runs",
    "load_task": "data.load",
    "predict": "evaluate",
    "sample": "data.fewshot",
    "save_run": "runs",
    "search_layout": "search",
    "train_prompts": "train",
}
__all__ = [
    "AttachedPrompts", "Augmentation", "Backbone", "Branch", "BranchPrompts", "Classifier", "ClipClassifier", "Dpl",
    "DplConfig", "DplError", "Encoded", "Evaluation", "FewShot", "FewShotClassifier", "FitRun", "FixedPrompts", "Identity",
    "ImageStore", "Inputs", "Item", "Layer", "Method", "Objective", "Optimization", "Penalties", "Preprocessing",
    "PromptLayout", "PromptMixture", "Protocol", "PrunablePrompts", "Reader", "Regularizer", "RunConfig", "SearchConfig",
    "SearchMethod", "SearchResult", "SearchStore", "Stage", "Task", "TrainConfig", "UnreadableImage", "Validation",
    "ZeroShot", "attach_prompts", "evaluate_classifier", "fit", "load_backbone", "load_image", "load_run", "load_task",
    "predict", "sample", "save_run", "search_layout", "train_prompts",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dpl' has no attribute {name!r}")
    value = getattr(import_module(f"dpl.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
