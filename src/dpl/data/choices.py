"""The values of settings that concern data; light to import, so that `--help` is quick."""

from typing import Literal

Classes = Literal["all", "base", "new"]
"""All classes of a task, or the first (base) or the second (new) half of them in the order of their labels."""
