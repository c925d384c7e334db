"""Train the tiny CLIP from scratch on rendered image-caption pairs.

torchrun --nproc-per-node 2 -m pretraining.train --out runs/pretraining      (or python -m pretraining.train, one process)

Two processes of one thread beat one process of two on a shared CPU, where each small operation waits for the slower thread.
Run it again to continue: a step's data depend only on (seed, step, process), so a resumed run equals an uninterrupted one to the
bit. The schedule is warm-up, stable, decay (Hu et al. 2024, MiniCPM, arXiv:2404.06395): until the decay begins, `--samples` and
`--decay-start` may be changed at every continuation.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import CLIPModel, CLIPTokenizer

from pretraining import captions, render
from pretraining.model import TINY, build_tokenizer, new_model, normalise, publish, tiny_config
from pretraining.score import quick_scores


def rate(seen: int, warmup: int, decay_start: int, total: int, floor: float = 0.01) -> float:
    """The learning rate's factor after `seen` samples: linear warm-up, 1, linear decay to `floor` at `total`."""
    if seen < warmup:
        return (seen + 1) / warmup
    if seen < decay_start:
        return 1.0
    return max(floor, 1 - (1 - floor) * (seen - decay_start) / max(1, total - decay_start))


def contrastive_loss(logits: Float[Tensor, "images captions"], positive: Bool[Tensor, "images captions"]) -> Tensor:
    """Cross-entropy both ways against row-normalised positives (UniCL, Yang et al. 2022, arXiv:2204.03610, eq. 3-5)."""

    def one_way(logits: Tensor, target: Tensor) -> Tensor:
        return -(F.log_softmax(logits, 1) * target / target.sum(1, keepdim=True)).sum(1).mean()

    target = positive.float()
    return (one_way(logits, target) + one_way(logits.T, target.T)) / 2


def step_loss(model: CLIPModel, tokenizer: CLIPTokenizer, seed: int, step: int, batch: int) -> Tensor:
    """The loss of one batch, drawn from (seed, step)."""
    attributes, images = render.batch("train", render.generator(seed, 0, step), batch)
    texts, positive = captions.captions(attributes, seed * 1_000_003 + step)
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.autocast("cpu", torch.bfloat16):
        pictures = model.visual_projection(model.vision_model(normalise(images)).pooler_output)
        words = model.text_projection(model.text_model(**tokens).pooler_output)
    logits = F.normalize(pictures.float(), dim=-1) @ F.normalize(words.float(), dim=-1).T
    return contrastive_loss(logits * model.logit_scale.exp(), positive)


def build_optimizers(model: nn.Module, lr: float, matrix_lr: float, weight_decay: float) -> list[Optimizer]:
    """Muon (Jordan 2024, kellerjordan.github.io/posts/muon) for the layers' matrices; AdamW for the rest, not decayed."""
    matrices = [p for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2]
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    muon = torch.optim.Muon(matrices, lr=matrix_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0, fused=True)]


def save_state(path: Path, model: nn.Module, optimizers: list[Optimizer], step: int, seen: int) -> None:
    """Weights and the optimisers' moments in one file, step and samples in its header; written aside, then renamed."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for which, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{which}.{index}.{name}": value for name, value in state.items()}
    aside = path.with_suffix(".tmp")
    save_file(tensors, aside, metadata={"progress": json.dumps({"step": step, "seen": seen})})
    aside.replace(path)


def load_state(path: Path, model: nn.Module, optimizers: list[Optimizer]) -> tuple[int, int]:
    """Restore what save_state wrote; returns step and samples seen."""
    from safetensors import safe_open

    tensors = load_file(path)
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    for which, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(f"optimizer.{which}."):
                _, _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    with safe_open(path, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
    return progress["step"], progress["seen"]


def average_gradients(model: nn.Module, world: int) -> None:
    """Average the gradients over the processes, in one exchange."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, (flat / world).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def update(model: nn.Module, scale: Tensor, optimizers: list[Optimizer], loss: Tensor, world: int) -> None:
    """One step of every optimiser on the gradients of all processes; `scale` is the model's logarithm of the logits' scale."""
    loss.backward()
    if world > 1:
        average_gradients(model, world)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    model.zero_grad()
    with torch.no_grad():
        scale.clamp_(max=math.log(100))  # as in CLIP


