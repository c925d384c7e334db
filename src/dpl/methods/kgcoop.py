"""KgCoOp: CoOp's context, kept near the hand-written text.

Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", CVPR 2023; github.com/htyao89/KgCoOp.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from dpl.config import FIELD, AugmentedRun, Occasion, Training
from dpl.methods.coop import PHRASE, CoOp, CoOpDesign


def _design() -> CoOpDesign:
    return CoOpDesign(init=PHRASE)


@dataclass(frozen=True)
class KgCoOpRun(AugmentedRun):
    """KgCoOp: CoOp's context, kept near the hand-written text."""

    method: str = "kgcoop"
    design: Annotated[CoOpDesign, tyro.conf.arg(name="")] = field(default_factory=_design)
    train: Training = field(default_factory=lambda: Training(regularizer="kgcoop"))

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """4 tokens from "a photo of a"; 100 epochs in batches of 128, whatever the shots."""
        train = Training(epochs=100, batch_size=128, lr=2e-3, regularizer="kgcoop", **FIELD)
        return {"augmentation": "protocol", "train": train}


class KgCoOp(CoOp):
    """CoOp trained with cross entropy + 8 mean_c (1 - cos(text(c), hand-written text(c))), in the task's first template.

    The term is the regularizer "kgcoop" of `dpl.regularization`; --train.text-cosine changes its weight.
    """

    name = "kgcoop"
