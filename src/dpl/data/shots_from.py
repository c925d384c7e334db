"""`--shots-from`: reuses the few-shot images of another run, looked up by name."""

from collections import Counter
from pathlib import Path
from typing import Any

from dpl.data.fewshot import FewShot, without_training
from dpl.data.paths import listed, shown
from dpl.data.task import Item, Task
from dpl.utils.errors import DplError
from dpl.utils.files import read_json

LISTS = '{"train": [image names], "val": [image names]}'


def read_shots(task: Task, path: Path, shots: int) -> FewShot:
    """Reads the image names in `path` and finds their items in the task.

    The names are only looked up in the task's pools; they are never opened as files.

    Args:
        task: task with training images.
        path: run folder, or JSON file in the form of `LISTS`.
        shots: expected shots per class. The number is compared with the setting of the run; for a JSON file, with the largest
            number of "train" images of one class.

    Returns:
        The items in the order of the names, with notes on their origin and on classes without a training image.

    Raises:
        DplError: `path` has another form, a name is not in the task's train (or val) pool or is listed twice, `shots`
            differs, or the task has only test images.
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
    notes = [f"the images are those of {shown(path)}: {len(train)} for train, {len(val)} for val; the seed does not matter"]
    if without:
        kept = {item.label for item in train}
        lacking = (name for label, name in enumerate(task.class_names) if label not in kept)
        notes.append(f"no training image for {without} of {len(task.class_names)} classes: {listed(lacking)}")
    return FewShot(train, val, tuple(notes))


def shots_asked(path: Path) -> int | None:
    """Reads the number of shots per class from the settings of a run.

    Args:
        path: run folder, or JSON file in the form of `LISTS`.

    Returns:
        Shots per class; None if `path` is not a run folder or the run did not record the number.

    Raises:
        DplError: a file cannot be read or has another form.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[dict[str, list[str]], int | None]:
    """Returns the image names of "train" and "val", and the run's number of shots per class, if recorded."""
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
    """Returns the items of "train" and "val". Scans each pool only once, because it may have a million files."""
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
