"""The class names and the template that a person gives in the demo, and their limits."""

import re
from dataclasses import dataclass

from dpl.data.names import class_name
from dpl.data.paths import shown
from dpl.errors import DplError

MOST_NAMES = 50
LONGEST = 200
"""Characters of a class name, and of the template."""


@dataclass(frozen=True)
class Wording:
    """Class names, and a sentence with {} for one."""

    names: tuple[str, ...]
    template: str

    @property
    def text(self) -> str:
        """The names, a line each."""
        return "\n".join(self.names)


def read_wording(names: str, template: str, own: Wording) -> Wording:
    """The wording of `names`, a line per class (empty ones count nothing), and a `template`.

    `own` is that of the run, which is taken as it is and may have more and longer names than a person may give. Raises
    `DplError` for what is too much or too long, a name that is there twice, and a template without just one {}.
    """
    lines = re.split(r"\r\n|\r|\n", names)
    return Wording(own.names if "\n".join(lines) == own.text else _names(lines, own), _template(template, own))


def _names(lines: list[str], own: Wording) -> tuple[str, ...]:
    known, seen = set(own.names), dict[str, int]()
    # Before anything is done with them: a page need not be the one that asks.
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
