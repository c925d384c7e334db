"""A task from a folder of images (see `dpl.data.class_folders`), with the splits that it lacks.

Images may lie deeper within a class's folder. What is hidden is ignored; other kinds of files get a note.
"""

from collections import Counter
from pathlib import Path

from dpl.data import class_folders, split
from dpl.data.class_folders import ClassFolders
from dpl.data.images import unreadable
from dpl.data.paths import ENDINGS, is_image, listed, relative_name, shown, walk
from dpl.data.task import Augmentation, Item, Task
from dpl.errors import DplError

TEMPLATES = (  # the first is the field's; the others are of the kind that CLIP's authors ensemble
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a good photo of a {}.",
    "a close-up photo of a {}.",
    "a cropped photo of a {}.",
    "a bright photo of a {}.",
    "a dark photo of a {}.",
)
AUGMENTATION = Augmentation(scale=(0.5, 1.0), flip=True)


def load(root: Path, *, strict: bool = False) -> Task:
    """The folder `root` as a task. Splits that are not given are made, always the same; see the task's notes.

    Unreadable images are skipped with a note, or are an error if `strict`. Raises `DplError` for a folder that is no
    task.
    """
    found = class_folders.find(root)
    items, skipped = _read(root, found, strict)
    if "all" in items:
        pools, made = _split_all(root, items["all"], found.class_names)
    elif "val" not in items:
        pools, made = _split_train(root, items, found.class_names)
    else:
        pools, made = items, ()
    return Task(
        name=shown(root.resolve().name or root),
        class_names=found.class_names,
        templates=TEMPLATES,
        train=tuple(pools["train"]),
        val=tuple(pools["val"]),
        test=tuple(pools["test"]),
        augmentation=AUGMENTATION,
        notes=(*found.notes, *skipped, *made),
        root=root,
    )


def _read(root: Path, found: ClassFolders, strict: bool) -> tuple[dict[str, list[Item]], tuple[str, ...]]:
    """The readable images of each part, by label and name, and notes on the other files."""
    files = {folder: list(walk(folder.path, found.visited)) for folder in found.folders}
    other = [path for paths in files.values() for path in paths if not is_image(path)]
    files = {folder: [path for path in paths if is_image(path)] for folder, paths in files.items()}
    bad = unreadable([path for paths in files.values() for path in paths])
    if bad and strict:
        path, reason = next(iter(bad.items()))
        more = f" ({len(bad) - 1} more such files)" if len(bad) > 1 else ""
        raise DplError(f"cannot read {shown(path)}: {reason}{more}; replace or remove it")
    items: dict[str, list[Item]] = {folder.part: [] for folder in found.folders}
    for folder, paths in files.items():
        good = [Item(path, folder.label, relative_name(path, root)) for path in paths if path not in bad]
        if not good:
            reason = f"no readable image: {shown(paths[0].name)}: {bad[paths[0]]}" if paths else "no images"
            raise DplError(f"{shown(folder.path)} has {reason}; add some ({' '.join(ENDINGS)}) or remove the folder")
        items[folder.part].extend(sorted(good, key=lambda item: item.name))
    return items, _notes_on_files(root, bad, other)


def _notes_on_files(root: Path, bad: dict[Path, str], other: list[Path]) -> tuple[str, ...]:
    notes: list[str] = []
    if bad:
        names = listed((f"{shown(relative_name(path, root))} ({reason})" for path, reason in bad.items()), most=3)
        notes.append(f"skipped {len(bad)} unreadable image{'s' if len(bad) > 1 else ''}: {names}")
    if other:
        endings = Counter(path.suffix.lower() or "no ending" for path in other).most_common()
        counts = listed(f"{shown(ending)} ({count})" for ending, count in endings)
        notes.append(f"ignored files of other kinds: {counts}")
    return tuple(notes)


def _split_all(root: Path, items: list[Item], names: tuple[str, ...]) -> tuple[dict[str, list[Item]], tuple[str, ...]]:
    pools: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
    for group in _by_class(root, items, names, least=3, parts="train, val and test"):
        for pool, part in zip(pools.values(), split.three_ways(group), strict=True):
            pool.extend(part)
    note = "no train/ and test/ given: every class is split 50/20/30 % into train, val and test, the same for all seeds"
    return pools, (note,)


def _split_train(
    root: Path, items: dict[str, list[Item]], names: tuple[str, ...]
) -> tuple[dict[str, list[Item]], tuple[str, ...]]:
    pools: dict[str, list[Item]] = {"train": [], "val": [], "test": items["test"]}
    for group in _by_class(root, items["train"], names, least=2, parts="train and val"):
        val, train = split.take(group, split.VAL)
        pools["val"].extend(val)
        pools["train"].extend(train)
    return pools, ("no val/ given: 20 % of every class of train/ are for validation, the same for all seeds",)


def _by_class(root: Path, items: list[Item], names: tuple[str, ...], least: int, parts: str) -> list[list[Item]]:
    groups: list[list[Item]] = [[] for _ in names]
    for item in items:
        groups[item.label].append(item)
    short = [f"{name} ({len(group)})" for name, group in zip(names, groups, strict=True) if len(group) < least]
    if short:
        problem = f"too few images to split into {parts}: {listed(short)}"
        raise DplError(f"{shown(root)}: {problem}; every class needs {least} or more")
    return groups
