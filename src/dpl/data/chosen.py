"""`--shots-from`: the images that another run has drawn, found again by their names."""

from collections import Counter
from pathlib import Path
from typing import Any

from dpl.data.fewshot import FewShot, without_training
from dpl.data.paths import listed, shown
from dpl.data.task import Item, Task
from dpl.errors import DplError
from dpl.files import read_json

LISTS = '{"train": [image names], "val": [image names]}'


def chosen(task: Task, path: Path, shots: int) -> FewShot:
    """The images that `path` names, in its order, as items of the task; `path` is a run folder, or a JSON file of `LISTS`.

    Names are looked up in the task's pools and never opened as files. Raises `DplError` where the file is no such thing, a
    name is not in the task's train (or val) pool or is there twice, or `shots` is not the number of shots of the run: of a
    file, the most images that a class has in "train". Also for a task that has test images only.
    """
    if not task.train:
        raise DplError(without_training(task))
    names, asked = _read(path)
    train, val = _found(task, path, names)
    if not train:
        raise DplError(f'{shown(path)}: names no image for "train"')
    asked = asked or max(Counter(item.label for item in train).values())
    if asked != shots:
        raise DplError(f"{shown(path)}: has {asked} shots per class, not {shots}; add --shots {asked}")
    without = len(task.class_names) - len({item.label for item in train})
    notes = [f"the images are those of {shown(path)}: {len(train)} for train, {len(val)} for val; no seed has drawn them"]
    if without:
        kept = {item.label for item in train}
        lacking = (name for label, name in enumerate(task.class_names) if label not in kept)
        notes.append(f"no training image for {without} of {len(task.class_names)} classes: {listed(lacking)}")
    return FewShot(train, val, tuple(notes))


def shots_asked(path: Path) -> int | None:
    """With how many shots the run in the folder `path` was made; None where it does not say, or `path` is no run folder.

    Raises `DplError` where a file cannot be read.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[dict[str, list[str]], int | None]:
    """The names of each part, and with how many shots the run was made."""
    try:
        is_folder = path.is_dir()
    except OSError as error:  # a path that is too long
        raise DplError(f"{shown(path)}: cannot be read ({error.strerror})") from None
    file = path / "config.json" if is_folder else path
    found = read_json(file)
    asked = None
    if is_folder and isinstance(found, dict):
        settings: Any = found.get("settings")
        asked = settings.get("shots") if isinstance(settings, dict) else None
        found = found.get("shots")
    if not isinstance(found, dict) or set(found) != {"train", "val"} or not all(map(_is_names, found.values())):
        raise DplError(f"{shown(file)}: does not name the shots; give a run folder of dpl fit, or JSON such as {LISTS}")
    return found, asked if isinstance(asked, int) else None


def _is_names(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _found(task: Task, path: Path, names: dict[str, list[str]]) -> list[tuple[Item, ...]]:
    """The items of "train" and "val" by their names; a pool is gone through once, as it may be of a million files."""
    asked = {name for part in names.values() for name in part}
    train = {item.name: item for item in task.train if item.name in asked}
    val = train if task.val is task.train else {item.name: item for item in task.val if item.name in asked}
    found: list[tuple[Item, ...]] = []
    for part, pool in (("train", train), ("val", val)):
        if twice := [name for name, count in Counter(names[part]).items() if count > 1]:
            raise DplError(f'{shown(path)}: "{part}" names {shown(twice[0])} twice; name every image once')
        if missing := [name for name in names[part] if name not in pool]:
            all_of = f"{len(missing)} of the {len(names[part])} images"
            raise DplError(
                f"{shown(path)}: {all_of} are not in the {part} images of {shown(task.name)}, {shown(missing[0])} first;"
                " give the data that they were drawn from"
            )
        found.append(tuple(pool[name] for name in names[part]))
    if both := [name for name in names["val"] if name in set(names["train"])]:
        raise DplError(f'{shown(path)}: names {shown(both[0])} for "train" and for "val"; an image is in one of them')
    return found
