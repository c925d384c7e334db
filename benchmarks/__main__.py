"""The measurements: python -m benchmarks COMMAND, an explicit table of commands."""

import os
import sys
from importlib import import_module

import tyro

from dpl.utils.errors import DplError

COMMANDS = {
    "step": "time and memory of a search and of a training step, against the paper's formulation and plain floors",
    "attention": "the mixture attention alone, in five ways",
    "inference": "images per second against the bare Hugging Face model",
    "precision": "whether bf16 finds the layouts that fp32 finds",
    "heads": "text, residual and chosen heads beside a linear probe, where class names mean something and where not",
    "methods": "a training step of every method beside its floor",
    "maps": "whether the maps of dpl explain lie on the object, and what they cost",
    "against": "dpl fit now against an earlier commit",
    "folders": "decodes and seconds of dpl fit on a folder of photos, now against an earlier commit",
    "seconds": "search and training against the training alone, and against the paper's search",
    "study": "does search pay? searched, uniform and random layouts on all built-in tasks; takes hours, goes on when stopped",
    "evidence": "tables and plots of the study, into docs/evidence.md",
}
HELP = "usage: python -m benchmarks COMMAND ...        COMMAND --help for its options\n\n" + "".join(
    f"  {name:<12}{what}\n" for name, what in COMMANDS.items()
)


def main(arguments: list[str]) -> int:
    """Runs one command; the exit status is 2 for bad input."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `dpl` does
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(HELP, end="")
        return 0
    try:
        if name not in COMMANDS:
            raise DplError(f"no command {name!r}: there are {', '.join(COMMANDS)}")
        command = import_module(f"benchmarks.{name}")
        command.main(tyro.cli(command.Settings, args=rest, prog=f"python -m benchmarks {name}", description=command.__doc__))
    except DplError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
