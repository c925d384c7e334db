"""A few-shot image classifier with scikit-learn's interface. It does what `dpl fit` does, on images that a program has."""

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from dpl.backbones.loading import Backbone
from dpl.backbones.shared import shared_backbone
from dpl.config import PRESETS, RunConfig, checked, preset
from dpl.data.fewshot import FewShot
from dpl.data.labels import LabelledClasses, find_classes, json_labels, plain_labels
from dpl.data.pixels.transforms import decode
from dpl.data.sources import memory
from dpl.data.sources.memory import ImageLike, check_images, to_items
from dpl.data.templates import given_templates
from dpl.evaluate import ClassFeatures, checked_logits, images_at_once
from dpl.methods import method_spec
from dpl.methods.method import Method
from dpl.optim.stage import Stage, read_history
from dpl.options import option_values, plain, with_options
from dpl.pipeline import learn, load_inputs
from dpl.reports.web.html import write_report
from dpl.runs import (
    class_features,
    item_names,
    load_run,
    plain_settings,
    read_config,
    run_settings,
    save_run,
    settings_of,
)
from dpl.utils.errors import DplError
from dpl.utils.validation import validated


@dataclass(frozen=True)
class _Kept:
    """The entry "classifier" of config.json, by `save_pretrained`: the label of every class, and the argument `shots`."""

    labels: tuple[str | bool | int | float | None, ...]
    shots: int | None


class FewShotClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Classifies images after training on a few labelled ones, by any method of `dpl fit`.

    The same images, shots and seed give the same bits as the command. `fit` draws `shots` training and min(shots, 4) validation
    images per class. The latter come from `X_val`, or else from 20 % of the images of every class, which training then does not
    see; the command does the same with a folder that has train/ and test/.

    scikit-learn's `clone`, `cross_val_score` and `GridSearchCV` work with this class. `fit` loads the backbone, which all
    classifiers of the process share. Its memory is released with the last of them, and of the copies that `clone` has made.

    Args:
        backbone: "tiny" (embedded), a Hugging Face id (also id@revision), a checkpoint folder or file, or a loaded `Backbone`.
        method: the method, such as "dpl", "coop", "linear-probe" or "zero-shot"; `dpl methods` lists all.
        preset: "default": our settings; "paper": those that the method's authors published; "paper-transfer": those for transfer.
        template: a sentence with {} for the class name, or several; by default sentences for photos. One replaces the first of
            the default, several replace all. Training uses the first.
        class_names: the name of a label in texts, by label; a label without one is named by its text, `str(label)`.
        shots: training images per class, drawn from those given; None: every image is used, in its order.
        seed: seed of the shots and of every other random draw.
        revision: branch, tag or commit of a Hugging Face id.
        no_pickle: refuse pickled weights.
        device: "auto", or a device of torch.
        precision: "auto", "fp32" or "bf16".
        resize: how images are made square: "checkpoint", "crop", "squash" or "pad".
        **settings: settings of the method, the options of `dpl fit --method NAME --help` with two underscores for a dot and one
            for a dash: `train__epochs=5` is `--train.epochs 5`, `class_specific=True` is `--class-specific`.

    Attributes:
        classes_: the labels, sorted if they can be, (classes,).
        model_: the trained method.
        layout_: the number of prompts of every layer.
        history_: a record per epoch of the search and the training.
        notes_: what was decided while fitting, a sentence each.

    Example:
        >>> import dpl
        >>> digits = dpl.load_task("digits")
        >>> images, labels = [item.image for item in digits.train], [item.label for item in digits.train]
        >>> classifier = dpl.FewShotClassifier("tiny", shots=2, layout="1", train__epochs=1).fit(images, labels)
        >>> classifier.predict_proba(images[:3]).shape
        (3, 10)
    """

    def __init__(
        self,
        backbone: str | Backbone = "tiny",
        *,
        method: str = "dpl",
        preset: str = "default",
        template: str | Sequence[str] | None = None,
        class_names: Mapping[Any, str] | None = None,
        shots: int | None = 16,
        seed: int = 1,
        revision: str | None = None,
        no_pickle: bool = False,
        device: str = "auto",
        precision: str = "auto",
        resize: str = "checkpoint",
        **settings: Any,
    ) -> None:
        self.backbone, self.method, self.preset = backbone, method, preset
        self.template, self.class_names = template, class_names
        self.shots, self.seed = shots, seed
        self.revision, self.no_pickle = revision, no_pickle
        self.device, self.precision, self.resize = device, precision, resize
        self.settings = settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the arguments of the constructor, with the settings of the method.

        Args:
            deep: has no effect; the settings are always among them.

        Returns:
            Values by name.
        """
        return {**super().get_params(deep=False), **self.settings}

    def set_params(self, **params: Any) -> Self:
        """Changes arguments of the constructor and settings of the method.

        Args:
            **params: values by name.

        Returns:
            The classifier.

        Raises:
            DplError: the method, which may be changed in the same call, has no such setting.
        """
        own = set(self._get_param_names())
        for name in params.keys() & own:
            setattr(self, name, params[name])
        options = {name: value for name, value in params.items() if name not in own}
        if options:
            with_options(run_settings("fit", self.method)(data=""), options)
            self.settings = {**self.settings, **options}
        return self

    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None) -> Self:
        """Draws the shots, and searches and trains as the method does.

        Args:
            X: images, each of PIL, an array of uint8 (height, width, 3) with values 0-255, or the path of a file.
            y: their labels, of any hashable kind.
            X_val: images to draw the validation shots from; by default 20 % of every class of `X`.
            y_val: their labels, among those in `y`.

        Returns:
            The classifier.

        Raises:
            DplError: an image, a label or a setting is wrong, a file cannot be read, or a loss is not finite.
        """
        images, labels = _pairs(X, y)
        classes = find_classes(labels, self.class_names)
        train = images, [classes.places[label] for label in labels]
        task = memory.load(train, _validation(X_val, y_val, classes), classes.names, keep_order=self.shots is None)
        config = self._run_config(max(Counter(item.label for item in task.train).values()))
        backbone = self._load_backbone(config)
        inputs = load_inputs(config, (task, backbone))
        if self.shots is None:
            inputs = replace(inputs, shots=FewShot(tuple(task.train), tuple(task.val)))
        method_spec(config.method).load().check(config, inputs)
        stages: list[Stage] = []

        def stage(name: str) -> Stage:
            stages.append(Stage(name))
            return stages[-1]

        model = learn(config, inputs, stage)
        with torch.no_grad():
            self._become(model, model.text_features(), classes)
        self.history_ = json.loads(json.dumps([record for stage in stages for record in stage.history]))  # as from a file
        self.notes_ = (*inputs.task.notes, *inputs.shots.notes, *backbone.notes)
        shots = {"train": item_names(inputs.shots.train), "val": item_names(inputs.shots.val)}
        self._about = {"shots": shots, "settings": plain_settings(config)}
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predicts the label of every image.

        Args:
            X: images, as for `fit`.

        Returns:
            Labels, (images,), of the kind of `classes_`.

        Raises:
            NotFittedError: the classifier is not fitted.
            DplError: an image is wrong or cannot be read.
        """
        check_is_fitted(self)
        return self.classes_[self._logits(X).argmax(dim=-1).numpy()]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predicts the probabilities of the classes.

        Args:
            X: images, as for `fit`.

        Returns:
            Probabilities 0-1, float32 (images, classes), in the order of `classes_`.

        Raises:
            NotFittedError: the classifier is not fitted.
            DplError: an image is wrong or cannot be read.
        """
        check_is_fitted(self)
        return self._logits(X, softmax=True).numpy()

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Computes the accuracy.

        Args:
            X: images, as for `fit`.
            y: their labels.
            sample_weight: weights of the images; by default all count the same.

        Returns:
            The share of correct predictions, 0-1.

        Raises:
            NotFittedError: the classifier is not fitted.
            DplError: an image or a label is wrong, or a file cannot be read.
        """
        check_is_fitted(self)
        images, labels = _pairs(X, y)
        columns = {self._classes.labels[place]: column for column, place in enumerate(self._classes.order)}
        is_right = self._logits(images).argmax(dim=-1).numpy() == [columns.get(label, -1) for label in labels]
        return float(np.average(is_right, weights=sample_weight))

    @torch.no_grad()
    def transform(self, X: Any) -> np.ndarray:
        """Embeds images with the trained image branch.

        Args:
            X: images, as for `fit`.

        Returns:
            Features, float32 (images, dim); of unit length, except of a linear probe.

        Raises:
            NotFittedError: the classifier is not fitted.
            DplError: an image is wrong or cannot be read.
        """
        check_is_fitted(self)
        return torch.cat([self.model_.image_features(pixels).cpu() for pixels in self._pixels(X)]).float().numpy()

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Writes a run folder, without the backbone. `from_pretrained`, `dpl predict` and `dpl report` read it.

        Args:
            folder: the folder.
            overwrite: replace a run in the folder.

        Raises:
            NotFittedError: the classifier is not fitted.
            DplError: a label is no text, number, truth value or None; or the folder is not empty or cannot be written.
        """
        check_is_fitted(self)
        run, labels = Path(folder), json_labels(self._classes.labels)
        about = {**self._about, "classifier": {"labels": labels, "shots": self.shots}}
        save_run(run, self.model_, about, self.history_, overwrite=overwrite)
        write_report(run)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        backbone: str | Backbone | None = None,
        revision: str | None = None,
        no_pickle: bool = False,
        device: str = "auto",
        precision: str = "auto",
    ) -> Self:
        """Loads a classifier from the folder of `save_pretrained`, or from a run folder of `dpl fit`.

        Args:
            folder: the folder.
            backbone: the loaded backbone, or its present path or id if it moved; by default the one that the folder names.
            revision: branch, tag or commit of a Hugging Face id; by default that of the run.
            no_pickle: refuse pickled weights.
            device: "auto", or a device of torch.
            precision: "auto", "fp32" or "bf16".

        Returns:
            The fitted classifier, with the settings of the run. The labels of a run of `dpl fit` are its class names.

        Raises:
            DplError: `folder` is no trained run, does not fit its files, or was made with another backbone.
        """
        run = Path(folder)
        found, config = read_config(run), settings_of(run)
        usual = option_values(preset(run_settings("fit", config.method), config.preset, "", config.shots))
        options = {name: value for name, value in option_values(config).items() if name in usual and usual[name] != value}
        made_with, names = found["backbone"], found["task"]["class_names"]
        kept = validated(_Kept, found.get("classifier", {"labels": names, "shots": config.shots}), run / "config.json")
        if len(kept.labels) != len(names):
            raise DplError(f"{run / 'config.json'}: has {len(kept.labels)} labels for {len(names)} classes")
        classes = LabelledClasses(kept.labels, tuple(names))
        new = cls(
            backbone or made_with["name"],
            method=config.method,
            preset=config.preset,
            template=config.template[0] if len(config.template) == 1 else config.template or None,
            class_names=classes.given_names or None,
            shots=kept.shots,
            seed=config.seed,
            revision=revision or (None if backbone else made_with.get("commit")),
            no_pickle=no_pickle,
            device=device,
            precision=precision,
            resize=config.resize,
            **options,
        )
        notes: list[str] = []
        model = load_run(run, new._load_backbone(new._run_config(config.shots)), say=notes.append)
        new._become(model, class_features(run, model), classes)
        new.history_, new.notes_ = read_history(run), tuple(notes)
        new._about = {"shots": found.get("shots", {"train": [], "val": []}), "settings": plain_settings(config)}
        return new

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_clone__(self) -> Self:
        # A copy holds the backbone of the original, so that cross-validation does not load it anew for every fold. A backbone
        # that was given is not copied.
        params: dict[str, Any] = {name: value for name, value in self.get_params().items() if name != "backbone"}
        params = {name: clone(value, safe=False) for name, value in params.items()}
        copy = type(self)(self.backbone, **params)
        copy.__dict__["_kept"] = self._held
        return copy

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string, tags.no_validation = False, True, True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_kept"}

    @property
    def _held(self) -> list[Backbone]:
        """The backbone that this classifier and its copies keep in memory."""
        return self.__dict__.setdefault("_kept", [])

    def _load_backbone(self, config: RunConfig) -> Backbone:
        if isinstance(self.backbone, Backbone):
            return self.backbone
        self._held[:] = [shared_backbone(config.backbone, **config.load_options())]
        return self._held[0]

    def _run_config(self, most: int) -> RunConfig:
        """Returns the settings of the run; `most` is the largest number of training images of a class."""
        if self.preset not in PRESETS:
            raise DplError(f"no preset {self.preset!r}: there are {', '.join(PRESETS)}")
        template = self.template if self.template is not None else ()
        common = {
            "backbone": self.backbone.name if isinstance(self.backbone, Backbone) else self.backbone,
            "template": (template,) if isinstance(template, str) else tuple(template),
            "shots": most if self.shots is None else plain(self.shots),
            "seed": plain(self.seed),
            **{name: getattr(self, name) for name in ("revision", "no_pickle", "device", "precision", "resize")},
        }
        kind = run_settings("fit", self.method)
        first = checked(kind(data="", **common))  # published settings may depend on the shots
        base = preset(kind, self.preset, "", first.shots)
        common["template"] = given_templates(first.template)
        return checked(with_options(replace(base, **common), self.settings))

    def _become(self, model: Method, text_features: ClassFeatures, classes: LabelledClasses) -> None:
        self.model_, self.layout_, self.classes_ = model.eval(), model.layout, classes.array
        self._classes, self._text_features = classes, text_features

    def _pixels(self, X: Any) -> Iterator[Tensor]:
        """Yields the pixels of images in batches."""
        images = check_images(X)
        items = to_items(images, [0] * len(images))
        size = images_at_once(self.model_.backbone)
        for start in range(0, len(items), size):
            yield decode(items[start : start + size], self.model_.backbone.preprocessing)

    @torch.no_grad()
    def _logits(self, X: Any, softmax: bool = False) -> Tensor:
        """Returns the logits or probabilities of images, (images, classes), in the order of `classes_`."""
        parts: list[Tensor] = []
        for pixels in self._pixels(X):
            logits = checked_logits(self.model_.logits(self.model_.image_features(pixels), self._text_features))
            parts.append((logits.softmax(dim=-1) if softmax else logits).float().cpu())
        return torch.cat(parts)[:, self._classes.order]


def _pairs(X: Any, y: Any, suffix: str = "") -> tuple[list[ImageLike], list[Hashable]]:
    """Checks images and their labels; `suffix` is that of their names, X and y, in messages."""
    if y is None:
        raise DplError(f"y{suffix}: give a label for every image")
    images, labels = check_images(X, f"X{suffix}"), plain_labels(y, f"y{suffix}")
    if len(images) != len(labels):
        raise DplError(f"X{suffix} has {len(images)} images, but y{suffix} has {len(labels)} labels")
    return images, labels


def _validation(X: Any, y: Any, classes: LabelledClasses) -> tuple[list[ImageLike], list[int]] | None:
    """Checks the validation images and finds the classes of their labels; None if there are no validation images."""
    if X is None and y is None:
        return None
    images, labels = _pairs(X, y, "_val")
    if unknown := [label for label in labels if label not in classes.places]:
        raise DplError(f"y_val: {unknown[0]!r} is no label in y")
    return images, [classes.places[label] for label in labels]
