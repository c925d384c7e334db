"""What a run has found, looked at: where the model looks, what its prompts say, what it costs, how far its confidence is true."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported when a run is explained: who reads the files needs no model
    from dpl.classifier import ClipClassifier
    from dpl.data.task import Task
    from dpl.evaluate import Evaluation
    from dpl.methods.method import Method


def explain_run(
    run: Path, model: "Method", frozen: "ClipClassifier", task: "Task", tuned: "Evaluation", plain: "Evaluation"
) -> None:
    """Writes explanation.json and explanation.safetensors of a trained run (`dpl.explain.stored`).

    `model` is the trained one and `frozen` zero-shot, `tuned` and `plain` what they made of the task's test images. The class
    embeddings are read from the run. The same run gives the same files, on a CPU to the bit.
    """
    from dpl.explain.stored import write_explanation
    from dpl.explain.whole import explained
    from dpl.runs import class_features

    write_explanation(run, explained(model, class_features(run, model), frozen, task, tuned, plain))
