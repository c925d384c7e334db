"""Train `pictures` from scratch on pictures of the corpus and renderings.

    torchrun --nproc-per-node 2 -m pretraining.pictures.train --corpus FOLDER --out RUN      # or python -m, one process

Run it again to continue: a step's data depend only on (seed, step, process). The learning rate warms up and stays. `--decay N`
ends the run: the rate decays over the next N images, seen in full resolution. `decay.json` in RUN keeps this plan, so that
an interrupted decay continues. `--publish FOLDER` writes the checkpoint at the end.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from dpl.utils.files import write_json
from pretraining.model import new_model, publish
from pretraining.pictures.augment import SIZE
from pretraining.pictures.batches import Batch, batch
from pretraining.pictures.model import Anchored, image_embeddings, pictures_config, read_tokenizer, text_embeddings
from pretraining.pictures.pictures import Corpus, read_shards
from pretraining.pictures.score import quick_scores
from pretraining.train import build_optimizers, contrastive_loss, load_state, rate, save_state, update

FOREVER = 10**12
LOSSES = {True: "loss", False: "image loss"}  # names in the log of steps with and without texts


def step_loss(model: Anchored, tokenizer: CLIPTokenizer, drawn: Batch, side: int, with_texts: bool) -> Tensor:
    """The loss of one batch of images reduced to `side` pixels.

    Args:
        model: CLIP and its anchors.
        tokenizer: Of the captions.
        drawn: The batch.
        side: Pixels of an image's side.
        with_texts: Whether captions take part. Without, images are drawn to the anchors of their concepts alone, at half the
            cost: the text branch knows names long before the image branch knows their pictures.
    """
    with torch.autocast("cpu", torch.bfloat16):
        pictures = image_embeddings(model.clip, drawn.images, side)
    pictures = F.normalize(pictures.float(), dim=-1)
    loss = model.concept_loss(pictures[: len(drawn.image_concepts)], drawn.image_concepts)
    if not with_texts:
        return loss
    with torch.autocast("cpu", torch.bfloat16):
        words = text_embeddings(model.clip, tokenizer, drawn.texts)
    words = F.normalize(words.float(), dim=-1)
    contrastive = contrastive_loss(pictures @ words.T * model.logit_scale.exp(), drawn.positive)
    return loss + contrastive + model.concept_loss(words[: len(drawn.text_concepts)], drawn.text_concepts)


def shared_tokenizer(out: Path, corpus: Corpus, rank: int, world: int) -> CLIPTokenizer:
    """The run's tokenizer; the first process learns it before the others read it."""
    if rank > 0:
        dist.barrier()
    tokenizer = read_tokenizer(out, corpus)
    if rank == 0 and world > 1:
        dist.barrier()
    return tokenizer


def plan(out: Path, seen: int, decay: int) -> tuple[int, int]:
    """Images after which the decay begins and ends; the first `--decay` fixes both."""
    file = out / "decay.json"
    if decay and not file.exists():
        write_json(file, {"start": seen, "end": seen + decay})
    if not file.exists():
        return FOREVER, FOREVER
    stored = json.loads(file.read_text())
    return stored["start"], stored["end"]


def record(out: Path, entry: dict[str, float]) -> None:
    """Add a line to the log."""
    line = json.dumps({name: round(value, 5) for name, value in entry.items()})
    print(line, flush=True)
    with (out / "log.jsonl").open("a") as file:
        file.write(line + "\n")


