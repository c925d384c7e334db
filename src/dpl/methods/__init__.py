"""The methods: a room for each, and the table by which `--method` finds it. Adding one is its file and its row."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dpl.errors import DplError

if TYPE_CHECKING:
    from dpl.config import RunConfig
    from dpl.methods.method import Method


@dataclass(frozen=True)
class Row:
    """A method: what it is, and where its settings and its class are, as "module:name"; imported when they are needed."""

    summary: str
    settings: str
    method: str

    def run(self) -> "type[RunConfig]":
        """The settings of a run."""
        return _found(self.settings)

    def load(self) -> "type[Method]":
        """The method itself."""
        return _found(self.method)


def _row(summary: str, room: str, name: str) -> Row:
    return Row(summary, f"dpl.methods.{room}:{name}Run", f"dpl.methods.{room}:{name}")


METHODS: Mapping[str, Row] = {
    "dpl": Row("prompts as keys and values, as many per layer as a search finds", "dpl.config:FitRun", "dpl.methods.dpl:Dpl"),
    "zero-shot": _row("nothing: the frozen model, with one template or an ensemble", "zero_shot", "ZeroShotMethod"),
    "linear-probe": _row("logistic regression on the frozen image features", "linear_probe", "LinearProbe"),
    "tip-adapter": _row("nothing: the shots' features are a cache beside the frozen classifier", "tip_adapter", "TipAdapter"),
    "tip-adapter-f": _row("the keys of Tip-Adapter's cache", "tip_adapter_f", "TipAdapterF"),
    "coop": _row("context words, the same for all classes or each class its own", "coop", "CoOp"),
    "cocoop": _row("context words, and a small network that shifts them for every image", "cocoop", "CoCoOp"),
    "kgcoop": _row("CoOp's context, kept near the hand-written text", "kgcoop", "KgCoOp"),
    "prograd": _row("CoOp's context, never against the frozen model's opinion", "prograd", "ProGrad"),
    "vpt": _row("context tokens behind the image patches, shallow or deep", "vpt", "Vpt"),
    "language-prompting": _row("context words, replaced in the first text layers", "language_prompting", "LanguagePrompting"),
    "ivlp": _row("deep context tokens of image and text, independent of each other", "ivlp", "Ivlp"),
    "maple": _row("deep context words, from which linear maps make those of the image", "maple", "MaPLe"),
    "promptsrc": _row("IVLP's tokens, regularized by the frozen model and averaged over epochs", "promptsrc", "PromptSRC"),
    "clip-lora": _row("low-rank additions to the attention's projections", "clip_lora", "ClipLora"),
}


def method_row(name: str) -> Row:
    """The row of `name`; `DplError` where there is none."""
    if name not in METHODS:
        raise DplError(f"no method {name!r}: there are {', '.join(METHODS)}")
    return METHODS[name]


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
