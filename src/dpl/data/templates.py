"""Sentences with {} for the class name: those for photos of unknown kind, and those that `--template` gives."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dpl.data.label_text import read_text
from dpl.data.paths import shown
from dpl.data.task import Task
from dpl.errors import DplError

PHOTOS = (  # the first is the field's; the others are of the kind that CLIP's authors ensemble
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a good photo of a {}.",
    "a close-up photo of a {}.",
    "a cropped photo of a {}.",
    "a bright photo of a {}.",
    "a dark photo of a {}.",
)


def given_templates(words: Sequence[str]) -> tuple[str, ...]:
    """The templates of `--template`: each word is one, or a file with one per line (# begins a comment), in their order.

    Raises `DplError` naming the first that has not exactly one {}, and nothing else in braces; or that is there twice.
    """
    found: dict[str, str] = {}  # template -> where it is from
    for word in words:
        for place, template in _of_file(word) if _is_file(word) else [(f"--template {shown(word)!r}", word)]:
            if template.count("{}") != 1 or re.search(r"[{}]", template.replace("{}", "")):
                raise DplError(f"{place}: must have one {{}} for the class name")
            if template in found:
                raise DplError(f"{place}: is there twice, see {found[template]}; keep one")
            found[template] = place
    return tuple(found)


def with_templates(task: Task, given: Sequence[str]) -> Task:
    """`task` with templates that were given: one replaces its first, several are all.

    Where none were given and the task has those for photos of unknown kind, a note says so.
    """
    if given:
        others = [template for template in task.templates[1:] if template not in given]
        return replace(task, templates=(*given, *(others if len(given) == 1 else ())))
    if task.templates != PHOTOS:
        return task
    note = f"texts are {PHOTOS[0]!r}, for the ensemble {len(PHOTOS) - 1} more for photos; --template gives others"
    return replace(task, notes=(*task.notes, note))


def _is_file(word: str) -> bool:
    try:
        return "{}" not in word and Path(word).is_file()
    except (OSError, ValueError):  # too long for a path, or a zero byte
        return False


def _of_file(word: str) -> list[tuple[str, str]]:
    path = Path(word)
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", read_text(path, "a file of templates"))]
    templates = [
        (f"{shown(path)}: line {number}: {shown(line)[:80]!r}", line)
        for number, line in enumerate(lines, start=1)
        if line and not line.startswith("#")
    ]
    if not templates:
        raise DplError(f"{shown(path)}: has no templates; give one per line, with {{}} for the class name")
    return templates
