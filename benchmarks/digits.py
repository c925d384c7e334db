"""The README's table: `dpl fit digits` over seeds, beside zero-shot and a logistic regression on the same shots.

    python -m benchmarks.digits --seeds 1 2 3

Writes the runs to runs/benchmark/ and prints means with t-based 95 % intervals over seeds, and paired differences to dpl.
"""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.stats import t
from sklearn.linear_model import LogisticRegression

import dpl
from dpl.data.fewshot import FewShot
from dpl.data.task import Item, Task
from dpl.data.transforms import decode
from dpl.files import read_json

REGULARISATION = (0.1, 1.0, 10.0, 100.0, 1000.0)  # inverse strengths; chosen on the validation shots


@dataclass(frozen=True)
class Settings:
    """What to run."""

    data: str = "digits"
    """A task of dpl."""
    shots: int = 16
    """Images per class."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of shots and training."""
    layouts: tuple[int, ...] = ()
    """Uniform lengths to train as well, without a search."""
    out: Path = Path("runs/benchmark")
    """Where the runs go."""


def logistic_regression(backbone: dpl.Backbone, shots: FewShot, test: tuple[Item, ...]) -> float:
    """Test accuracy (0-1) of a logistic regression on the frozen, normalised image embeddings."""
    (train_x, train_y), (val_x, val_y), (test_x, test_y) = (_embed(backbone, items) for items in (shots.train, shots.val, test))
    models = [LogisticRegression(C=strength, max_iter=5000).fit(train_x, train_y) for strength in REGULARISATION]
    return max(models, key=lambda model: model.score(val_x, val_y)).score(test_x, test_y)


def _embed(backbone: dpl.Backbone, items: tuple[Item, ...]) -> tuple[np.ndarray, np.ndarray]:
    frozen = dpl.ZeroShot(backbone, ["thing"], ["a {}."])
    parts = [frozen.image_features(pixels) for pixels in decode(items, backbone.image_size).split(256)]
    return torch.cat(parts).cpu().numpy(), np.array([item.label for item in items])


def interval(values: list[float]) -> str:
    """Mean and half width of the t-based 95 % interval, in percent."""
    mean, half = np.mean(values), t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{100 * mean:.1f} ± {100 * half:.1f}"


def measure(settings: Settings, task: Task, backbone: dpl.Backbone) -> dict[str, list[float]]:
    """Accuracies by method, one per seed."""
    results: dict[str, list[float]] = {"dpl fit": [], "zero-shot": [], "logistic regression": []}
    for seed in settings.seeds:
        start = time.perf_counter()
        out = settings.out / f"{task.name}-seed{seed}"
        run = dpl.fit(dpl.FitRun(settings.data, shots=settings.shots, seed=seed, out=out, overwrite=True))
        metrics, layout = read_json(run / "metrics.json"), read_json(run / "layout.json")
        shots = dpl.sample(task, settings.shots, seed)
        results["dpl fit"].append(metrics["accuracy"])
        results["zero-shot"].append(metrics["zero_shot_accuracy"])
        seconds = time.perf_counter() - start
        results["logistic regression"].append(logistic_regression(backbone, shots, task.test))
        for length in settings.layouts:
            uniform = dpl.PromptLayout.uniform(length, backbone.image.depth, backbone.text.depth)
            model = dpl.train_prompts(backbone, task, shots, uniform, seed=seed)
            accuracy = dpl.evaluate_classifier(model, task.test).accuracy
            results.setdefault(f"uniform {length}", []).append(accuracy)
        shown = ", ".join(f"{name} {values[-1]:.1%}" for name, values in results.items())
        print(f"seed {seed}: {shown}; {layout}, {seconds:.0f} s", flush=True)
    return results


def main(settings: Settings) -> None:
    """Prints a line per seed, then the table in Markdown."""
    task, backbone = dpl.load_task(settings.data), dpl.load_backbone()
    results = measure(settings, task, backbone)
    print("\n| method | accuracy, % | dpl minus it, points |\n|---|---|---|")
    for name, values in results.items():
        paired = [ours - theirs for ours, theirs in zip(results["dpl fit"], values, strict=True)]
        print(f"| {name} | {interval(values)} | {interval(paired) if name != 'dpl fit' else ''} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\n{len(task.test)} test images, {settings.shots} shots, seeds {settings.seeds}; peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
