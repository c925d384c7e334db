"""What a protocol asks for: the data sets that are learned on and evaluated on, and the plan of the runs on each."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpl.arguments import Compare
from dpl.compare.plan import Plan, columns_of, make_plan
from dpl.data.catalog import CATALOG, present
from dpl.data.paths import listed, shown
from dpl.data.subset import Classes
from dpl.data.task import BUILTIN
from dpl.errors import DplError
from dpl.pipeline import data_name

if TYPE_CHECKING:
    from dpl.arguments import Reproduce

SOURCE = "imagenet"
ELEVEN = tuple(name for name, row in CATALOG.items() if row.trained_on is None)
SHIFTS = tuple(name for name, row in CATALOG.items() if row.trained_on == SOURCE)


@dataclass(frozen=True)
class Protocol:
    """What is learned and evaluated: on every one of the data sets, or on one of them for all others."""

    title: str
    names: tuple[str, ...]
    """The data sets of the protocol; where it transfers, those evaluated on."""
    shots: tuple[int, ...] = (16,)
    classes: Classes = "all"
    """What is learned on; of "base", "new" is evaluated."""
    transfers: bool = False
    """Whether one run, on another data set, is for all data sets."""


PROTOCOLS = {
    "dpl-fewshot": Protocol("Few-shot", ELEVEN, (1, 2, 4, 8, 16)),
    "base-to-new": Protocol("Base-to-new", ELEVEN, classes="base"),
    "cross-dataset": Protocol("Cross-data-set transfer", tuple(name for name in ELEVEN if name != SOURCE), transfers=True),
    "domain": Protocol("Domain generalisation", SHIFTS, transfers=True),
}


@dataclass(frozen=True)
class Grid:
    """All that is to be done. `plans` are by the name of the data set learned on, `targets` the others evaluated on."""

    name: str
    labels: tuple[str, ...]
    methods: tuple[str, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    plans: dict[str, Plan]
    targets: dict[str, str]
    """Of the name, what `load_task` takes."""
    absent: tuple[str, ...]
    root: Path | None
    preset: str
    backbone: str
    out: Path
    command: str

    @property
    def protocol(self) -> Protocol:
        """The row of `PROTOCOLS`."""
        return PROTOCOLS[self.name]


def make_grid(asked: "Reproduce") -> Grid:
    """What the command line asks for, every setting checked; `DplError` names the first that is wrong. Nothing is written.

    Without --data it is the protocol's data sets, as far as they are under --root; at least one must be there.
    """
    protocol = PROTOCOLS[asked.protocol]
    if asked.source != SOURCE and not protocol.transfers:
        raise DplError(f"--source {asked.source}: {asked.protocol} learns on every data set; give them with --data")
    if asked.data:
        names, absent = _named(asked.data), ()
    else:
        names, absent = _present(protocol, asked)
    sources = _named((asked.source,)) if protocol.transfers else names
    targets = names if protocol.transfers else {}
    if same := sources.keys() & targets.keys():
        raise DplError(f"--data {listed(same)}: is what is learned on (--source); name others")
    if protocol.transfers and asked.source == SOURCE and SOURCE not in _there(asked.root, (SOURCE,)):
        raise DplError(f"{asked.protocol} learns on {SOURCE}, which is not under {_root(asked)}: see dpl datasets where {SOURCE}")
    own = columns_of(asked.methods)
    out = asked.out or Path("runs") / f"reproduce-{asked.protocol}"
    plans = {name: _plan(asked, protocol, data, out / name) for name, data in sources.items()}
    first = next(iter(plans.values()))
    return Grid(
        name=asked.protocol,
        labels=tuple(column.label for column in own),
        methods=tuple(column.method for column in own),
        shots=first.shots,
        seeds=first.seeds,
        plans=plans,
        targets=targets,
        absent=absent,
        root=asked.root,
        preset=first.preset,
        backbone=asked.backbone,
        out=out,
        command=_command(asked),
    )


def _present(protocol: Protocol, asked: "Reproduce") -> tuple[dict[str, str], tuple[str, ...]]:
    """The data sets that are under --root, and the names of those that are not."""
    there = _there(asked.root, protocol.names)
    if not there:
        where = "see dpl datasets where NAME for how to get one"
        raise DplError(
            f"none of {listed(protocol.names, 11)} is under {_root(asked)}: {where}, and say with --root where they lie"
        )
    return {name: name for name in there}, tuple(name for name in protocol.names if name not in there)


def _there(root: Path | None, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if root is not None and present(CATALOG[name], root))


def _root(asked: "Reproduce") -> str:
    return "--root, which is not given" if asked.root is None else f"--root {shown(asked.root)}"


def _named(given: tuple[str, ...]) -> dict[str, str]:
    """By the name of each: its own where it has one, else that of its folder or file."""
    names: dict[str, str] = {}
    for data in given:
        name = data if data in CATALOG or data in BUILTIN else data_name(data)
        if name in names:
            raise DplError(f"--data {shown(data)}: would be called {name}, as {shown(names[name])} is; rename or leave out one")
        names[name] = data
    return names


def _plan(asked: "Reproduce", protocol: Protocol, data: str, out: Path) -> Plan:
    return make_plan(
        Compare(
            data=data,
            methods=asked.methods,
            seeds=asked.seeds,
            shots=asked.shots or tuple(map(str, protocol.shots)),
            preset="paper-transfer" if protocol.transfers and asked.preset == "paper" else asked.preset,
            backbone=asked.backbone,
            root=asked.root,
            classes=protocol.classes,
            device=asked.device,
            precision=asked.precision,
            out=out,
        )
    )


def _command(asked: "Reproduce") -> str:
    words = ["dpl", "reproduce", asked.protocol]
    base = type(asked)(asked.protocol)
    for name in ("root", "data", "source", "methods", "seeds", "shots", "preset", "backbone", "device", "precision", "out"):
        if (value := getattr(asked, name)) != getattr(base, name):
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)
