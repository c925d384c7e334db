"""Converts the rows of a Hugging Face data set to a task: selects columns and splits, skips unusable rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dpl.data import split
from dpl.data.class_names import class_name
from dpl.data.paths import listed, shown
from dpl.data.sources.folder import AUGMENTATION
from dpl.data.sources.table_rows import COLUMNS
from dpl.data.task import Encoded, Item, Task
from dpl.data.templates import PHOTOS
from dpl.data.validate import check_classes, skipped, unreadable_items
from dpl.utils.errors import DplError

_IMAGES = ("image", "img", "images")
_LABELS = ("label", "labels", *COLUMNS["label"][1:])


@dataclass(frozen=True)
class Rows:
    """A `datasets.Dataset` and the name of its split in the data set."""

    split: str
    data: Any

    def check(self, data: str) -> None:
        """Validates the file, because reading a broken one could crash the process.

        Args:
            data: name of the data set for the message.

        Raises:
            DplError: the file is broken.
        """
        try:
            self.data.data.validate(full=True)
        except Exception as error:  # pyarrow has its own exception types
            reason = shown(" ".join(str(error).split()))[:200]
            raise DplError(f"{data}: the file of {shown(self.split)} is broken ({reason}); fetch or write it anew") from None

    def values(self, column: str) -> list[Any]:
        """Returns the cells of `column` as stored, one per row."""
        return self.data.select_columns([column]).with_format("arrow")[:].column(column).to_pylist()


def to_task(data: str, name: str, parts: Mapping[str, Rows], *, strict: bool, may_be_files: bool = False) -> Task:
    """Builds the task `name` from the splits of a data set.

    Args:
        data: name of the data set for messages.
        name: name of the task.
        parts: splits by "train", "val" and "test", unknown splits by their own names; or a single "all".
        strict: all images are decoded; an unreadable one or a row without a label is an error. By default rows without a label
            are skipped with a note, and nothing is decoded.
        may_be_files: rows may name image files (of the library's cache) instead of containing the images.

    Returns:
        The task, with notes on the chosen columns and splits and on skipped rows.

    Raises:
        DplError: a file is broken, the splits have different columns, a column or split is missing or ambiguous, or the
            classes are not valid.
    """
    features = next(iter(parts.values())).data.features
    for rows in parts.values():
        rows.check(data)
        if rows.data.features != features:
            raise DplError(f"{data}: its splits have different columns; give one of them, or save them alike")
    image = _image_column(data, features)
    label, notes = _label_column(data, features, image)
    written = {rows.split: _labels(rows, label) for rows in parts.values()}
    parts, others = _chosen(data, parts, written)
    used = {value for rows in parts.values() for value in written[rows.split] if value is not None}
    names, renumbered = _class_names(data, used)
    if unused := [name for name in getattr(features[label], "names", ()) if name not in {text for _, text in used}]:
        notes += (f"left out {len(unused)} of the classes, which have no images: {listed(map(shown, unused))}",)
    items: dict[str, list[Item]] = {}
    unlabelled = 0
    for part, rows in parts.items():
        labels = [None if value is None else renumbered[value] for value in written[rows.split]]
        items[part] = _items(data, rows, image, labels, may_be_files)
        unlabelled += len(labels) - len(items[part])
    if unlabelled and strict:
        raise DplError(f"{data}: {unlabelled} rows have no label; without --strict they are left out")
    if unlabelled:
        notes += (f"skipped {unlabelled} row{'s' * (unlabelled > 1)} without a label",)
    if list(items) == ["all"] and "split" in features:
        items = _by_column(data, items["all"], parts["all"])
    bad = unreadable_items((item for found in items.values() for item in found), strict=strict)
    items = {part: [item for item in found if item not in bad] for part, found in items.items()}
    check_classes(data, items, names, bad)
    pools, made = split.filled(data, items, names)
    return Task(
        name=name,
        class_names=names,
        templates=PHOTOS,
        train=tuple(pools["train"]),
        val=tuple(pools["val"]),
        test=tuple(pools["test"]),
        augmentation=AUGMENTATION,
        notes=(*notes, *others, *skipped(bad), *made),
        strict=strict,
    )


def _image_column(data: str, features: Mapping[str, Any]) -> str:
    from datasets import Image, Value  # late, here and below: an optional package

    kinds = {name: feature for name, feature in features.items() if isinstance(feature, Image)}
    kinds = kinds or {  # Parquet files of other programs lack the type Image
        name: feature
        for name, feature in features.items()
        if isinstance(feature, dict) and "bytes" in feature or isinstance(feature, Value) and "binary" in feature.dtype
    }
    named = [name for name in kinds if len(kinds) == 1 or name.lower() in _IMAGES]
    if len(named) != 1:
        has = f"{len(kinds)} columns of images, {listed(map(shown, kinds))}" if kinds else "no column of images"
        raise DplError(f"{data}: has {has} (columns: {listed(map(shown, features), most=8)}); one is needed, called image")
    return named[0]


def _label_column(data: str, features: Mapping[str, Any], image: str) -> tuple[str, tuple[str, ...]]:
    """Returns the name of the label column, and a note if there are several candidates."""
    from datasets import ClassLabel, Value

    listing = {name: len(feature.names) for name, feature in features.items() if isinstance(feature, ClassLabel)}
    plain = {name: feature for name, feature in features.items() if isinstance(feature, Value) and name != image}
    texts = [name for name, feature in plain.items() if "string" in feature.dtype or "int" in feature.dtype]
    found = list(listing) or [name for name in texts if name.lower() in _LABELS]
    if not found:
        has = listed((shown(name) for name in features), most=8)
        raise DplError(f"{data}: has no column of labels (columns: {has}); one is needed, called label, of text or of classes")
    best = next((name for name in found if name.lower() in _LABELS), None) or max(found, key=lambda name: listing[name])
    others = [name for name in found if name != best]
    note = f"labels are those of the column {shown(best)}, not of {listed(map(shown, others))}"
    return best, (note,) if others else ()


def _labels(rows: Rows, column: str) -> list[str | tuple[int, str] | None]:
    """Returns the label of each row: its text, or (number, name) if the column lists the classes; None if missing."""
    from datasets import ClassLabel

    feature, values = rows.data.features[column], rows.values(column)
    if isinstance(feature, ClassLabel):
        names: Sequence[str] = feature.names
        return [(value, names[value]) if value is not None and 0 <= value < len(names) else None for value in values]
    return [text if value is not None and (text := str(value).strip()) else None for value in values]


def _chosen(data: str, parts: Mapping[str, Rows], labels: Mapping[str, list[Any]]) -> tuple[dict[str, Rows], tuple[str, ...]]:
    """Returns the splits to use, and notes on splits that are ignored or used under another name."""
    notes: list[str] = []
    known = ("train", "val", "test") if len(parts) > 1 else ("train", "val", "test", "all")
    used = {part: rows for part, rows in parts.items() if part in known}
    if ignored := [rows.split for part, rows in parts.items() if part not in used]:
        notes.append(f"ignored splits: {listed(map(shown, ignored))}")
    if blank := [part for part in used if all(value is None for value in labels[used[part].split])]:
        notes.append(f"ignored splits without labels: {listed(shown(used.pop(part).split) for part in blank)}")
    if not {"all", "train"} & used.keys():
        raise DplError(f"{data}: has no split train with labels, but {listed(shown(rows.split) for rows in parts.values())}")
    if list(used) == ["train"]:
        return {"all": used["train"]}, tuple(notes)
    if "train" in used and "test" not in used:  # many data sets are published with train and val only
        notes.append(f"no test given: {shown(used['val'].split)} is the test set")
        used["test"] = used.pop("val")
    return used, tuple(notes)


def _class_names(data: str, labels: Iterable[str | tuple[int, str]]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Returns the class names sorted by number, or by name without numbers, and the new index of each label."""
    names: dict[Any, str] = {}
    seen: dict[str, str] = {}
    for label in sorted(labels):
        name = names[label] = class_name(label if isinstance(label, str) else label[1])
        if not name:
            raise DplError(f"{data}: a class has no name but {shown(str(label))!r}")
        if (other := seen.setdefault(name.casefold(), name)) is not name:
            raise DplError(f"{data}: two classes have one name, {other!r} and {name!r}")
    return tuple(names.values()), {label: place for place, label in enumerate(names)}


def _items(data: str, rows: Rows, image: str, labels: Sequence[int | None], may_be_files: bool) -> list[Item]:
    table = rows.data.select_columns([image]).with_format("arrow")
    items: list[Item] = []
    for row, label in enumerate(labels):
        if label is not None:
            name = f"{rows.split}/{row}"
            items.append(Item(Encoded(f"{data} {name}", partial(_bytes, table, row, may_be_files)), label, name))
    return items


def _bytes(table: Any, row: int, may_be_files: bool) -> bytes:
    """Returns the bytes of the image file in a row; raises `OSError` if there is none."""
    cell = table[row].column(0)[0].as_py()
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    path = cell.get("path") if isinstance(cell, dict) else None
    if data is None and may_be_files and path and Path(path).is_file():
        return Path(path).read_bytes()
    if data is None:
        raise OSError("the row has no image" if not path else "the row has only an image's path")
    return data


def _by_column(data: str, items: Sequence[Item], rows: Rows) -> dict[str, list[Item]]:
    """Groups the items by the column "split"."""
    written = [str(value or "").strip() for value in rows.values("split")]
    parts: dict[str, list[Item]] = {}
    for item in items:
        text = written[int(item.name.rpartition("/")[2])]
        if text.casefold() not in split.PARTS:
            raise DplError(f"{data}: row {item.name}: no split {shown(text)!r}: there are train, val and test")
        parts.setdefault(split.PARTS[text.casefold()], []).append(item)
    if missing := [part for part in ("train", "test") if part not in parts]:
        raise DplError(f"{data}: the column split has {listed(sorted(parts))} but no {' and no '.join(missing)}; add such rows")
    return parts
