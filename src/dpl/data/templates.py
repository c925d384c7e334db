"""Templates, sentences with {} for the class name: defaults for photos, and templates of `--template`."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dpl.data.paths import shown
from dpl.data.task import Task
from dpl.data.text_files import read_text
from dpl.utils.errors import DplError

PHOTOS = (  # the first is the field's standard; the others are similar to those in the ensemble of CLIP's authors
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
    """Reads the templates of `--template`.

    Args:
        words: templates, or files with one template per line and comment lines that start with #.

    Returns:
        All templates in their order.

    Raises:
        DplError: a template does not have exactly one {}, has other braces, or is given twice; or a file cannot be read or has no
            templates.

    Example:

        >>> given_templates(["a photo of a {}.", "a drawing of a {}."])
        ('a photo of a {}.', 'a drawing of a {}.')
        >>> given_templates(["a photo"])
        Traceback (most recent call last):
        dpl.utils.errors.DplError: --template 'a photo': must have one {} for the class name
    """
    found: dict[str, str] = {}  # template -> where it is from
    for word in words:
        for place, template in _of_file(word) if _is_file(word) else [(f"--template {shown(word)!r}", word)]:
            check_template(template, place)
            if template in found:
                raise DplError(f"{place}: is there twice, see {found[template]}; keep one")
            found[template] = place
    return tuple(found)


def with_templates(task: Task, given: Sequence[str]) -> Task:
    """Replaces templates of a task.

    Args:
        task: the task.
        given: one template replaces the task's first; several replace all; none replaces nothing.

    Returns:
        The task with the new templates. Without new ones, a note is added if the task has the default templates `PHOTOS`.

    Raises:
        DplError: a template does not have exactly one {}, or has other braces.
    """
    for template in given:
        check_template(template, f"template {shown(template)!r}")
    if given:
        others = [template for template in task.templates[1:] if template not in given]
        return replace(task, templates=(*given, *(others if len(given) == 1 else ())))
    if task.templates != PHOTOS:
        return task
    note = f"texts are {PHOTOS[0]!r}, for the ensemble {len(PHOTOS) - 1} more for photos; --template gives others"
    return replace(task, notes=(*task.notes, note))


def check_template(template: str, place: str) -> None:
    """Checks a template.

    Args:
        template: the sentence.
        place: its origin, for the message.

    Raises:
        DplError: it does not have exactly one {}, or has other braces.
    """
    if template.count("{}") != 1 or re.search(r"[{}]", template.replace("{}", "")):
        raise DplError(f"{place}: must have one {{}} for the class name")


def sentences(template: str, class_names: Sequence[str]) -> list[str]:
    """Replaces the {} of `template` by every class name. Nothing else in a template or a name has a meaning.

    Args:
        template: a sentence with one {}.
        class_names: the names of the classes.

    Returns:
        A sentence per class.

    Raises:
        DplError: the template does not have exactly one {}, or has other braces.

    Example:

        >>> sentences("a photo of a {}.", ["cat", "dog"])
        ['a photo of a cat.', 'a photo of a dog.']
    """
    check_template(template, f"template {shown(template[:80])!r}")
    return [template.replace("{}", name) for name in class_names]


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
