"""Adds prompts to the layers of a Hugging Face transformer without forking the model.

transformers looks up the attention and the mask function by a name in the `config` of its modules. This module registers an
attention function that adds prompts, and a mask function that always builds the mask: without one ("is_causal") SDPA would drop
the prompt keys. The modules of a branch get a config that gives the name of these functions where the branch has prompts, and
the model's own name elsewhere, so that the plain model runs its own code.

A branch has prompts in one of two ways. `prompted` adds them for the calls of the running thread (more exactly, of the running
`contextvars.Context`), so that any number of threads can use one model with different prompts. `attach` adds them for all
threads, until they are detached. Neither writes to a module during a call, and `state_dict` does not change.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from threading import Lock
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from dpl.backbones.branch import Branch, Layer
from dpl.prompts.attention_probe import emit
from dpl.prompts.modules import BranchPrompts, LayerPrompts
from dpl.prompts.visibility import MaskedTokens, PromptInputs, TokenInputs, TokenVisibility, fused_attention
from dpl.utils.errors import DplError

IMPLEMENTATION = "dpl_prompts"
_UNSUPPORTED = ("softcap", "s_aux", "position_bias")  # arguments of transformers' attention functions that change the result
_PLAIN: Any = PreTrainedConfig.__dict__["_attn_implementation"]
"""The property of transformers that holds the name of a model's own functions."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer, its prompts, and the visibility of its tokens (None: the attention mask defines it)."""

    layer: Layer
    prompts: LayerPrompts
    visibility: TokenVisibility | None


@dataclass(frozen=True, eq=False)
class _Added:
    """The prompts of a branch; `layers` has the attention modules with prompts or with sequences of a given kind."""

    prompts: BranchPrompts | None
    layers: Mapping[nn.Module, _Layer]


_NOTHING = _Added(None, {})
_local: ContextVar[Mapping[int, _Added]] = ContextVar("prompts", default=MappingProxyType({}))
"""The prompts of the running context, by the id of the branch's config."""
_install_lock = Lock()