def record(args: argparse.Namespace, model: CLIPModel, tokenizer: CLIPTokenizer, entry: dict[str, float], score: bool) -> None:
    """Add a line to the log; where `score`, score the model first and publish it."""
    if score:
        entry = entry | quick_scores(model.eval(), tokenizer)
        model.train()
        if args.publish:
            publish(model, tokenizer, args.publish)
    with (args.out / "log.jsonl").open("a") as file:
        file.write(json.dumps({name: round(value, 6) for name, value in entry.items()}) + "\n")


def train(args: argparse.Namespace, rank: int = 0, world: int = 1) -> CLIPModel:
    """Train until `args.samples`; see `arguments` for what each is. Each of `world` processes draws its share of a batch."""
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    tokenizer = build_tokenizer()
    model = new_model(tiny_config(tokenizer, args.width, args.layers))
    model.set_attn_implementation("eager")  # for 37 tokens twice as fast on CPU as the fused kernel, whose backward is slow
    optimizers = build_optimizers(model, args.lr, args.matrix_lr, args.weight_decay)
    state = args.out / "state.safetensors"
    step, seen = load_state(state, model, optimizers) if state.exists() else (0, 0)
    started = saved = time.monotonic()
    scored, losses = seen, []
    while seen < args.samples:
        factor = rate(seen, args.warmup, args.decay_start, args.samples)
        for optimizer, peak in zip(optimizers, (args.matrix_lr, args.lr), strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
        loss = step_loss(model, tokenizer, args.seed, step * world + rank, args.batch // world)
        update(model, model.logit_scale, optimizers, loss, world)
        step, seen = step + 1, seen + args.batch
        if rank > 0:  # scores, logs and files are the first process's affair; the others wait at the next exchange
            continue
        losses.append(loss.item())
        done = seen >= args.samples
        if step % args.log_every == 0 or done:
            score = seen - scored >= args.score_every or done
            entry = {"step": step, "seen": seen, "lr": args.lr * factor, "seconds": round(time.monotonic() - started, 1)}
            entry |= {"loss": sum(losses) / len(losses), "scale": model.logit_scale.exp().item()}
            record(args, model, tokenizer, entry, score)
            scored, losses = seen if score else scored, []
        if time.monotonic() - saved > args.save_seconds or done:
            save_state(state, model, optimizers, step, seen)
            saved = time.monotonic()
    return model


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"), help="state and log; what is there is continued")
    parser.add_argument("--publish", type=Path, default=None, help=f"checkpoint folder to replace at every scoring, e.g. {TINY}")
    parser.add_argument("--samples", type=int, default=500_000, help="stop after so many images")
    parser.add_argument("--decay-start", type=int, default=320_000, help="images after which the learning rate decays")
    parser.add_argument("--warmup", type=int, default=20_000, help="images of linear warm-up")
    parser.add_argument("--batch", type=int, default=128, help="images (and captions) a step")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate of AdamW: embeddings, projections, norms")
    parser.add_argument("--matrix-lr", type=float, default=3e-3, help="peak learning rate of Muon: the layers' matrices")
    parser.add_argument("--weight-decay", type=float, default=0.05, help="of the layers' matrices")
    parser.add_argument("--width", type=int, default=128, help="of both branches; a multiple of 32")
    parser.add_argument("--layers", type=int, default=6, help="of each branch")
    parser.add_argument("--seed", type=int, default=1, help="of the weights and every batch")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in each process")
    parser.add_argument("--log-every", type=int, default=20, help="steps between lines of the log")
    parser.add_argument("--score-every", type=int, default=50_000, help="images between scorings")
    parser.add_argument("--save-seconds", type=float, default=60, help="seconds between saved states")
    return parser.parse_args(argv)


if __name__ == "__main__":
    args = arguments()
    torch.set_num_threads(args.threads)
    world = int(os.environ.get("WORLD_SIZE", "1"))  # set by torchrun
    if world > 1:
        dist.init_process_group("gloo")
    train(args, int(os.environ.get("RANK", "0")), world)
