"""The adaptation methods: a module for each, and the table that maps the names of `--method` to them.

To add a method, add its module and its row in `METHODS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dpl.config import RunConfig, SearchRun, TrainRun
from dpl.utils.errors import DplError

if TYPE_CHECKING:  # not imported with the table, which `--help` reads: methods need torch
    from dpl.methods.method import Method


@dataclass(frozen=True)
class MethodSpec:
    """A row of the table of methods.

    Attributes:
        summary: the parameters that the method learns.
        settings: the class of its run settings, as "module:name"; imported on first use.
        method: its class, as "module:name"; imported on first use.
    """

    summary: str
    settings: str
    method: str

    def run(self) -> type[RunConfig]:
        """Imports and returns the class of the run settings."""
        return _found(self.settings)

    def load(self) -> "type[Method]":
        """Imports and returns the class of the method."""
        return _found(self.method)


def _row(summary: str, module: str, name: str) -> MethodSpec:
    return MethodSpec(summary, f"dpl.methods.{module}:{name}Run", f"dpl.methods.{module}:{name}")


METHODS: Mapping[str, MethodSpec] = {
    "dpl": MethodSpec(
        "prompts as keys and values, as many per layer as a search finds", "dpl.config:FitRun", "dpl.methods.dpl:Dpl"
    ),
    "zero-shot": _row("nothing: the frozen model, with one template or an ensemble", "zero_shot", "ZeroShotMethod"),
    "linear-probe": _row("logistic regression on the frozen image features", "linear_probe", "LinearProbe"),
    "tip-adapter": _row("nothing: the shots' features are a cache beside the frozen classifier", "tip_adapter", "TipAdapter"),
    "tip-adapter-f": _row("the keys of Tip-Adapter's cache", "tip_adapter_f", "TipAdapterF"),
    "coop": _row("context words, the same for all classes or each class its own", "coop", "CoOp"),
    "cocoop": _row("context words, and a small network that shifts them for every image", "cocoop", "CoCoOp"),
    "kgcoop": _row("CoOp's context, kept near the hand-written text", "kgcoop", "KgCoOp"),
    "prograd": _row("CoOp's context, never against the frozen model's gradient", "prograd", "ProGrad"),
    "vpt": _row("context tokens behind the image patches, shallow or deep", "vpt", "Vpt"),
    "language-prompting": _row("context words, replaced in the first text layers", "language_prompting", "LanguagePrompting"),
    "ivlp": _row("deep context tokens of image and text, independent of each other", "ivlp", "Ivlp"),
    "maple": _row("deep context words, from which linear maps make those of the image", "maple", "MaPLe"),
    "promptsrc": _row("IVLP's tokens, regularized by the frozen model and averaged over epochs", "promptsrc", "PromptSRC"),
    "clip-lora": _row("low-rank additions to the attention's projections", "clip_lora", "ClipLora"),
}


def method_spec(name: str) -> MethodSpec:
    """Looks up a method.

    Args:
        name: the name that `--method` takes.

    Raises:
        DplError: there is no method `name`.
    """
    if name not in METHODS:
        raise DplError(f"no method {name!r}: there are {', '.join(METHODS)}")
    return METHODS[name]


_DPL_ONLY: Mapping[str, type[RunConfig]] = {"search": SearchRun, "train": TrainRun}
KINDS = ("fit", *_DPL_ONLY)
"""The kinds of runs, named as the commands that make them."""


def run_settings(kind: str, method: str) -> type[RunConfig]:
    """Returns the class of the settings of a run.

    Args:
        kind: one of `KINDS`.
        method: a name in `METHODS`.

    Raises:
        DplError: there is no such method, or it has no run of this kind.
    """
    row = method_spec(method)
    if kind in _DPL_ONLY and method != "dpl":
        raise DplError(f"dpl {kind} is for the method dpl; use dpl fit --method {method}")
    return _DPL_ONLY.get(kind) or row.run()


def kind_of(config: RunConfig) -> str:
    """Returns the kind of run, one of `KINDS`, that has these settings."""
    return next((kind for kind, cls in _DPL_ONLY.items() if type(config) is cls), "fit")


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
