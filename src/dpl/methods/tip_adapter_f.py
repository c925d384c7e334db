"""Tip-Adapter-F: Tip-Adapter with learned keys.

Zhang et al., "Tip-Adapter: Training-Free Adaption of CLIP for Few-Shot Classification", ECCV 2022;
github.com/gaopengcuhk/Tip-Adapter.
"""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn

from dpl.config import Optimization, Protocol
from dpl.methods.tip_adapter import TipAdapter, TipAdapterRun


@dataclass(frozen=True)
class TipAdapterFRun(TipAdapterRun):
    """Tip-Adapter-F: Tip-Adapter with learned keys."""

    method: str = "tip-adapter-f"
    train: Optimization = field(default_factory=lambda: Optimization(epochs=27))

    @classmethod
    def paper_settings(cls, protocol: Protocol) -> dict[str, Any]:
        """Returns the authors' settings: 20 epochs (100 for EuroSAT), with a cosine schedule by step."""
        epochs = 100 if protocol.data == "eurosat" else 20
        adamw: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.01, "adam_eps": 1e-4}
        train = Optimization(epochs=epochs, batch_size=256, schedule="step", warmup_epochs=0, clip_norm=0.0, **adamw)
        return {**super().paper_settings(protocol), "train": train}


class TipAdapterF(TipAdapter):
    """Tip-Adapter with learned keys.

    The keys are trained with the alpha and beta of the design; afterwards alpha and beta are chosen. The authors' release keeps
    the epoch with the best accuracy on the test images; this method keeps the keys of the last step.
    """

    name = "tip-adapter-f"

    def _fill(self, keys: Float[Tensor, "shots dim"], labels: Int64[Tensor, "shots"]) -> None:
        self.keys = nn.Parameter(keys.to(self.backbone.device))
        self.register_buffer("labels", labels.to(self.backbone.device))
