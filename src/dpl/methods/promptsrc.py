"""PromptSRC: IVLP's tokens, regularized by the frozen model and averaged over epochs.

Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without Forgetting", ICCV 2023;
github.com/muzairkhattak/PromptSRC.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from dpl.config import FIELD, HeadedRun, Protocol, Training
from dpl.methods.ivlp import Ivlp, IvlpConfig


def _design(depth: int = 9) -> IvlpConfig:
    return IvlpConfig(image_context=4, text_context=4, depth=depth)


@dataclass(frozen=True)
class PromptSRCRun(HeadedRun):
    """PromptSRC: IVLP's tokens, regularized by the frozen model and averaged over epochs."""

    method: str = "promptsrc"
    design: Annotated[IvlpConfig, tyro.conf.arg(name="")] = field(default_factory=_design)
    train: Training = field(default_factory=lambda: Training(regularizer="promptsrc"))

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: 4 tokens per branch in 9 layers, 50 epochs for any number of shots.

        The average's weights peak at epoch 45. Base-to-new: 20 epochs, peak at epoch 15. Transfer: 3 layers, 20 epochs, peak at
        epoch 6 with a large standard deviation.
        """
        depth, epochs, aggregate = 9, 50, None
        if protocol.transfers:
            depth, epochs, aggregate = 3, 20, (0.3, 0.5)
        elif protocol.classes == "base":
            epochs, aggregate = 20, (0.75, 0.05)
        train = Training(epochs=epochs, batch_size=4, lr=2.5e-3, regularizer="promptsrc", aggregate=aggregate, **FIELD)
        return {**super().paper_settings(protocol), "design": _design(depth), "train": train}


class PromptSRC(Ivlp):
    """IVLP trained with cross entropy + 25 |text - text0| + 10 |image - image0| + KL(logits0 || logits).

    The suffix 0 marks embeddings and logits of the frozen model.
    The terms and the Gaussian average are the regularizer "promptsrc" of `dpl.optim.regularization`; --train.text-l1 and the like
    change single weights.
    """

    name = "promptsrc"
