"""A training step of every method that learns by steps, beside its floor.

    python -m benchmarks methods --classes 10 100

The floor of a method is a plain frozen forward and backward of Hugging Face's own modules (the ideal one of `benchmarks.floors`)
over the tokens of the method: context tokens that are queries too are in the sequences of all layers, prompts that are keys and
values are not; what all texts open with is computed once. Gradients flow to the input of the first layer of every branch in which
something is learned. An image branch without runs forward only, a text branch without is computed once and not in a step. What
the method defines beyond, the floor does as well: ProGrad's second backward, PromptSRC's frozen image pass, CoCoOp's texts of
every image. CLIP-LoRA's and Tip-Adapter-F's floors know nothing of the additions and the cache.

Method and floor are timed in turn; a ratio is the median of those of the rounds, and beside it are their quartiles; then the
same of the processor's time, which leaves out what other processes take, and the ratio of the operations that PyTorch counts.
Designs and settings are the published ones (DPL: 2 tokens in every layer), the batch is 4 for all.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.clips import SHAPES, TEMPLATE, class_names, random_backbone, random_batch
from benchmarks.floors import Floor
from benchmarks.subjects import TRAIN, Batch
from benchmarks.timing import markdown, medians, rounds, session
from dpl.backbones.choices import Precision
from dpl.backbones.loading import Backbone, load_backbone
from dpl.config import Optimization, Penalties, Training, preset
from dpl.data.load import load_task
from dpl.methods import method_spec
from dpl.methods.dpl import DplConfig
from dpl.methods.method import Method
from dpl.optim.optimizer import descend, make_optimizer
from dpl.optim.regularization import Regularizer
from dpl.prompts.layout import PromptLayout
from dpl.utils.errors import DplError
from dpl.utils.files import write_json

SHOTS = 16
LAYOUT = 2  # DPL's tokens in every layer


@dataclass(frozen=True)
class Subject:
    """A method, what differs from its published design, and what its floor has to compute."""

    method: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    context: int | None = None
    """Tokens in front of "NAME." in the texts; none: the texts are in the task's template."""
    own_context: bool = False
    """They are different ones for every class."""
    learns_text: bool = True
    """Else the texts are computed once."""
    learns_image: bool = True
    """Else the image branch runs forward only."""
    image_context: int = 0
    """Tokens behind the patches."""
    per_image: bool = False
    """Every image has texts of its own."""
    backwards: int = 1
    """Backward passes of a step."""
    teacher: bool = False
    """The frozen model embeds the images as well."""


_DEEP = 4  # "a photo of a", of which the context takes the place in part or whole
SUBJECTS: Mapping[str, Subject] = {
    "dpl": Subject("dpl"),
    "coop": Subject("coop", context=16, learns_image=False),
    "coop-class-specific": Subject("coop", {"class_specific": True}, context=16, own_context=True, learns_image=False),
    "kgcoop": Subject("kgcoop", context=4, learns_image=False),
    "prograd": Subject("prograd", context=16, learns_image=False, backwards=2),
    "vpt": Subject("vpt", learns_text=False, image_context=8),
    "vpt-shallow": Subject("vpt", {"depth": 1}, learns_text=False, image_context=8),
    "language-prompting": Subject("language-prompting", context=_DEEP, learns_image=False),
    "ivlp": Subject("ivlp", context=_DEEP, image_context=2),
    "maple": Subject("maple", context=_DEEP, image_context=2),
    "promptsrc": Subject("promptsrc", context=_DEEP, image_context=4, teacher=True),
    "cocoop": Subject("cocoop", context=4, learns_image=False, per_image=True),
    "clip-lora": Subject("clip-lora"),
    "tip-adapter-f": Subject("tip-adapter-f", learns_text=False, learns_image=False),
}


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    model: Literal["vit-b/16", "vit-l/14", "tiny"] = "vit-b/16"
    """Random weights of these shapes; tiny is the embedded backbone, on the classes of digits."""
    methods: tuple[str, ...] = tuple(SUBJECTS)
    """Which methods; all unless named."""
    classes: tuple[int, ...] = (10, 100)
    """Numbers of made-up classes; digits has ten."""
    rounds: int = 3
    """Timed steps of each method and each floor."""
    precision: Precision = "fp32"
    """What the layers compute in."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int = 0
    """Threads of PyTorch on the CPU; 0: its own choice."""
    seed: int = 1
    """Of weights, starts and images."""
    out: Path | None = None
    """The JSON with all timings; by default runs/benchmark/methods-MODEL-PRECISION-DEVICE.json."""

    @property
    def file(self) -> Path:
        """Where the results go."""
        name = f"methods-{self.model.replace('/', '-')}-{self.precision}-{self.device.replace(':', '-')}.json"
        return self.out or Path("runs/benchmark") / name


@dataclass(frozen=True)
class Classes:
    """What is told apart, and a batch of it."""

    names: Sequence[str]
    templates: Sequence[str]
    batch: Batch

    @staticmethod
    def made_up(backbone: Backbone, names: Sequence[str], templates: Sequence[str], seed: int) -> "Classes":
        """Random pixels of the backbone's image size."""
        shape = replace(SHAPES["tiny"], size=backbone.image_size)
        return Classes(names, templates, random_batch(shape, TRAIN, len(names), backbone.device, seed))


