"""Locates the class folders of a data folder: side by side, within train/ and test/, or with train/ and test/ in each class."""

from collections.abc import Iterable
from pathlib import Path

from dpl.data.paths import entries, folders, is_image, listed, shown, walk, with_parents
from dpl.data.split import PARTS
from dpl.utils.errors import DplError

LAYOUT = "give a folder with one folder of images per class, or with train/ and test/ of such"
_DEPTH = 4  # levels of folders around the data, which archives and their tools add

Parts = dict[str, dict[Path, str]]
"""The class folders of each part ("train", "val", "test", or "all" if the data is not split), with their names on disk."""


def locate(root: Path) -> tuple[Path, Parts]:
    """Finds the folder that has the data, and its class folders.

    Supported layouts are class/, train/class/ and class/train/ (also val and test, in upper or lower case), each also within a
    single enclosing folder: data/train/class/.

    Args:
        root: data folder.

    Returns:
        The folder that has the data (`root` or one below it), and its class folders by part, possibly none.

    Raises:
        DplError: the layout is ambiguous, or a split is missing.
    """
    top = root
    for _ in range(_DEPTH):
        if (parts := _split_folders(top)) is not None:
            return top, {part: {path: path.name for path in folders(place)} for part, place in parts.items()}
        split = {folder: found for folder in folders(top) if {"train", "test"} <= (found := _parts_in(folder)).keys()}
        inner = _wrapped(top, split)
        if inner is None:
            return top, _of_classes(top, split)
        top = inner
    return top, _of_classes(top, {})


def _parts_in(place: Path, inside: Iterable[Path] | None = None) -> dict[str, Path]:
    """Returns the folders in `place` (or in `inside`) named like a split; `DplError` if two have the same split."""
    parts: dict[str, Path] = {}
    for path in folders(place) if inside is None else inside:
        part = PARTS.get(path.name.lower())
        if part and part in parts:
            raise DplError(f"{shown(place)} has two folders for {part}: {parts[part].name} and {path.name}; keep one")
        if part:
            parts[part] = path
    return parts


def _split_folders(place: Path) -> dict[str, Path] | None:
    """Returns the folders of "train", "test" and possibly "val", or None if `place` is not split."""
    inside = folders(place)
    parts = _parts_in(place, inside)
    if {"train", "test"} <= parts.keys():
        return parts
    # A class may be named "train" (a vehicle), so a split is missing only if all folders are named like splits.
    if parts and len(parts) == len(inside) and (len(parts) > 1 or any(folders(path) for path in inside)):
        missing = " and ".join(f"{part}/" for part in ("train", "test") if part not in parts)
        raise DplError(f"{shown(place)} has {listed(path.name for path in inside)} but no {missing}: {LAYOUT}")
    return None


def _wrapped(top: Path, split: dict[Path, dict[str, Path]]) -> Path | None:
    """Returns the only folder in `top` that has the data, or None if the classes are in `top` itself.

    `split` has the folders in `top` with train/ and test/.
    """
    # A folder with classes in train/. If there are several, they may instead be classes with images in nested folders.
    deep = [folder for folder, parts in split.items() if folders(parts["train"])]
    deep = [folder for folder in deep if len(split) == 1 or not _images(split[folder]["train"])]
    inside = folders(top)
    if not split:
        # A single folder that contains only folders is not a class.
        return inside[0] if len(inside) == 1 and folders(inside[0]) and not _images(inside[0]) else None
    others = [folder for folder in inside if folder not in split and _holds_images(folder)]
    if len(split) == 1 and deep and not others:
        return deep[0]
    if deep:
        names = listed(folder.name for folder in (*split, *others))
        raise DplError(f"{shown(top)}: {shown(deep[0].name)} has train/ and test/, but there are {names}; give one of them")
    if others:
        having, lacking = (listed(shown(folder.name) for folder in group) for group in (split, others))
        raise DplError(f"{shown(top)}: {having} have train/ and test/, {lacking} not; all classes must have them, or none")
    return None


def _of_classes(top: Path, split: dict[Path, dict[str, Path]]) -> Parts:
    """Returns the class folders of `top`. Either all of them are in `split`, or `split` is empty."""
    if not split:
        inside = folders(top)
        found = {path: _parts_in(path) for path in inside}
        if inside and all(parts and len(parts) == len(folders(path)) for path, parts in found.items()):
            first, parts = next(iter(found.items()))
            missing = " and ".join(f"{part}/" for part in ("train", "test") if part not in parts)
            raise DplError(f"{shown(first)} has {listed(path.name for path in parts.values())} but no {missing}: {LAYOUT}")
        return {"all": {path: path.name for path in inside}}
    present = [part for part in ("train", "val", "test") if any(part in parts for parts in split.values())]
    return {part: {parts[part]: folder.name for folder, parts in split.items() if part in parts} for part in present}


def _images(place: Path) -> bool:
    return any(is_image(path) and not path.is_dir() for path in entries(place))


def _holds_images(place: Path) -> bool:
    """Returns whether there are images in `place` or below."""
    return any(is_image(path) for path in walk(place, with_parents(place)))
