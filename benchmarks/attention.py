"""The mixture attention alone, forward and backward, at the shapes of ViT-B/16's image layers, in five ways.

    python -m benchmarks attention

plain     PyTorch's fused attention without prompts: the floor
eager     the one-pass form in plain autograd, which stores the scores
compiled  the same under torch.compile
ours      `dpl.prompts.attention.mixture_attention`
naive     a fused attention per option, over the same projected keys and values (so without the naive projections)

Before timing, all four mixtures are compared: outputs and all gradients.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.compare import relative_difference
from benchmarks.timing import markdown, medians, ratio, rounds, session
from dpl.prompts.attention import mixture_attention
from dpl.utils.files import write_json

Mixture = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, tuple[int, ...]], Tensor]
VARIANTS = ("plain", "eager", "compiled", "ours", "naive")


@dataclass(frozen=True)
class Settings:
    """Shapes, and what to measure."""

    batches: tuple[int, ...] = (16, 4)
    """Images."""
    options: tuple[int, ...] = (2, 6, 16)
    """Largest context length; 6 stands for the options 0..6."""
    heads: int = 12
    """Heads of a layer."""
    head_dim: int = 64
    """Their width."""
    tokens: int = 197
    """Tokens of an image."""
    what: tuple[str, ...] = VARIANTS
    """Which of the five."""
    runs: int = 20
    """Timed calls of each; the table shows medians."""
    warm_up: int = 3
    """Calls of each before that."""
    dtype: str = "float32"
    """Of queries, keys and values; the weights are float32."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int = 0
    """Threads of PyTorch on the CPU; 0: its own choice."""
    seed: int = 1
    """Of the inputs."""
    out: Path = Path("runs/benchmark/attention.json")
    """The JSON with all timings."""


