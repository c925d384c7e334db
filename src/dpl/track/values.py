"""Values for trackers: the plain values of settings, epoch records and metrics.json, with names such as train/loss."""

from collections.abc import Mapping
from typing import Any

from dpl.config import RunConfig
from dpl.prompts.layout import PromptLayout
from dpl.runs import plain_settings
from dpl.utils.nested import flat

Plain = bool | int | float | str
_NO_SETTINGS = ("out", "overwrite", "track")  # folder and trackers, which do not affect the result
_NO_RESULTS = ("shots", "seed")  # entries of metrics.json that are settings


def settings_values(config: RunConfig) -> dict[str, Plain]:
    """Returns the settings by their names in --help, such as train.lr.

    Several values are joined to one text; None becomes "none".
    """
    plain = {name: value for name, value in plain_settings(config).items() if name not in _NO_SETTINGS}
    return {name.replace("_", "-"): _plain(value) for name, value in flat(plain).items()}


def step_values(stage: str, losses: Mapping[str, float]) -> dict[str, float]:
    """Returns the losses and learning rates of a step, by names such as train/loss."""
    return {f"{stage}/{name}": value for name, value in losses.items()}


def epoch_values(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a record of history.jsonl, by names such as train_epoch/loss and search_epoch/dominants_text.

    A layout becomes its numbers of prompt tokens, in total and per branch. Alphas and saliencies are matrices and are left out.
    """
    values = {name: value for name, value in record.items() if name not in ("stage", "layout")}
    if "layout" in record:
        tokens = {branch: sum(lengths) for branch, lengths in record["layout"].items()}
        values |= {"tokens": sum(tokens.values()), **{f"tokens_{branch}": count for branch, count in tokens.items()}}
    return {f"{record['stage']}_epoch/{name}": value for name, value in _numbers(flat(values, "_")).items()}


def result_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of metrics.json, except those of single classes, by names such as result/accuracy_low."""
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
    """Formats a layout: a line per branch with the context lengths from the first layer on. Two spaces break a Markdown line."""
    lines = (f"{branch}: {' '.join(map(str, lengths))}" for branch, lengths in (("image", layout.image), ("text", layout.text)))
    return "  \n".join(lines)


def _plain(value: Any) -> Plain:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "none" if value is None else value


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)}
