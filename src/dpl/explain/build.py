"""Computes the whole explanation of a run from its parts."""

import numpy as np
import torch

from dpl.classifier import ClipClassifier
from dpl.data.pixels.store import ImageStore
from dpl.data.task import Task
from dpl.evaluate import ClassFeatures, Evaluation
from dpl.explain.examples import choose, confused, shuffled, small
from dpl.explain.gradcam import class_maps
from dpl.explain.prompt_attention import IMAGES, prompt_attention
from dpl.explain.prompt_words import prompt_words
from dpl.methods.method import Method
from dpl.schemas.explanation import ConfusedPair, Example, Explanation, Prediction, PromptWords
from dpl.schemas.run import Branches


def explained(
    model: Method,
    class_features: ClassFeatures,
    frozen: ClipClassifier,
    task: Task,
    tuned: Evaluation,
    plain: Evaluation,
    images: ImageStore | None = None,
) -> Explanation:
    """Computes the explanation of a trained model beside the frozen one. Grad-CAM maps are of the class that a model predicts.

    Args:
        model: the trained model.
        class_features: its class embeddings.
        frozen: the zero-shot model.
        task: the task, for its test images; all of them are readable.
        tuned: the evaluation of `model` on the test images.
        plain: the evaluation of `frozen` on the test images.
        images: decoded images of the run; by default the images are decoded.
    """
    examples, pairs = choose(tuned, plain), confused(tuned)
    looked_at = shuffled(len(task.test))[:IMAGES]
    shown = [image for image, _ in examples]
    mistaken = [image for pair in pairs for image in pair.images]
    wanted = list(dict.fromkeys([*shown, *mistaken, *looked_at]))
    reader = (images or ImageStore()).evaluation(model.backbone.preprocessing)
    decoded = reader.stack([task.test[image] for image in wanted])
    pixels = dict(zip(wanted, decoded, strict=True))
    pictures = torch.stack([pixels[image] for image in shown])
    maps = [
        class_maps(own, pictures, torch.from_numpy(evaluation.predictions[shown]), texts).cpu().numpy()
        for own, evaluation, texts in ((frozen, plain, None), (model, tuned, class_features))
    ]
    # Prompts that diverged in training have no meaningful words or attention, and JSON has no infinity.
    is_sound = all(bool(parameter.float().norm().isfinite()) for parameter in model.parameters())
    words = prompt_words(model) if is_sound else None
    attention = prompt_attention(model, torch.stack([pixels[image] for image in looked_at])) if is_sound else None
    return Explanation(
        models=["zero-shot", "tuned"],
        examples=[
            Example(
                name=task.test[image].name,
                label=int(tuned.labels[image]),
                kind=kind,
                predictions=[
                    Prediction(label=int(own.predictions[image]), probability=min(float(own.confidences[image]), 1.0))
                    for own in (plain, tuned)
                ],
            )
            for image, kind in examples
        ],
        confusions=[
            ConfusedPair(
                true=pair.true,
                predicted=pair.predicted,
                count=pair.count,
                pictures=[mistaken.index(image) for image in pair.images],  # an image is confused once
                names=[task.test[image].name for image in pair.images],
            )
            for pair in pairs
        ],
        attention=Branches(**attention) if attention else None,
        prompts=PromptWords.model_validate(words) if words else None,
        pictures=pictures.numpy(),
        maps=np.nan_to_num(np.stack(maps, axis=1)),
        confused=small([pixels[image] for image in mistaken], model.backbone.image_size),
    )