class MethodFloor(Floor):
    """The plain frozen model over the tokens that the method of `subject` has."""

    def __init__(self, backbone: Backbone, classes: Classes, subject: Subject) -> None:
        names, template = classes.names, classes.templates[0]
        if subject.context is not None:
            fillers = _words(backbone, len(names)) if subject.own_context else ["a"] * len(names)
            names = [" ".join([word] * subject.context + [name]) for word, name in zip(fillers, names, strict=True)]
            template = "{}."
        super().__init__(backbone, names, template, shared=True)
        self._subject, images = subject, len(classes.batch[0])
        if subject.per_image:
            self.inputs = [batch.detach().repeat(images, 1, 1).requires_grad_() for batch in self.inputs]
            self._ends = [ends.repeat(images) for ends in self._ends]
        with torch.no_grad():
            self._frozen_texts = self.text_features()

    def step(self, pixels: Tensor, labels: Tensor) -> float:
        """One forward of cross entropy and its backward, as often as the subject has them; returns the loss."""
        subject, leaves = self._subject, list[Tensor]()
        hidden = self._embedded(pixels)
        if subject.learns_image:
            leaves.append(hidden)
        if subject.learns_text:
            leaves += self.inputs
        with torch.set_grad_enabled(subject.learns_image):
            images = self._image_features(hidden)
        if subject.teacher:
            with torch.no_grad():
                self._image_features(hidden.detach()[:, : hidden.shape[1] - subject.image_context])
        loss = F.cross_entropy(self.logits(images, self.text_features() if subject.learns_text else self._frozen_texts), labels)
        value = loss.item()
        for leaf in leaves:
            leaf.grad = None
        for left in range(subject.backwards if leaves else 0, 0, -1):
            loss.backward(inputs=leaves, retain_graph=left > 1)
        return value

    def logits(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """As the model's; where every image has its own texts, with those, in an order that only the time is right of."""
        if not self._subject.per_image:
            return super().logits(image_features, text_features)
        own = text_features.unflatten(0, (len(image_features), -1))
        return self.backbone.clip.logit_scale.exp() * torch.einsum("id,icd->ic", image_features, own)

    def _embedded(self, pixels: Tensor) -> Tensor:
        hidden = super()._embedded(pixels)
        rows = hidden.detach()[:, -1:].expand(-1, self._subject.image_context, -1)
        return torch.cat([hidden.detach(), rows], dim=1).requires_grad_()


def _words(backbone: Backbone, count: int) -> list[str]:
    """`count` different words of one token each."""
    words = (token.removesuffix("</w>") for token in sorted(backbone.tokenizer.get_vocab()))
    single = (word for word in words if word.isalnum() and len(backbone.tokenize([word])[0]) == 3)
    return [word for word, _ in zip(single, range(count), strict=False)]


def make_method(subject: Subject, backbone: Backbone, classes: Classes, seed: int) -> tuple[Method, Optimization]:
    """The method in its published design, and how it learns, with batches of `TRAIN`."""
    row = method_spec(subject.method)
    config: Any = preset(row.run(), "paper", "", SHOTS)
    if subject.method == "dpl":
        design: Any = DplConfig(PromptLayout.uniform(LAYOUT, backbone.image.depth, backbone.text.depth), config.prompt_std)
    else:
        design = replace(config.design, **subject.changes)
    model = row.load()(backbone, classes.names, classes.templates, design, seed)
    if subject.method == "tip-adapter-f":
        generator, labels = torch.Generator().manual_seed(seed), torch.arange(len(classes.names)).repeat_interleave(SHOTS)
        keys = torch.randn(len(labels), backbone.clip.visual_projection.out_features, generator=generator)
        model.load_state_dict({"keys": F.normalize(keys), "labels": labels})
    return model, replace(config.train, batch_size=TRAIN)


def method_step(subject: Subject, backbone: Backbone, classes: Classes, seed: int) -> tuple[Method, Callable[[], float]]:
    """The model, and a function that runs one step of it as `dpl.train` does and returns its loss."""
    model, config = make_method(subject, backbone, classes, seed)
    parameters = [parameter for parameter in model.parameters() if parameter.numel()]
    optimizer = make_optimizer(config, parameters)
    penalties = config.penalties if isinstance(config, Training) else Penalties()
    regularizer = Regularizer.of(backbone, classes.names, classes.templates, penalties)

    def step() -> float:
        with nullcontext() if regularizer else model.attached():
            objective = model.objective(*classes.batch, regularizer)
            return descend(objective.loss, optimizer, config.clip_norm, "", objective.backward)

    return model, step


def operations(step: Callable[[], Any]) -> int:
    """What PyTorch counts in a step: matrix products, convolutions, attention; a multiply-add is two."""
    flash: Any = torch.ops.aten
    own = {
        flash._scaled_dot_product_flash_attention_for_cpu: _forward_count,
        flash._scaled_dot_product_flash_attention_for_cpu_backward: _backward_count,
    }
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        step()
    return counter.get_total_flops()


def _forward_count(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward_count(gradient: Any, query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def main(settings: Settings) -> None:
    """Prints a line per method, then the tables."""
    unknown = [name for name in settings.methods if name not in SUBJECTS]
    if unknown:
        raise DplError(f"--methods {unknown[0]!r}: there are {', '.join(SUBJECTS)}")
    if min(settings.classes) < 2 or settings.rounds < 1:
        raise DplError("--classes must be 2 or more, --rounds 1 or more")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    backbone, every = _setting(settings)
    settings.file.parent.mkdir(parents=True, exist_ok=True)
    data: dict[str, Any] = {"session": session(backbone.device), "settings": asdict(settings) | {"out": None}, "classes": {}}
    for classes in every:
        entries = data["classes"][str(len(classes.names))] = {}
        for name in settings.methods:
            entries[name] = measure(SUBJECTS[name], backbone, classes, settings.rounds, settings.seed)
            print(f"{len(classes.names)} classes, {' | '.join(map(str, _row(name, entries[name])))}", flush=True)
            write_json(settings.file, data)
    for count, entries in data["classes"].items():
        print(f"\n{settings.model}, {settings.precision}, {settings.device}, {count} classes, {settings.rounds} rounds:\n")
        header = ["method", "parameters", "ms", "floor, ms", "ratio", "quartiles", "processor", "GFLOP", "operations"]
        print(markdown(header, [_row(name, entry) for name, entry in entries.items()]))
    print(f"\nAll timings: {settings.file}")


def _setting(settings: Settings) -> tuple[Backbone, list[Classes]]:
    if settings.model == "tiny":
        task, backbone = load_task("digits"), load_backbone("tiny", settings.device, settings.precision)
        return backbone, [Classes.made_up(backbone, task.class_names, task.templates, settings.seed)]
    backbone = random_backbone(SHAPES[settings.model], settings.precision, settings.device, settings.seed)
    return backbone, [Classes.made_up(backbone, class_names(count), [TEMPLATE], settings.seed) for count in settings.classes]


def measure(subject: Subject, backbone: Backbone, classes: Classes, count: int, seed: int) -> dict[str, Any]:
    """Of "method" and "floor": `rounds` of seconds, and of "processor" seconds; "operations"; how many "parameters" it learns."""
    model, step = method_step(subject, backbone, classes, seed)
    floor = MethodFloor(backbone, classes, subject)
    steps: dict[str, Callable[[], float]] = {"method": step, "floor": lambda: floor.step(*classes.batch)}
    step()  # what never changes is kept in the first
    work = {name: operations(one) for name, one in steps.items()}
    processor: dict[str, list[float]] = {name: [] for name in steps}

    def timed(name: str) -> None:
        begun = time.process_time()
        steps[name]()
        processor[name].append(time.process_time() - begun)

    measured = list(rounds({name: partial(timed, name) for name in steps}, count, backbone.device, warm_up=0))
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "operations": work,
        "rounds": measured,
        "processor": [dict(zip(processor, one, strict=True)) for one in zip(*processor.values(), strict=True)],
    }


def _row(name: str, entry: Mapping[str, Any]) -> list[Any]:
    times, work = medians(entry["rounds"]), entry["operations"]
    low, middle, high = _quartiles(entry["rounds"])
    return [
        name,
        entry["parameters"],
        *(f"{1e3 * times[key]:.0f}" for key in ("method", "floor")),
        f"{middle:.2f}",
        f"{low:.2f}-{high:.2f}",
        f"{_quartiles(entry['processor'])[1]:.2f}",
        f"{work['method'] / 1e9:.1f}",
        f"{work['method'] / work['floor']:.2f}",
    ]


def _quartiles(measured: Sequence[Mapping[str, float]]) -> list[float]:
    """Of method / floor."""
    ratios = torch.tensor([one["method"] / one["floor"] for one in measured])
    return ratios.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
