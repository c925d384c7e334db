"""KgCoOp: CoOp's context, kept near the hand-written text.

Yao et al., "Visual-Language Prompt Tuning with Knowledge-guided Context Optimization", CVPR 2023; github.com/htyao89/KgCoOp.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from dpl.config import FIELD, HeadedRun, Protocol, Training
from dpl.methods.coop import PHRASE, CoOp, CoOpConfig


def _design() -> CoOpConfig:
    return CoOpConfig(init=PHRASE)


@dataclass(frozen=True)
class KgCoOpRun(HeadedRun):
    """KgCoOp: CoOp's context, kept near the hand-written text."""

    method: str = "kgcoop"
    design: Annotated[CoOpConfig, tyro.conf.arg(name="")] = field(default_factory=_design)
    train: Training = field(default_factory=lambda: Training(regularizer="kgcoop"))

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: 4 tokens that start at "a photo of a", 100 epochs in batches of 128, for any number of
        shots."""
        train = Training(epochs=100, batch_size=128, lr=2e-3, regularizer="kgcoop", **FIELD)
        return {**super().paper_settings(protocol), "train": train}


class KgCoOp(CoOp):
    """CoOp trained with cross entropy + 8 mean_c (1 - cos(text(c), hand-written text(c))).

    The hand-written text is the task's first template. The term is the regularizer "kgcoop" of `dpl.optim.regularization`;
    --train.text-cosine changes its weight.
    """

    name = "kgcoop"
