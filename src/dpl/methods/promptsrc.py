"""PromptSRC: IVLP's tokens, regularized by the frozen model and averaged over epochs.

Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without Forgetting", ICCV 2023;
github.com/muzairkhattak/PromptSRC.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from dpl.config import FIELD, AugmentedRun, Training
from dpl.methods.ivlp import Ivlp, IvlpDesign


def _design() -> IvlpDesign:
    return IvlpDesign(image_context=4, text_context=4, depth=9)


@dataclass(frozen=True)
class PromptSRCRun(AugmentedRun):
    """PromptSRC: IVLP's tokens, regularized by the frozen model and averaged over epochs."""

    method: str = "promptsrc"
    design: Annotated[IvlpDesign, tyro.conf.arg(name="")] = field(default_factory=_design)
    train: Training = field(default_factory=lambda: Training(regularizer="promptsrc"))

    @classmethod
    def published(cls, shots: int) -> dict[str, Any]:
        """4 and 4 tokens in 9 layers; 50 epochs, whatever the shots, the average's weights around the 45th."""
        train = Training(epochs=50, batch_size=4, lr=2.5e-3, regularizer="promptsrc", **FIELD)
        return {"augmentation": "protocol", "train": train}


class PromptSRC(Ivlp):
    """IVLP trained with cross entropy + 25 |text - text0| + 10 |image - image0| + KL(logits0 || logits), 0: the frozen model.

    The terms and the Gaussian average are the regularizer "promptsrc" of `dpl.regularization`; --train.text-l1 and the like
    change single weights.
    """

    name = "promptsrc"
