"""Readers of annotations: the field's split files, and the original annotations of each data set.

A reader takes the data set's folder and its folder of images, and returns `Pools`. Names and labels follow the CoOp family
(protocol: docs/datasets.md). A missing or broken annotation raises `DplError`, which names the file and the row.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dpl.data.lazy_items import folder_names, image_names
from dpl.data.paths import shown
from dpl.data.sources.catalog.annotation_files import json_of, lines, mat, number, words
from dpl.data.sources.catalog.pools import PARTS, Pools, Row, from_rows
from dpl.utils.errors import DplError

FORM = '{"train": [[path, label, class name], ...], "val": ..., "test": ...}'


def split_file(path: Path, images: Path) -> Pools:
    """Reads a split file of the field, JSON in the form of `FORM`; items keep the order of the file.

    Args:
        path: the split file.
        images: folder of images.

    Returns:
        The pools.

    Raises:
        DplError: the file is missing, has another form, or has an invalid entry.
    """
    found = json_of(path)
    if not isinstance(found, dict) or not all(isinstance(found.get(part), list) and found[part] for part in PARTS):
        raise DplError(f"{shown(path)}: is no split file, {FORM}; get the file anew")
    return from_rows(images, {part: [_row(path, part, *entry) for entry in enumerate(found[part], 1)] for part in PARTS})


def _row(path: Path, part: str, index: int, entry: Any) -> Row:
    at = f"{shown(path)}, {part} {index}"
    match entry:
        case [str(name), int(label), str(class_name)] if not isinstance(label, bool):
            return Row(name, label, class_name, at)
    raise DplError(f"{at}: {shown(str(entry))[:80]} is not [path, label, class name]; get the file anew")


def class_folders(
    folder: Path, images: Path, *, dropped: Collection[str] = (), renamed: Mapping[str, str] | None = None
) -> Pools:
    """Reads one folder of images per class; labels follow the order of folder names.

    Args:
        folder: folder of the data set; not used.
        images: folder of the class folders.
        dropped: names of folders to ignore.
        renamed: class names by folder name, where they differ.

    Returns:
        The pools, with splits made by `dpl.data.split.filled`.

    Raises:
        DplError: there are no class folders, or one has no images or too few to split.
    """
    rows: list[Row] = []
    for label, name in enumerate(name for name in folder_names(images) if name not in dropped):
        files = image_names(images / name)
        if not files:
            raise DplError(f"{shown(images / name)} has no images; add those of this class")
        rows += [Row(f"{name}/{file}", label, (renamed or {}).get(name, name), shown(images / name)) for file in files]
    if not rows:
        raise DplError(f"{shown(images)} has no class folders; put them there")
    return from_rows(images, {"all": rows})


def flowers(folder: Path, images: Path) -> Pools:
    """Reads Oxford Flowers: imagelabels.mat has the labels from 1 of image_00001.jpg onwards, cat_to_name.json the names.

    Args:
        folder: folder of the data set.
        images: folder of images.
    """
    path, names = folder / "imagelabels.mat", json_of(folder / "cat_to_name.json")
    rows: list[Row] = []
    for index, value in enumerate(mat(path, "labels"), 1):
        at = f"{shown(path)}, image {index}"
        label = number(value, at)
        if not isinstance(names, dict) or not isinstance(names.get(str(label)), str):
            raise DplError(f"{at}: cat_to_name.json has no name for class {label}; get the file anew")
        rows.append(Row(f"image_{index:05}.jpg", label - 1, names[str(label)], at))
    return from_rows(images, {"all": rows})


def pets(folder: Path, images: Path) -> Pools:
    """Reads Oxford-IIIT Pets: lines of annotations/trainval.txt and test.txt are "Abyssinian_100 1 1 1".

    The second word is the label, from 1. The class name is the file name without its number, in lower case.

    Args:
        folder: folder of the data set.
        images: folder of images.
    """

    def rows(name: str) -> list[Row]:
        found: list[Row] = []
        for at, line in lines(folder / "annotations" / name):
            if not line.startswith("#"):
                image, label, *_ = words(line, at, 2, "an image's name and its label")
                found.append(Row(f"{image}.jpg", number(label, at) - 1, image.rpartition("_")[0].lower(), at))
        return found

    return from_rows(images, {"train": rows("trainval.txt"), "test": rows("test.txt")})


def cars(folder: Path, images: Path) -> Pools:
    """Reads Stanford Cars: .mat files have a struct per image with `fname` and `class` (from 1), and the class names.

    Annotated names end in the year; class names begin with it.

    Args:
        folder: folder of the data set.
        images: folder of images.
    """
    meta = folder / "devkit" / "cars_meta.mat"
    names = mat(meta, "class_names")
    test = folder / "cars_test_annos_withlabels.mat"
    test = test if test.exists() else folder / "devkit" / test.name

    def rows(path: Path, inner: str) -> list[Row]:
        found: list[Row] = []
        for index, entry in enumerate(mat(path, "annotations"), 1):
            at = f"{shown(path)}, row {index}"
            if not isinstance(entry, dict) or not isinstance(entry.get("fname"), str):
                raise DplError(f"{at}: has no file name (fname); get the file anew")
            label = number(entry.get("class"), at)
            if not 1 <= label <= len(names) or not isinstance(names[label - 1], str):
                raise DplError(f"{at}: {shown(meta)} has no name for class {label}; get the file anew")
            name, _, year = names[label - 1].rpartition(" ")
            found.append(Row(f"{inner}/{entry['fname']}", label - 1, f"{year} {name}", at))
        return found

    train = rows(folder / "devkit" / "cars_train_annos.mat", "cars_train")
    return from_rows(images, {"train": train, "test": rows(test, "cars_test")})


def aircraft(folder: Path, images: Path) -> Pools:
    """Reads FGVC-Aircraft: variants.txt has the names in the order of labels.

    images_variant_PART.txt has lines such as "1025794 707-320", an image's number and its variant.

    Args:
        folder: folder of the data set.
        images: folder of images.
    """
    labels = {line: label for label, (_, line) in enumerate(lines(folder / "variants.txt"))}

    def rows(part: str) -> list[Row]:
        found: list[Row] = []
        for at, line in lines(folder / f"images_variant_{part}.txt"):
            image, *variant = words(line, at, 2, "an image's number and its variant")
            name = " ".join(variant)
            found.append(Row(f"{image}.jpg", _label(labels, name, at, "variants.txt"), name, at))
        return found

    return from_rows(images, {part: rows(part) for part in PARTS})


def sun(folder: Path, images: Path) -> Pools:
    """Reads SUN397: ClassName.txt has class folders such as /a/apartment_building/outdoor, in the order of labels.

    Training_01.txt and Testing_01.txt have the paths of images in these folders. The class name is the reversed path of the
    folder without the letter: "outdoor apartment building".

    Args:
        folder: folder of the data set.
        images: folder of images.
    """
    labels = {line.strip("/"): label for label, (_, line) in enumerate(lines(folder / "ClassName.txt"))}

    def rows(name: str) -> list[Row]:
        found: list[Row] = []
        for at, line in lines(folder / name):
            image = line.removeprefix("/")
            place = image.rpartition("/")[0]
            label = _label(labels, place, at, "ClassName.txt")
            found.append(Row(image, label, " ".join(reversed(place.split("/")[1:])), at))
        return found

    return from_rows(images, {"train": rows("Training_01.txt"), "test": rows("Testing_01.txt")})


def ucf(folder: Path, images: Path) -> Pools:
    """Reads UCF101 (in the folder ucfTrainTestlist/): classInd.txt has lines such as "1 ApplyEyeMakeup", with labels from 1.

    trainlist01.txt has lines such as "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"; testlist01.txt has no label. The image of
    this video is Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg.

    Args:
        folder: folder of the data set.
        images: folder of images.
    """
    lists = folder / "ucfTrainTestlist"
    labels: dict[str, int] = {}
    for at, line in lines(lists / "classInd.txt"):
        label, action, *_ = words(line, at, 2, "a label and its class")
        labels[action] = number(label, at) - 1

    def rows(name: str) -> list[Row]:
        found: list[Row] = []
        for at, line in lines(lists / name):
            action, _, video = line.split()[0].partition("/")
            label = _label(labels, action, at, "classInd.txt")
            place = "_".join(re.findall("[A-Z][^A-Z]*", action))
            found.append(Row(f"{place}/{video.removesuffix('.avi')}.jpg", label, place, at))
        return found

    return from_rows(images, {"train": rows("trainlist01.txt"), "test": rows("testlist01.txt")})


def _label(labels: Mapping[str, int], name: str, at: str, file: str) -> int:
    if name not in labels:
        raise DplError(f"{at}: the class {shown(name)!r} is not in {file}; get the files anew")
    return labels[name]
