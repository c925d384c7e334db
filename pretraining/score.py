"""Score a checkpoint: zero-shot on fresh renderings with faces never trained on, and on the real digits of scikit-learn.

`python -m pretraining.score` prints a table, `--json` the same as JSON. An accuracy is a mean over rendering seeds with half the
t-based 95 % interval; the real digits are one fixed set, so their zero-shot accuracy has none.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel

from dpl.utils.statistics import mean_interval
from pretraining import captions as c
from pretraining import render
from pretraining.model import TINY, normalise

# task -> (what to draw, the field to name, template, class names, the value that a field must have)
TASKS = {
    "digits": ("digit", c.DIGIT, "a photo of the digit {}.", [str(k) for k in range(10)], None),
    "capital letters": ("letter", c.LETTER, "a photo of the capital letter {}.", list(c.LETTERS), (c.CASE, 0)),
    "lowercase letters": ("letter", c.LETTER, "a photo of the lowercase letter {}.", list(c.LETTERS), (c.CASE, 1)),
    "letters, case unsaid": ("letter", c.LETTER, "a photo of the letter {}.", list(c.LETTERS), None),
    "shapes": ("shape", c.SHAPE, "a photo of a {}.", list(c.SHAPES), None),
    "colours": ("shape", c.COLOUR, "a photo of a {} object.", list(c.COLOURS), None),
    "patterns": ("shape", c.PATTERN, "a photo of a {} shape.", list(c.PATTERNS), None),
    "counts": ("count", c.COUNT, "a photo of {} shapes.", ["zero", *c.COUNTS], None),
    "textures": ("texture", c.TEXTURE, "a texture of {}.", list(c.TEXTURES), None),
}
OTHER = "script and display faces"  # of a kind never trained on


@torch.inference_mode()
def image_features(model: CLIPModel, images: Tensor) -> Tensor:
    """Images [n, 3, SIZE, SIZE] in [0, 1] -> unit embeddings [n, projection]."""
    parts = [model.visual_projection(model.vision_model(normalise(part)).pooler_output) for part in images.split(256)]
    return torch.nn.functional.normalize(torch.cat(parts).float(), dim=-1)


@torch.inference_mode()
def text_features(model: CLIPModel, tokenizer, texts: list[str]) -> Tensor:
    """Texts -> unit embeddings [n, projection]."""
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    return torch.nn.functional.normalize(model.text_projection(model.text_model(**tokens).pooler_output).float(), dim=-1)


def zero_shot(model: CLIPModel, tokenizer, images: Tensor, template: str, names: list[str]) -> Tensor:
    """The index of the best class name for each image."""
    texts = text_features(model, tokenizer, [template.format(name) for name in names])
    return (image_features(model, images) @ texts.T).argmax(1)


def draw_task(task: str, seed: int, count: int, faces: str = "held_out") -> tuple[Tensor, Tensor]:
    """Images and labels of a task, with held-out text faces, or the scripts and display faces of `held_out other`."""
    kind, field, _, _, only = TASKS[task]
    g = render.generator(seed, 100 + list(TASKS).index(task))
    attributes = render.draw_attributes(g, count, {kind: 1.0})
    if only is not None:
        attributes[:, only[0]] = only[1]
    return render.render(attributes, render.load_atlas(faces), g), attributes[:, field]


def real_digits() -> tuple[Tensor, np.ndarray]:
    """scikit-learn's 1797 UCI digits [1797, 3, SIZE, SIZE] in [0, 1] and labels: 8 x 8, white on black, enlarged by PIL."""
    from PIL import Image
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    small = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    side = (render.SIZE, render.SIZE)
    large = np.stack([np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BICUBIC)) for image in small])
    return torch.from_numpy(large).float().div(255)[:, None].expand(-1, 3, -1, -1), np.asarray(labels)


def linear_probe(features: np.ndarray, labels: np.ndarray, seed: int, shots: int = 16, strength: float = 10.0) -> float:
    """Test accuracy of a logistic regression on `shots` random images per class; C is fixed, the rest of the images the test."""
    from sklearn.linear_model import LogisticRegression

    order = np.random.default_rng(seed).permutation(len(labels))
    train = np.concatenate([order[labels[order] == label][:shots] for label in range(10)])
    test = np.setdiff1d(order, train)
    fitted = LogisticRegression(C=strength, max_iter=2000).fit(features[train], labels[train])
    return float((fitted.predict(features[test]) == labels[test]).mean())


