"""The whole explanation of a run: its parts, put together."""

import numpy as np
import torch

from dpl.classifier import ClipClassifier
from dpl.data.task import Task
from dpl.data.transforms import decode
from dpl.evaluate import ClassFeatures, Evaluation
from dpl.explain.attention import IMAGES, prompt_attention
from dpl.explain.examples import choose, confused, shuffled, small
from dpl.explain.gradcam import class_maps
from dpl.explain.stored import ConfusedPair, Example, Explanation, Prediction, PromptWords
from dpl.explain.words import prompt_words
from dpl.methods.method import Method
from dpl.reports.schema import Branches


def explained(
    model: Method, class_features: ClassFeatures, frozen: ClipClassifier, task: Task, tuned: Evaluation, plain: Evaluation
) -> Explanation:
    """What is shown of a trained `model`, whose class embeddings are known, beside the `frozen` one.

    `tuned` and `plain` are what the two made of the task's test images. Grad-CAM is of the class that a model predicts.
    """
    examples, pairs = choose(tuned, plain), confused(tuned)
    looked_at = shuffled(len(task.test))[:IMAGES]
    shown = [image for image, _ in examples]
    mistaken = [image for pair in pairs for image in pair.images]
    wanted = list(dict.fromkeys([*shown, *mistaken, *looked_at]))
    size = model.backbone.image_size
    pixels = dict(zip(wanted, decode([task.test[image] for image in wanted], size), strict=True))
    pictures = torch.stack([pixels[image] for image in shown])
    maps = [
        class_maps(own, pictures, torch.from_numpy(evaluation.predictions[shown]), texts).cpu().numpy()
        for own, evaluation, texts in ((frozen, plain, None), (model, tuned, class_features))
    ]
    # Of prompts that the training has driven out of all bounds there is nothing to say; JSON has no infinity.
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
        confused=small([pixels[image] for image in mistaken], size),
    )
