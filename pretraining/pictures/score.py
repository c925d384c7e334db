"""Score a checkpoint on pictures that pretraining never saw: zero-shot accuracy, linear probes, retrieval.

    python -m pretraining.pictures.score --corpus FOLDER [--checkpoint FOLDER] [--json]

Concepts are names of emoji, the commonest first: by the number of training pictures that have the name. Pictures lie on white.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel

from dpl.utils.statistics import mean_interval
from pretraining.captions import article
from pretraining.pictures.model import image_embeddings
from pretraining.pictures.pictures import Shard, read_shards
from pretraining.score import TASKS, draw_task, text_features

FOLDER = Path(__file__).parents[2] / "src/dpl/backbones/pictures"
TEMPLATE = "an emoji of {}."
SHOTS, LEAST = 8, 24  # a probe's training pictures a class, and the fewest pictures that a class must have


@torch.inference_mode()
def image_features(
    model: CLIPModel, images: Float[Tensor, "images 3 side side"], side: int | None = None
) -> Float[Tensor, "images projection"]:
    """Unit embeddings of images in [0, 1], resized to the model's size, then to `side` pixels where training has a lower one."""
    size = cast(int, model.vision_model.embeddings.image_size)
    images = F.interpolate(images, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
    parts = [image_embeddings(model, part, side or size) for part in images.split(256)]
    return F.normalize(torch.cat(parts).float(), dim=-1)


def on_white(shard: Shard, indices: list[int]) -> Float[Tensor, "images 3 72 72"]:
    """Stored pictures on white."""
    pixels = torch.from_numpy(np.array(shard.pixels[indices])).float() / 255
    alpha = pixels if pixels.ndim == 3 else pixels[..., 3]
    rgb = torch.zeros(()) if pixels.ndim == 3 else pixels[..., :3]
    return (1 + alpha[..., None] * (rgb - 1)).expand(*alpha.shape, 3).permute(0, 3, 1, 2)


def commonest(train: list[Shard], held: Shard, count: int) -> list[int]:
    """Indices of the held-out emoji whose names most training pictures have; ties by name."""
    having = Counter(name for shard in train for label in shard.labels for name in label.names)
    known = {label.names[0] for shard in train if shard.kind == "emoji" for label in shard.labels}
    names = {index: label.names[0] for index, label in enumerate(held.labels) if label.names[0] in known}
    return sorted(names, key=lambda index: (-having[names[index]], names[index]))[:count]


def retrieval(model: CLIPModel, tokenizer, held: Shard, indices: list[int], side: int | None = None) -> dict[str, float]:
    """Zero-shot accuracy over the concepts at `indices`, and recall at 5 both ways; one picture a concept."""
    texts = text_features(model, tokenizer, [TEMPLATE.format(article(held.labels[index].names[0])) for index in indices])
    similarity = image_features(model, on_white(held, indices), side) @ texts.T
    own = similarity.diagonal()

    def recall(rank: Int[Tensor, "concepts"], at: int) -> float:
        return (rank < at).float().mean().item()

    by_image, by_text = (similarity > own[:, None]).sum(1), (similarity > own).sum(0)
    return {"zero-shot": recall(by_image, 1), "text recall at 5": recall(by_image, 5), "image recall at 5": recall(by_text, 5)}


def quick_scores(model: CLIPModel, tokenizer, train: list[Shard], held: list[Shard], side: int) -> dict[str, float]:
    """Zero-shot accuracy at `side` pixels on each held-out emoji vendor, over its 100 and 500 commonest concepts."""
    scores = {}
    for shard in held:
        if shard.kind == "emoji":
            for count in (100, 500):
                score = retrieval(model, tokenizer, shard, commonest(train, shard, count), side)
                scores[f"{shard.name} {count}"] = score["zero-shot"]
    return scores


def classes(shard: Shard) -> tuple[list[int], np.ndarray]:
    """Pictures and classes of a probe: emoji by subgroup, clip art by folder, each of at least LEAST pictures."""
    keys = [label.group if shard.kind == "emoji" else " ".join(label.keywords) for label in shard.labels]
    counts = Counter(key for key in keys if key)
    names = sorted(key for key, count in counts.items() if count >= LEAST)
    indices = [index for index, key in enumerate(keys) if key in names]
    return indices, np.array([names.index(keys[index]) for index in indices])


def probe(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Mean accuracy over classes of a logistic regression on SHOTS random pictures a class, tested on the rest."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    order = np.random.default_rng(seed).permutation(len(labels))
    train = np.concatenate([order[labels[order] == label][:SHOTS] for label in range(labels.max() + 1)])
    test = np.setdiff1d(order, train)
    fitted = LogisticRegression(C=10.0, max_iter=2000).fit(features[train], labels[train])
    return float(balanced_accuracy_score(labels[test], fitted.predict(features[test])))


def scores(model: CLIPModel, tokenizer, train: list[Shard], held: list[Shard]) -> dict[str, dict[str, float]]:
    """Everything that the model card reports, in 0-1."""
    table: dict[str, dict[str, float]] = {}
    for shard in held:
        if shard.kind == "emoji":
            for count in (100, 500):
                chosen = commonest(train, shard, count)
                table[f"{shard.name}, {len(chosen)} concepts"] = retrieval(model, tokenizer, shard, chosen)
        indices, labels = classes(shard)
        if len(set(labels.tolist())) > 1:
            features = image_features(model, on_white(shard, indices)).numpy()
            probed = mean_interval([probe(features, labels, seed) for seed in (1, 2, 3)])
            measured = {f"linear probe, {SHOTS} shots": probed.mean, "interval": probed.half or 0.0}
            table[f"{shard.name}, {labels.max() + 1} classes"] = measured
    return table | {f"renderings, {task}": {"zero-shot": renderings(model, tokenizer, task)} for task in TASKS}


def renderings(model: CLIPModel, tokenizer, task: str, count: int = 1000) -> float:
    """Zero-shot accuracy on a task of `tiny`, with faces never trained on."""
    images, labels = draw_task(task, 1001, count)
    _, _, template, names, _ = TASKS[task]
    texts = text_features(model, tokenizer, [template.format(name) for name in names])
    return ((image_features(model, images) @ texts.T).argmax(1) == labels).float().mean().item()


def main() -> None:
    """Print the scores of a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that pretraining.pictures.corpus wrote")
    parser.add_argument("--checkpoint", type=Path, default=FOLDER, help="a folder in Hugging Face format")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    model = CLIPModel.from_pretrained(args.checkpoint, dtype=torch.float32).eval()
    held = read_shards(args.corpus, "shift") + read_shards(args.corpus, "kept")
    table = scores(model, AutoTokenizer.from_pretrained(args.checkpoint), read_shards(args.corpus, "train"), held)
    if args.json:
        print(json.dumps(table, indent=1))
        return
    print("| pictures | score | % |\n| --- | --- | --- |")
    for name, row in table.items():
        half = f" ± {100 * row['interval']:.1f}" if "interval" in row else ""
        for measure, value in row.items():
            if measure != "interval":
                print(f"| {name} | {measure} | {100 * value:.1f}{half} |")


if __name__ == "__main__":
    main()
