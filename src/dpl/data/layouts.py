"""Where the class folders of a data folder are: beside each other, in `train/` and `test/`, or with such in every class."""

from collections.abc import Iterable
from pathlib import Path

from dpl.data.paths import entries, folders, is_image, listed, shown, walk, with_parents
from dpl.data.split import PARTS
from dpl.errors import DplError

LAYOUT = "give a folder with one folder of images per class, or with train/ and test/ of such"
_DEPTH = 4  # so many folders may be around the data, as archives and their tools make them

Parts = dict[str, dict[Path, str]]
"""Per part ("train", "val", "test", or "all" where the data is not split) the class folders, and what each is called."""


def locate(root: Path) -> tuple[Path, Parts]:
    """The folder that the data is in, `root` or one below it, and its class folders, which may still be none.

    Known are class/, train/class/ and class/train/ (val, test, in upper or lower case), each also in one folder around them
    that is all there is: data/train/class/. Raises `DplError` where it could be one or the other, or a split is missing.
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
    """The folders in `place` that are called like a split; `DplError` for two of one."""
    parts: dict[str, Path] = {}
    for path in folders(place) if inside is None else inside:
        part = PARTS.get(path.name.lower())
        if part and part in parts:
            raise DplError(f"{shown(place)} has two folders for {part}: {parts[part].name} and {path.name}; keep one")
        if part:
            parts[part] = path
    return parts


def _split_folders(place: Path) -> dict[str, Path] | None:
    """The folders of "train", "test" and maybe "val" of a folder that is split."""
    inside = folders(place)
    parts = _parts_in(place, inside)
    if {"train", "test"} <= parts.keys():
        return parts
    # A class may be called "train" (a vehicle): a split is missing only where splits are all there is.
    if parts and len(parts) == len(inside) and (len(parts) > 1 or any(folders(path) for path in inside)):
        missing = " and ".join(f"{part}/" for part in ("train", "test") if part not in parts)
        raise DplError(f"{shown(place)} has {listed(path.name for path in inside)} but no {missing}: {LAYOUT}")
    return None


def _wrapped(top: Path, split: dict[Path, dict[str, Path]]) -> Path | None:
    """The one folder in `top` that the data is in; None where the classes are in `top` itself.

    `split` are the folders that have train/ and test/.
    """
    # One that has classes in it; where there are several, they may be classes whose images lie deeper.
    deep = [folder for folder, parts in split.items() if folders(parts["train"])]
    deep = [folder for folder in deep if len(split) == 1 or not _images(split[folder]["train"])]
    inside = folders(top)
    if not split:
        # A folder that has nothing but folders, and is alone, is no class.
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
    """The class folders of `top`, which are all `split`, or none."""
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
    """Whether there are images in `place` or below."""
    return any(is_image(path) for path in walk(place, with_parents(place)))
