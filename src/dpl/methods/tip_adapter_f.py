"""Tip-Adapter-F: Tip-Adapter whose keys are learned.

Zhang et al., "Tip-Adapter: Training-Free Adaption of CLIP for Few-Shot Classification", ECCV 2022;
github.com/gaopengcuhk/Tip-Adapter.
"""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn

from dpl.config import Occasion, Optimization
from dpl.methods.tip_adapter import TipAdapter, TipAdapterRun


@dataclass(frozen=True)
class TipAdapterFRun(TipAdapterRun):
    """Tip-Adapter-F: Tip-Adapter with learned keys."""

    method: str = "tip-adapter-f"
    train: Optimization = field(default_factory=lambda: Optimization(epochs=27))

    @classmethod
    def published(cls, occasion: Occasion) -> dict[str, Any]:
        """20 epochs (100 for EuroSAT), the cosine by step."""
        epochs = 100 if occasion.data == "eurosat" else 20
        adamw: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.01, "adam_eps": 1e-4}
        train = Optimization(epochs=epochs, batch_size=256, schedule="step", warmup_epochs=0, clip_norm=0.0, **adamw)
        return {**super().published(occasion), "train": train}


class TipAdapterF(TipAdapter):
    """Tip-Adapter whose keys are learned, with the alpha and beta of the design, before those are chosen.

    The release keeps the epoch that is best on the test images; here the keys are those of the last step.
    """

    name = "tip-adapter-f"

    def _fill(self, keys: Float[Tensor, "shots dim"], labels: Int64[Tensor, "shots"]) -> None:
        self.keys = nn.Parameter(keys.to(self.backbone.device))
        self.register_buffer("labels", labels.to(self.backbone.device))
