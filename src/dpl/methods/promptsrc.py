"""PromptSRC: IVLP's tokens, regularized by the frozen model and averaged over epochs.

Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without Forgetting", ICCV 2023;
github.com/muzairkhattak/PromptSRC.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from dpl.config import FIELD, AugmentedRun, Occasion, Training
from dpl.methods.ivlp import Ivlp, IvlpDesign


def _design(depth: int = 9) -> IvlpDesign:
    return IvlpDesign(image_context=4, text_context=4, depth=depth)


@dataclass(frozen=True)
class PromptSRCRun(AugmentedRun):
    """PromptSRC: IVLP's tokens, regularized by the frozen model and averaged over epochs."""

    method: str = "promptsrc"
    design: Annotated[IvlpDesign, tyro.conf.arg(name="")] = field(default_factory=_design)
    train: Training = field(default_factory=lambda: Training(regularizer="promptsrc"))

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """4 and 4 tokens in 9 layers; 50 epochs, whatever the shots, the average's weights around the 45th.

        Base-to-new: 20 epochs, around the 15th. Transfer: 3 layers, 20 epochs, weights around the 6th, but wide.
        """
        depth, epochs, aggregate = 9, 50, None
        if occasion.transfers:
            depth, epochs, aggregate = 3, 20, (0.3, 0.5)
        elif occasion.classes == "base":
            epochs, aggregate = 20, (0.75, 0.05)
        train = Training(epochs=epochs, batch_size=4, lr=2.5e-3, regularizer="promptsrc", aggregate=aggregate, **FIELD)
        return {"augmentation": "protocol", "design": _design(depth), "train": train}


class PromptSRC(Ivlp):
    """IVLP trained with cross entropy + 25 |text - text0| + 10 |image - image0| + KL(logits0 || logits), 0: the frozen model.

    The terms and the Gaussian average are the regularizer "promptsrc" of `dpl.regularization`; --train.text-l1 and the like
    change single weights.
    """

    name = "promptsrc"
