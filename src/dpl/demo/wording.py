"""Class names and template of the demo's user, and their limits."""

import re
from dataclasses import dataclass

from dpl.data.class_names import class_name
from dpl.data.paths import shown
from dpl.utils.errors import DplError

MOST_NAMES = 50
LONGEST = 200
"""Largest number of characters of a class name, and of the template."""


@dataclass(frozen=True)
class Wording:
    """Class names, and a template: a sentence with {} for a class name."""

    names: tuple[str, ...]
    template: str

    @property
    def text(self) -> str:
        """The class names, one per line."""
        return "\n".join(self.names)


def read_wording(names: str, template: str, own: Wording) -> Wording:
    """Reads and checks class names and a template.

    The names and the template of `own` are accepted unchanged, also beyond the limits of number and length.

    Args:
        names: class names, one per line; empty lines are ignored.
        template: a sentence with {} for the class name.
        own: the wording of the run.

    Returns:
        The wording.

    Raises:
        DplError: there are too many names or fewer than two, a name or the template is too long, a name occurs twice, or the
            template does not have exactly one {}.
    """
    lines = re.split(r"\r\n|\r|\n", names)
    return Wording(own.names if "\n".join(lines) == own.text else _names(lines, own), _template(template, own))


def _names(lines: list[str], own: Wording) -> tuple[str, ...]:
    known, seen = set(own.names), dict[str, int]()
    # Checked before any other work, because a request need not come from our page.
    if len(lines) > 2 * (most := max(MOST_NAMES, len(own.names))):
        raise DplError(f"{len(lines)} lines of class names: at most {most} names; leave some out")
    found = []
    for number, line in enumerate(lines, start=1):
        if len(line) > LONGEST and line not in known:
            raise DplError(f"line {number}: a class name has at most {LONGEST} characters; shorten it")
        name = line if line in known else class_name(line)
        if not name:
            continue
        if (other := seen.setdefault(name.casefold(), number)) != number:
            raise DplError(f"line {number}: {name!r} is in line {other} already; keep one")
        found.append(name)
    if len(found) > most:
        raise DplError(f"{len(found)} class names: at most {most}; leave some out")
    if len(found) < 2:
        raise DplError("give at least two class names, a line each")
    return tuple(found)


def _template(template: str, own: Wording) -> str:
    if template == own.template:
        return template
    text = " ".join(shown(template).split())
    if len(text) > LONGEST:
        raise DplError(f"the template has at most {LONGEST} characters; shorten it")
    if text.count("{}") != 1 or re.search(r"[{}]", text.replace("{}", "")):
        raise DplError(f"template {text!r}: must have one {{}} for the class name, such as: a photo of a {{}}.")
    return text
