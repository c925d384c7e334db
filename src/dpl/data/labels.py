"""Labels of any hashable kind: the classes that they form, the names of the classes, and their form in JSON."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dpl.data.class_names import class_name
from dpl.data.paths import listed, shown
from dpl.utils.errors import DplError


@dataclass(frozen=True)
class LabelledClasses:
    """Classes in the order of their names, which is the order of the class folders of a data set.

    Attributes:
        labels: The label of each class.
        names: The name of each class, for texts.
    """

    labels: tuple[Hashable, ...]
    names: tuple[str, ...]

    @cached_property
    def places(self) -> dict[Hashable, int]:
        """The index of each label in `labels`."""
        return {label: place for place, label in enumerate(self.labels)}

    @cached_property
    def order(self) -> list[int]:
        """The indices in `labels` of the sorted labels; `labels` that cannot be sorted keep their order."""
        places = range(len(self.labels))
        try:
            return sorted(places, key=lambda place: self.labels[place])  # pyright: ignore[reportArgumentType, reportCallIssue]
        except TypeError:  # of kinds that do not compare, such as None and str
            return list(places)

    @property
    def given_names(self) -> dict[Hashable, str]:
        """The names that are not the text of their label, by label."""
        return {label: name for label, name in zip(self.labels, self.names, strict=True) if name != class_name(str(label))}

    @property
    def array(self) -> np.ndarray:
        """The labels in `order`, (classes,): text, numbers or truth values, or else Python objects."""
        labels = [self.labels[place] for place in self.order]
        kinds = {type(label) for label in labels}
        if kinds in ({str}, {bool}) or kinds <= {int, float}:
            return np.array(labels)
        objects = np.empty(len(labels), dtype=object)
        for place, label in enumerate(labels):  # one by one: numpy would take apart a tuple
            objects[place] = label
        return objects


def plain_labels(labels: Any, what: str = "y") -> list[Hashable]:
    """Converts labels to Python objects.

    Args:
        labels: A sequence, or an array, tensor or series of one dimension.
        what: Name of the labels in messages.

    Returns:
        The labels; numbers of numpy become those of Python.

    Raises:
        DplError: The labels are no sequence, or one is not hashable or is NaN.
    """
    values = labels.tolist() if hasattr(labels, "tolist") else labels
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise DplError(f"{what}: give a sequence of labels, not {_kind(labels)}")
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    for place, value in enumerate(values):
        if not isinstance(value, Hashable) or isinstance(value, np.ndarray):
            raise DplError(f"{what}[{place}]: a label must be hashable, such as text or a number, not {_kind(value)}")
        if isinstance(value, float) and math.isnan(value):
            raise DplError(f"{what}[{place}]: a label must not be NaN")
    return values


def find_classes(labels: Iterable[Hashable], class_names: Mapping[Any, str] | None = None) -> LabelledClasses:
    """Finds the classes of labels and names them.

    Args:
        labels: The label of every image.
        class_names: Name by label; a label without one is named by its text, with spaces in place of underscores.

    Returns:
        The classes.

    Raises:
        DplError: There are fewer than two classes, a class has no name or the name of another one, or `class_names` has a key
            that is no label.
    """
    found = {label: class_name(str(label)) for label in labels}  # of equal labels, such as 1 and True, the first one
    if len(found) < 2:
        one = f"one class only, {listed(map(repr, found))}" if found else "no images"
        raise DplError(f"y has {one}; a classifier needs two classes or more")
    given = dict(class_names or {})
    if unknown := [label for label in given if label not in found]:
        raise DplError(f"class_names: {listed(map(repr, unknown))} is no label in y")
    ordered = sorted(found, key=lambda label: found[label])
    names: dict[str, Hashable] = {}
    for label in ordered:
        name = given.get(label, found[label])
        if not isinstance(name, str) or not (name := class_name(name)):
            raise DplError(f"label {label!r} has no name for texts; give one in class_names")
        if name in names:
            raise DplError(f"labels {names[name]!r} and {label!r} are both called {name!r}; give two names in class_names")
        names[name] = label
    return LabelledClasses(tuple(ordered), tuple(names))


def json_labels(labels: Sequence[Hashable]) -> list[Hashable]:
    """Returns labels that JSON keeps as they are.

    Args:
        labels: Labels of classes.

    Raises:
        DplError: A label is no text, whole or finite number, truth value or None.
    """
    for label in labels:
        if type(label) not in (str, int, float, bool, type(None)) or (isinstance(label, float) and not math.isfinite(label)):
            hint = "fit with such labels, and name them in class_names"
            raise DplError(f"label {shown(repr(label))}: only text, numbers, truth values and None can be saved; {hint}")
    return list(labels)


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
