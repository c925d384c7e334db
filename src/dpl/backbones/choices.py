"""The values of settings that concern backbones; light to import, so that `--help` is quick."""

from typing import Literal

Precision = Literal["fp32", "bf16"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]
Resize = Literal["checkpoint", "crop", "squash", "pad"]
Activation = Literal["gelu", "quick_gelu"]
ActivationChoice = Literal["auto", "gelu", "quick_gelu"]
