"""Published results, quoted from papers. None was measured with dpl, and no code compares measured results with them."""

from dataclasses import dataclass

BACKBONE = "CLIP ViT-B/16"


@dataclass(frozen=True)
class Published:
    """A published few-shot accuracy (0-1), the mean over all 11 data sets."""

    method: str
    """As `--method` has it where dpl has the method, else its name."""
    accuracy: float
    shots: int
    source: str


_LORA = "quoted at second hand, not checked; compare Zanella and Ben Ayed, Low-Rank Few-Shot Adaptation, arXiv:2405.18541"
FEW_SHOT = tuple(
    Published(method, accuracy, 16, _LORA)
    for method, accuracy in (
        ("zero-shot", 0.651),
        ("coop", 0.800),
        ("tip-adapter-f", 0.807),
        ("PLOT++", 0.821),
        ("clip-lora", 0.830),
    )
)
FEW_SHOT_REMARKS = (
    "DPL's authors say that DPL gains 2.60 points on average over the 11 data sets against its baselines"
    f" ({BACKBONE}; Huang et al., arXiv:2501.00457).",
    "dpl knows no published figures of single data sets.",
)
NO_FIGURES = "dpl knows no published figures of this protocol."
