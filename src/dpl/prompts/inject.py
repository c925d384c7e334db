"""Gives the layers of a Hugging Face transformer their prompts, without forking the model.

transformers looks the attention function up by the name in the module's `config`. We register one that adds the prompts hung
on the attention module as a plain attribute, so `state_dict` stays as it was, and a mask function that always builds the mask:
a causal mask that is left out ("is_causal") would make SDPA drop the prompt keys.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from dpl.backbones.branch import Branch
from dpl.errors import DplError
from dpl.prompts.listen import tell
from dpl.prompts.modules import BranchPrompts, LayerPrompts
from dpl.prompts.tokens import Masked, Tokens, fused_attention

IMPLEMENTATION = "dpl_prompts"
_HUNG = "_dpl_prompts"  # the attribute on an attention module


class _Hung:
    """What hangs on an attention module: the layer's LN1, its prompts, and how tokens see each other if no mask says it.

    No nn.Module, so that nothing is registered.
    """

    def __init__(self, norm: nn.LayerNorm, layer: LayerPrompts, tokens: Tokens | None) -> None:
        self.norm, self.layer, self.tokens = norm, layer, tokens


def _prompted_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface; returns (batch, tokens, heads, head_dim)."""
    if dropout:
        raise DplError(f"attention dropout {dropout}: prompts need a frozen backbone; call its eval()")
    hung: _Hung | None = module.__dict__.get(_HUNG)
    if hung is None:
        output = fused_attention(query, key, value, attention_mask, scaling)
    else:
        # Through the layer's own LN1, K and V; once per call, not per sample. Prompts stay fp32 whatever the model is.
        normed = hung.norm(hung.layer.prompts.to(hung.norm.weight.dtype))
        heads = (normed.shape[0], key.shape[1], key.shape[-1])
        prompt_key = module.k_proj(normed).view(heads).transpose(0, 1).to(key.dtype)
        prompt_value = module.v_proj(normed).view(heads).transpose(0, 1).to(value.dtype)
        tokens = hung.tokens or Masked(attention_mask)
        output = hung.layer.attend(query, key, value, prompt_key, prompt_value, tokens, scaling)
        tell(module, tokens, query, key, prompt_key, scaling, hung.layer.log_gates)
    return output.transpose(1, 2).contiguous(), None


def _always_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


AttentionInterface.register(IMPLEMENTATION, _prompted_attention)
AttentionMaskInterface.register(IMPLEMENTATION, _always_mask)


class Attachment:
    """Prompts on a branch. The branch's modules look at a copy of their config that names our attention function.

    Switching off gives the modules their own config back, so the plain model runs exactly its own code.
    """

    def __init__(self, branch: Branch, prompts: BranchPrompts, tokens: Tokens | None) -> None:
        plain = branch.transformer.config
        self._plain, self._prompted = plain, copy.copy(plain)
        self._prompted._attn_implementation = IMPLEMENTATION
        self._modules = [module for module in branch.transformer.modules() if getattr(module, "config", None) is plain]
        self._attentions: list[nn.Module] = []
        for layer, own in zip(branch.layers, prompts.layers, strict=True):
            if own.prompts.shape[0] or tokens:
                layer.attention.__dict__[_HUNG] = _Hung(layer.norm, own, tokens)
                self._attentions.append(layer.attention)
        self._enable(True)

    def _enable(self, on: bool) -> None:
        # With no prompt to hang the plain code runs: a layout of zeros is the plain model to the bit. Only configs of this
        # attachment are touched, so that one which was detached long ago cannot switch off another.
        before, after = (self._plain, self._prompted) if on and self._attentions else (self._prompted, self._plain)
        for module in self._modules:
            if module.config is before:
                module.config = after

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Inside, the branch is the plain model (the frozen teacher, zero-shot)."""
        self._enable(False)
        try:
            yield
        finally:
            self._enable(True)

    def detach(self) -> None:
        """Takes the prompts off for good: the model is as it was before."""
        self._enable(False)
        for attention in self._attentions:
            del attention.__dict__[_HUNG]
        self._attentions = []


def attach(branch: Branch, prompts: BranchPrompts, tokens: Tokens | None = None) -> Attachment:
    """Hangs `prompts` on the layers of `branch`; the model's own calls use them from now on, until `detach`.

    With `tokens` the branch takes sequences of that kind only, and they, not a mask, say which token sees which. Raises
    `DplError` where the number of layers or the width differ, or the branch has prompts already.
    """
    if len(prompts.layers) != len(branch.layers):
        raise DplError(f"{len(prompts.layers)} layers of prompts do not fit the {len(branch.layers)} of the {branch.name} branch")
    for layer, own in zip(branch.layers, prompts.layers, strict=True):
        if _HUNG in layer.attention.__dict__:
            raise DplError(f"the {branch.name} branch has prompts already; detach them first")
        if own.prompts.shape[1] != branch.width:
            raise DplError(f"prompts of width {own.prompts.shape[1]} do not fit the {branch.name} branch (width {branch.width})")
    return Attachment(branch, prompts, tokens)