def plain(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> Tensor:
    """No prompts."""
    return F.scaled_dot_product_attention(query, key, value)


def naive(
    query: Tensor, key: Tensor, value: Tensor, prompt_key: Tensor, prompt_value: Tensor, weights: Tensor, options: Sequence[int]
) -> Tensor:
    """An attention per option."""
    outputs: list[Tensor] = []
    rows = zip(prompt_key.split(list(options), dim=-2), prompt_value.split(list(options), dim=-2), strict=True)
    for weight, (own_key, own_value) in zip(weights, rows, strict=True):
        keys = torch.cat([key, own_key.expand(len(key), -1, -1, -1)], dim=-2)
        values = torch.cat([value, own_value.expand(len(key), -1, -1, -1)], dim=-2)
        outputs.append(weight * F.scaled_dot_product_attention(query, keys, values))
    return torch.stack(outputs).sum(dim=0)


def eager(
    query: Tensor, key: Tensor, value: Tensor, prompt_key: Tensor, prompt_value: Tensor, weights: Tensor, options: Sequence[int]
) -> Tensor:
    """The one-pass form (docs/method.md), its sums kept as logarithms: how dpl computed it before it had its own backward."""
    factor, wide = query.shape[-1] ** -0.5, torch.promote_types(query.dtype, torch.float32)
    scores = (query @ key.mT).to(wide) * factor
    prompt_scores = (query @ prompt_key.mT).to(wide) * factor
    shift = scores.detach().amax(dim=-1, keepdim=True)
    scores, prompt_scores = scores - shift, prompt_scores - shift
    lse = scores.logsumexp(dim=-1, keepdim=True)
    lse_prompts = [part.logsumexp(dim=-1) for part in prompt_scores.split(list(options[1:]), dim=-1)]
    log_z = torch.logaddexp(lse, torch.stack(lse_prompts, dim=-1))
    kept = weights[0] + torch.exp(lse - log_z) @ weights[1:, None]
    owner = torch.repeat_interleave(torch.tensor(options[1:], device=query.device), output_size=sum(options))
    prompt_probs = torch.exp(prompt_scores - log_z[..., owner]) * weights[1:][owner]
    tokens = torch.exp(scores - lse).to(value.dtype) @ value
    return (tokens * kept + prompt_probs.to(prompt_value.dtype) @ prompt_value).to(query.dtype)


def make_inputs(settings: Settings, batch: int, options: Sequence[int]) -> list[Tensor]:
    """Query, key, value, prompt keys and values, weights: leaves that want gradients. They lie in memory as in a model."""
    generator = torch.Generator().manual_seed(settings.seed)
    dtype, rows = getattr(torch, settings.dtype), sum(options)
    sizes = [(batch, settings.tokens, settings.heads, settings.head_dim)] * 3 + [(rows, settings.heads, settings.head_dim)] * 2
    drawn = [torch.randn(size, generator=generator).to(settings.device, dtype) for size in sizes]
    weights = torch.randn(len(options), generator=generator).softmax(dim=-1).to(settings.device)
    heads = [part.transpose(-3, -2).detach().requires_grad_() for part in drawn]
    return [*heads, weights.to(torch.promote_types(dtype, torch.float32)).requires_grad_()]


def call(mixture: Mixture, inputs: Sequence[Tensor], upstream: Tensor, options: tuple[int, ...]) -> list[Tensor]:
    """Output and gradients; those of inputs that do not matter are zeros."""
    query, key, value, prompt_key, prompt_value, weights = inputs
    output = mixture(query, key, value, prompt_key, prompt_value, weights, options)
    used = inputs[:3] if mixture is plain else inputs
    return [output.detach(), *torch.autograd.grad(output, list(used), upstream)]


def measure(settings: Settings, batch: int, longest: int) -> dict[str, Any]:
    """One case: `differences` from eager, and `rounds` of seconds by variant."""
    options = tuple(range(longest + 1))
    inputs = make_inputs(settings, batch, options)
    upstream = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(settings.seed + 1)).to(inputs[0])
    known: dict[str, Any] = {"plain": plain, "eager": eager, "ours": mixture_attention, "naive": naive}
    if "compiled" in settings.what:
        torch.compiler.reset()  # a new case is compiled anew, for its shapes, as in a model
        known["compiled"] = torch.compile(eager, dynamic=False)
    calls: dict[str, Callable[[], list[Tensor]]] = {
        name: partial(call, known[name], inputs, upstream, options) for name in VARIANTS if name in settings.what
    }
    entry: dict[str, Any] = {"batch": batch, "options": longest, "failed": {}, "differences": {}}
    reference = call(eager, inputs, upstream, options)
    for name in [name for name in calls if name != "plain"]:
        try:
            entry["differences"][name] = max(map(relative_difference, calls[name](), reference))
        except Exception as error:  # the compiler may fail in any way; nothing else may
            if name != "compiled":
                raise
            entry["failed"][name] = f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:300]}"
            print(f"!!! torch.compile FAILED and is left out: {entry['failed'][name]}", flush=True)
            del calls[name]
    entry["rounds"] = list(rounds(calls, settings.runs, inputs[0].device, settings.warm_up))
    return entry


def main(settings: Settings) -> None:
    """Prints the table in Markdown and writes the JSON after every case."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    data: dict[str, Any] = {"settings": {**asdict(settings), "out": str(settings.out)}, "cases": []}
    data["session"] = session(torch.device(settings.device))
    shown = [name for name in VARIANTS if name in settings.what]
    rows: list[list[Any]] = []
    for batch in settings.batches:
        for longest in settings.options:
            entry = measure(settings, batch, longest)
            data["cases"].append(entry)
            write_json(settings.out, data)
            times = medians(entry["rounds"])
            milliseconds = [f"{1e3 * times[name]:.2f}" if name in times else "failed" for name in shown]
            rows.append([batch, f"0..{longest}", *milliseconds, ratio(times, "ours", "plain"), ratio(times, "naive", "ours")])
            apart = ", ".join(f"{name} {value:.1e}" for name, value in entry["differences"].items())
            print(f"batch {batch}, options 0..{longest}: relative to eager: {apart}", flush=True)
    print(markdown(["batch", "options", *(f"{name}, ms" for name in shown), "ours / plain", "naive / ours"], rows))
    print(f"\nAll timings: {settings.out}")