class _Prompted:
    """Mixin of a config that names our attention function where its branch has prompts.

    It shares the attributes of the plain config, so that a change of one is a change of both.
    """

    __slots__ = ()
    attached: _Added

    def added(self) -> _Added:
        """Returns the prompts of the running context, or else those of all threads."""
        return _local.get().get(id(self), self.attached)

    @property
    def _attn_implementation(self) -> str | None:
        if self.added().layers:
            return IMPLEMENTATION
        return _PLAIN.__get__(self)

    @_attn_implementation.setter
    def _attn_implementation(self, value: str | dict[str, Any] | None) -> None:
        _PLAIN.__set__(self, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles the config as one of its own class, with the prompts of all threads."""
        return _new, (type(self).__bases__[1],), (self.__dict__, {"attached": self.attached})


@cache
def _prompted_class(kind: type) -> type:
    return type(kind.__name__, (_Prompted, kind), {"__slots__": ("attached",), "__module__": kind.__module__})


def _new(kind: type) -> Any:
    config = object.__new__(_prompted_class(kind))
    config.attached = _NOTHING
    return config


def _config(branch: Branch) -> Any:
    """Returns the config of the branch's modules that can name our attention function; installs it on the first call."""
    with _install_lock:
        plain = branch.config
        if isinstance(plain, _Prompted):
            return plain
        config = _new(type(plain))
        config.__dict__ = plain.__dict__
        for module in branch.transformer.modules():
            if getattr(module, "config", None) is plain:
                module.config = config
        return config


def _prompted_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    output_attentions: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Implements transformers' attention interface; returns (batch, tokens, heads, head_dim)."""
    if unknown := [name for name in _UNSUPPORTED if others.get(name) is not None]:
        raise DplError(f"{type(module).__name__}: uses {', '.join(unknown)}, which attention with prompts does not support")
    if dropout:
        raise DplError(f"attention dropout {dropout}: prompts need a frozen backbone; call its eval()")
    if output_attentions or module.config.output_attentions:
        # transformers would return an empty tuple: fused attention stores no weights, and a mixture has one set per option.
        raise DplError(
            "output_attentions: a model with prompts gives no attention weights; detach the prompts,"
            " or run the plain model in Attachment.disabled(), with eager attention"
        )
    own = module.config.added().layers.get(module)
    groups = query.shape[1] // key.shape[1]  # above 1 where several heads of queries share a head of keys and values
    if own is None:
        output = fused_attention(query, _repeated(key, groups), _repeated(value, groups), attention_mask, scaling)
    else:
        # The prompts pass through the layer's own norm, K and V once per call, not per sample. They stay fp32 in any model.
        norm, prompts = own.layer.norm, own.prompts
        normed = norm(prompts.prompts.to(norm.weight.dtype))
        heads = (normed.shape[0], key.shape[1], key.shape[-1])
        projected = [getattr(module, name)(normed).view(heads).transpose(0, 1)[None] for name in own.layer.projections]
        prompt_key, prompt_value = (_repeated(heads.to(key.dtype), groups)[0] for heads in projected)
        tokens = TokenInputs(query, _repeated(key, groups), _repeated(value, groups), scaling)
        inputs = PromptInputs(prompt_key, prompt_value, prompts.log_gates)
        visibility = own.visibility or MaskedTokens(attention_mask)
        output = prompts.attend(tokens, inputs, visibility)
        emit(module, visibility, tokens, inputs)
    return output.transpose(1, 2).contiguous(), None


def _repeated(heads: Tensor, groups: int) -> Tensor:
    """Repeats every head of (batch, heads, tokens, head_dim) for the queries that share it."""
    return heads.repeat_interleave(groups, dim=1) if groups > 1 else heads


def _always_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


AttentionInterface.register(IMPLEMENTATION, _prompted_attention)
AttentionMaskInterface.register(IMPLEMENTATION, _always_mask)


def _added(branch: Branch, prompts: BranchPrompts, tokens: TokenVisibility | None) -> _Added:
    """Checks that `prompts` fit a branch without prompts; see `attach`."""
    if len(prompts.layers) != len(branch.layers):
        raise DplError(f"{len(prompts.layers)} layers of prompts do not fit the {len(branch.layers)} of the {branch.name} branch")
    for own in prompts.layers:
        if own.prompts.shape[1] != branch.width:
            raise DplError(f"prompts of width {own.prompts.shape[1]} do not fit the {branch.name} branch (width {branch.width})")
    config = branch.config
    if isinstance(config, _Prompted) and config.added().prompts is not None:
        raise DplError(f"the {branch.name} branch has prompts already; detach them first")
    layers = {
        layer.attention: _Layer(layer, own, tokens)
        for layer, own in zip(branch.layers, prompts.layers, strict=True)
        if own.prompts.shape[0] or tokens
    }
    return _Added(prompts, layers)


@contextmanager
def _in_this_context(config: Any, added: _Added) -> Iterator[None]:
    token = _local.set(MappingProxyType({**_local.get(), id(config): added}))
    try:
        yield
    finally:
        _local.reset(token)


@contextmanager
def prompted(branch: Branch, prompts: BranchPrompts, tokens: TokenVisibility | None = None) -> Iterator[None]:
    """Context manager: the branch has `prompts` inside, for the calls of the running thread.

    A thread that is started inside has no prompts unless it runs in a copy of the context (`contextvars.copy_context`). With
    gradient checkpointing on a GPU the backward pass runs in threads of its own: use `attach`.

    Args:
        branch: the image or text branch of a backbone.
        prompts: the prompts of all layers, each (rows, `branch.width`).
        tokens: the tokens that each query attends to, instead of the attention mask; None keeps the mask.

    Raises:
        DplError: the number of layers or the width differs, or the branch has prompts already.
    """
    added = _added(branch, prompts, tokens)
    with _in_this_context(_config(branch), added):
        yield


def is_prompted(branch: Branch, prompts: BranchPrompts) -> bool:
    """Tells whether the branch has `prompts` in the running thread."""
    config = branch.config
    return isinstance(config, _Prompted) and config.added().prompts is prompts


class Attachment:
    """Prompts attached to a branch for all threads, by `attach`."""

    def __init__(self, branch: Branch, prompts: BranchPrompts, tokens: TokenVisibility | None) -> None:
        self._added, self._plain = _added(branch, prompts, tokens), branch.config
        self._config = _config(branch)
        self._modules = [module for module in branch.transformer.modules() if getattr(module, "config", None) is self._config]
        self._config.attached = self._added

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Context manager: the branch is the plain model inside, for a frozen teacher or zero-shot evaluation.

        This holds for the running thread. It does nothing after `detach`.
        """
        if self._config.attached is not self._added:
            yield
            return
        with _in_this_context(self._config, _NOTHING):
            yield

    def detach(self) -> None:
        """Removes the prompts for good and restores the model. Other prompts, attached since, stay."""
        if self._config.attached is not self._added:
            return
        self._config.attached = _NOTHING
        if self._plain is not self._config:  # this attachment has installed the config
            for module in self._modules:
                module.config = self._plain


def attach(branch: Branch, prompts: BranchPrompts, tokens: TokenVisibility | None = None) -> Attachment:
    """Attaches `prompts` to the layers of `branch`; the model's own calls use them, in all threads, until `Attachment.detach`.

    Args:
        branch: the image or text branch of a backbone.
        prompts: the prompts of all layers, each (rows, `branch.width`).
        tokens: the tokens that each query attends to, instead of the attention mask; None keeps the mask.

    Returns:
        The attachment, enabled.

    Raises:
        DplError: the number of layers or the width differs, or the branch has prompts already.
    """
    return Attachment(branch, prompts, tokens)
