"""Explains a trained run: Grad-CAM maps, words nearest to the prompts, attention to the prompts, cost and calibration."""

from pathlib import Path

from dpl.classifier import ClipClassifier
from dpl.data.pixels.store import ImageStore
from dpl.data.task import Task
from dpl.evaluate import Evaluation
from dpl.explain.build import explained
from dpl.methods.method import Method
from dpl.runs import class_features
from dpl.schemas.explanation import write_explanation


def explain_run(
    run: Path,
    model: Method,
    frozen: ClipClassifier,
    task: Task,
    tuned: Evaluation,
    plain: Evaluation,
    images: ImageStore | None = None,
) -> None:
    """Writes explanation.json and explanation.safetensors of a trained run (`dpl.schemas.explanation`).

    Reads the class embeddings from the run. The same run gives the same files, bit by bit on a CPU.

    Args:
        run: the run folder.
        model: the trained model.
        frozen: the zero-shot model.
        task: the task, for its test images; all of them are readable.
        tuned: the evaluation of `model` on the test images.
        plain: the evaluation of `frozen` on the test images.
        images: decoded images of the run; by default the images are decoded.
    """
    write_explanation(run, explained(model, class_features(run, model), frozen, task, tuned, plain, images))
