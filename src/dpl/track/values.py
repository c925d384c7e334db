"""What trackers are told: the plain values in settings, in an epoch's record and in metrics.json, by names of two parts."""

from collections.abc import Mapping
from typing import Any

from dpl.config import RunConfig
from dpl.nested import flat
from dpl.prompts.layout import PromptLayout
from dpl.runs import plain_settings

Plain = bool | int | float | str
_NO_SETTINGS = ("out", "overwrite", "track")  # where the run is and how it is watched, not what it is
_NO_RESULTS = ("shots", "seed")  # of metrics.json, but settings


def settings_values(config: RunConfig) -> dict[str, Plain]:
    """The settings as --help names them, such as train.lr; several values are one text, and none is "none"."""
    plain = {name: value for name, value in plain_settings(config).items() if name not in _NO_SETTINGS}
    return {name.replace("_", "-"): _plain(value) for name, value in flat(plain).items()}


def step_values(stage: str, losses: Mapping[str, float]) -> dict[str, float]:
    """The losses and learning rates of a step, such as train/loss."""
    return {f"{stage}/{name}": value for name, value in losses.items()}


def epoch_values(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record of history.jsonl, such as train_epoch/loss and search_epoch/dominants_text.

    Of a layout it is the prompt tokens, in all and of each branch; alphas and saliencies, which are matrices, stay out.
    """
    values = {name: value for name, value in record.items() if name not in ("stage", "layout")}
    if "layout" in record:
        tokens = {branch: sum(lengths) for branch, lengths in record["layout"].items()}
        values |= {"tokens": sum(tokens.values()), **{f"tokens_{branch}": count for branch, count in tokens.items()}}
    return {f"{record['stage']}_epoch/{name}": value for name, value in _numbers(flat(values, "_")).items()}


def result_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of metrics.json that are not of one class, such as result/accuracy and result/accuracy_low."""
    values = {name: value for name, value in metrics.items() if name not in _NO_RESULTS}
    for name in [name for name in metrics if name.endswith("_interval")]:
        low, high = values.pop(name)
        of = name.removesuffix("_interval")
        of = of if of == "accuracy" else f"{of}_accuracy"
        values |= {f"{of}_low": low, f"{of}_high": high}
    for model, calibration in values.pop("calibration", {}).items():
        values["ece" if model == "tuned" else f"{model}_ece"] = calibration["ece"]
    for part, flops in values.pop("cost", {}).items():
        values[f"gflops_{part}"] = flops
    return {f"result/{name}": value for name, value in _numbers(values).items()}


def layout_text(layout: PromptLayout) -> str:
    """Both branches' context lengths, a line each with the first layer first; two spaces break a line in Markdown."""
    lines = (f"{branch}: {' '.join(map(str, lengths))}" for branch, lengths in (("image", layout.image), ("text", layout.text)))
    return "  \n".join(lines)


def _plain(value: Any) -> Plain:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "none" if value is None else value


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)}