def quick_scores(model: CLIPModel, tokenizer, count: int = 400) -> dict[str, float]:
    """Cheap scores for the training log: few renderings a task, all real digits, one probe."""
    scores = {}
    for task in ("digits", "capital letters", "lowercase letters", "shapes", "colours", "patterns", "counts", "textures"):
        images, labels = draw_task(task, 1, count)
        _, _, template, names, _ = TASKS[task]
        scores[task] = (zero_shot(model, tokenizer, images, template, names) == labels).float().mean().item()
    images, labels = real_digits()
    _, _, template, names, _ = TASKS["digits"]
    scores["uci"] = (zero_shot(model, tokenizer, images, template, names).numpy() == labels).mean().item()
    scores["uci_probe"] = linear_probe(image_features(model, images).numpy(), labels, 1)
    return {name: round(value, 4) for name, value in scores.items()}


def scores(model: CLIPModel, tokenizer, seeds: int, count: int) -> dict[str, dict[str, float]]:
    """Everything that the model card reports: name -> mean and half-interval, both in 0-1."""
    table = {}
    other = {f"{task}, {OTHER}": task for task in ("digits", "capital letters", "lowercase letters")}
    for row, task in [*((task, task) for task in TASKS), *other.items()]:
        values = []
        for seed in range(1, seeds + 1):
            images, labels = draw_task(task, 1000 + seed, count, "held_out other" if row in other else "held_out")
            _, _, template, names, _ = TASKS[task]
            values.append((zero_shot(model, tokenizer, images, template, names) == labels).float().mean().item())
        accuracy = mean_interval(values)
        table[row] = {"accuracy": accuracy.mean, "interval": accuracy.half or 0.0, "images": seeds * count}
    images, labels = real_digits()
    _, _, template, names, _ = TASKS["digits"]
    guess = zero_shot(model, tokenizer, images, template, names).numpy()
    table["UCI digits"] = {"accuracy": float((guess == labels).mean()), "interval": 0.0, "images": len(labels)}
    features = image_features(model, images).numpy()
    probed = mean_interval([linear_probe(features, labels, seed) for seed in (1, 2, 3)])
    measured = {"accuracy": probed.mean, "interval": probed.half or 0.0, "images": len(labels) - 160}
    table["UCI digits, linear probe, 16 shots"] = measured
    return table


def confusions(model: CLIPModel, tokenizer, task: str, count: int, top: int = 6) -> list[str]:
    """The most frequent mistakes of a task: `shown read as said (share of shown)`."""
    _, _, template, names, _ = TASKS[task]
    images, labels = draw_task(task, 1001, count)
    guess = zero_shot(model, tokenizer, images, template, names)
    matrix = torch.zeros(len(names), len(names))
    matrix.index_put_((labels, guess), torch.tensor(1.0), accumulate=True)
    share = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    share.fill_diagonal_(0)
    best = share.flatten().topk(top)
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return [f"{names[i // len(names)]} read as {names[i % len(names)]} ({value:.0%})" for value, i in pairs]


def main() -> None:
    """Print the scores of a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=TINY, help="a folder in Hugging Face format")
    parser.add_argument("--seeds", type=int, default=5, help="renderings to average")
    parser.add_argument("--count", type=int, default=1000, help="images a task and seed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    model, tokenizer = CLIPModel.from_pretrained(args.checkpoint).eval(), AutoTokenizer.from_pretrained(args.checkpoint)
    table = scores(model, tokenizer, args.seeds, args.count)
    mistakes = {t: confusions(model, tokenizer, t, 2000) for t in ("digits", "capital letters", "lowercase letters", "shapes")}
    if args.json:
        print(json.dumps({"scores": table, "confusions": mistakes}, indent=1))
        return
    print("| task | accuracy, % | images |\n| --- | --- | --- |")
    for name, row in table.items():
        half = f" ± {100 * row['interval']:.1f}" if row["interval"] else ""
        print(f"| {name} | {100 * row['accuracy']:.1f}{half} | {row['images']} |")
    for name, pairs in mistakes.items():
        print(f"{name}: {'; '.join(pairs)}")


if __name__ == "__main__":
    main()