def train(args: argparse.Namespace, rank: int = 0, world: int = 1) -> CLIPModel:
    """Train until the decay ends, or until `args.samples`. Each of `world` processes draws its share of a batch."""
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    shards, held = read_shards(args.corpus, "train"), read_shards(args.corpus, "shift") + read_shards(args.corpus, "kept")
    corpus = Corpus(shards)
    tokenizer = shared_tokenizer(args.out, corpus, rank, world)
    model = Anchored(new_model(pictures_config(tokenizer, args.width, args.layers)), len(corpus.concepts))
    model.clip.set_attn_implementation("eager")  # faster on CPU for few tokens, as for `tiny`
    optimizers = build_optimizers(model, args.lr, args.matrix_lr, args.weight_decay)
    state = args.out / "state.safetensors"
    step, seen = load_state(state, model, optimizers) if state.exists() else (0, 0)
    decay_start, decay_end = plan(args.out, seen, args.decay)
    end = min(decay_end, args.samples)
    started = saved = time.monotonic()
    scored, losses = seen, {True: [], False: []}
    while seen < end:
        factor = rate(seen, args.warmup, decay_start, decay_end)
        for optimizer, peak in zip(optimizers, (args.matrix_lr, args.lr), strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
        side = args.side if seen < decay_start else SIZE
        with_texts = step % args.text_every == 0
        drawn = batch(corpus, args.seed, step * world + rank, args.batch // world, with_texts)
        loss = step_loss(model, tokenizer, drawn, side, with_texts)
        update(model, model.logit_scale, optimizers, loss, world)
        step, seen = step + 1, seen + args.batch
        if rank > 0:  # scores, logs and files are the first process's affair; the others wait at the next exchange
            continue
        losses[with_texts].append(loss.item())
        done = seen >= end
        if step % args.log_every == 0 or done:
            entry = {"step": step, "seen": seen, "lr": args.lr * factor, "seconds": time.monotonic() - started}
            entry |= {name: sum(losses[key]) / len(losses[key]) for key, name in LOSSES.items() if losses[key]}
            entry |= {"scale": model.logit_scale.exp().item()}
            losses = {True: [], False: []}
            if seen - scored >= args.score_every or done:
                entry |= quick_scores(model.clip.eval(), tokenizer, shards, held, side)
                model.train()
                scored = seen
            record(args.out, entry)
        if time.monotonic() - saved > args.save_seconds or done:
            save_state(state, model, optimizers, step, seen)
            saved = time.monotonic()
    if args.publish and rank == 0 and seen >= decay_end:
        publish(model.clip.bfloat16(), tokenizer, args.publish)
    return model.clip


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that pretraining.pictures.corpus wrote")
    parser.add_argument("--out", type=Path, required=True, help="state and log; what is there is continued")
    parser.add_argument("--decay", type=int, default=0, help="end the run: decay over so many images from here")
    parser.add_argument(
        "--publish", type=Path, default=None, help="write the checkpoint there, in bfloat16, when the decay has ended"
    )
    parser.add_argument("--samples", type=int, default=FOREVER, help="pause after so many images, without a decay")
    parser.add_argument("--warmup", type=int, default=10_000, help="images of linear warm-up")
    parser.add_argument("--batch", type=int, default=256, help="images (and captions) a step, over all processes")
    parser.add_argument("--side", type=int, default=32, help="pixels of an image's side before the decay; a multiple of 8")
    parser.add_argument(
        "--text-every", type=int, default=4, help="steps from one with captions to the next; between, images alone"
    )
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate of AdamW: embeddings, projections, norms")
    parser.add_argument("--matrix-lr", type=float, default=3e-3, help="peak learning rate of Muon: the layers' matrices")
    parser.add_argument("--weight-decay", type=float, default=0.05, help="of the layers' matrices")
    parser.add_argument("--width", type=int, default=192, help="of both branches; a multiple of 32")
    parser.add_argument("--layers", type=int, default=6, help="of each branch")
    parser.add_argument("--seed", type=int, default=1, help="of the weights and every batch")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in each process")
    parser.add_argument("--log-every", type=int, default=20, help="steps between lines of the log")
    parser.add_argument("--score-every", type=int, default=20_000, help="images between scorings")
    parser.add_argument("--save-seconds", type=float, default=120, help="seconds between saved states")
    return parser.parse_args(argv)


def main() -> None:
    """Train, as one of torchrun's processes or alone."""
    args = arguments()
    torch.set_num_threads(args.threads)
    world = int(os.environ.get("WORLD_SIZE", "1"))  # set by torchrun
    if world > 1:
        dist.init_process_group("gloo")
    train(args, int(os.environ.get("RANK", "0")), world)


if __name__ == "__main__":
    main()
