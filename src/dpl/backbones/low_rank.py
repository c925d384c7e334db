"""Low-rank additions to frozen linear layers, by peft, which is imported when one is made."""

from typing import Any

import torch
from torch import nn

from dpl.errors import DplError


def low_rank(projection: nn.Module, rank: int, alpha: float, dropout: float) -> Any:
    """A layer W x + alpha / sqrt(rank) B A dropout(x) around the linear `projection` W, in eval mode, A and B fp32.

    Its A is `lora_A["dpl"]`, its B `lora_B["dpl"]`, both to be set; W stays the same module. `DplError` where peft is not
    installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise DplError(
            "clip-lora needs the package peft, which is not installed: pip install 'differentiable-prompt-learning[lora]'"
        ) from None
    scale: Any = alpha  # peft says int, and only divides it
    start = {"lora_dropout": dropout, "init_lora_weights": False}
    config = LoraConfig(r=rank, lora_alpha=scale, target_modules=["projection"], use_rslora=True, **start)
    frozen = getattr(projection, "base_layer", projection)  # of peft's layer, if a method is attached just now
    place: Any = nn.ModuleDict({"projection": frozen})
    with torch.random.fork_rng([]):  # peft draws what is drawn again under a name
        inject_adapter_in_model(config, place, adapter_name="dpl")
    lora = place["projection"]
    lora.lora_dropout.eval()
    return lora
