"""The protocols, and the grid of one: the data sets for learning and evaluation, and a plan of the runs on each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dpl.data.choices import Classes
from dpl.data.load import BUILTIN
from dpl.data.paths import listed, shown
from dpl.data.sources.catalog import CATALOG, present
from dpl.experiments.compare.plan import Plan
from dpl.pipeline import data_name
from dpl.utils.errors import DplError

SOURCE = "imagenet"
ELEVEN = tuple(name for name, row in CATALOG.items() if row.trained_on is None)
SHIFTS = tuple(name for name, row in CATALOG.items() if row.trained_on == SOURCE)


@dataclass(frozen=True)
class Protocol:
    """A protocol: runs learn on every data set and are evaluated on it, or learn on one data set and are evaluated on others."""

    title: str
    names: tuple[str, ...]
    """The data sets of the protocol; a protocol that transfers only evaluates on them."""
    shots: tuple[int, ...] = (16,)
    classes: Classes = "all"
    """The classes learned on; after "base" the new classes are evaluated too."""
    transfers: bool = False
    """Whether runs learn on one data set and are evaluated on the others."""


PROTOCOLS = {
    "dpl-fewshot": Protocol("Few-shot", ELEVEN, (1, 2, 4, 8, 16)),
    "base-to-new": Protocol("Base-to-new", ELEVEN, classes="base"),
    "cross-dataset": Protocol("Cross-data-set transfer", tuple(name for name in ELEVEN if name != SOURCE), transfers=True),
    "domain": Protocol("Domain generalisation", SHIFTS, transfers=True),
}


@dataclass(frozen=True)
class ProtocolData:
    """The data sets of a reproduction: for each name, the data as `load_task` takes them.

    `learned_on` are the data sets that runs learn on, `targets` the others, for evaluation only; `absent` are the names of the
    protocol's data sets that do not exist under the root.
    """

    learned_on: dict[str, str]
    targets: dict[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """All runs and evaluations of a protocol.

    `plans` maps the data sets learned on to the plans of their runs, all with the same methods, shots and seeds. `targets` maps
    the other data sets, for evaluation only, to what `load_task` takes.
    """

    name: str
    plans: dict[str, Plan]
    targets: dict[str, str]
    absent: tuple[str, ...]
    root: Path | None
    out: Path
    command: str

    @property
    def protocol(self) -> Protocol:
        """The row of the protocol in `PROTOCOLS`."""
        return PROTOCOLS[self.name]

    @property
    def first(self) -> Plan:
        """The plan of the first data set; labels, methods, shots, seeds and preset are the same in all plans."""
        return next(iter(self.plans.values()))


def choose_data(name: str, data: Sequence[str], root: Path | None, source: str = SOURCE) -> ProtocolData:
    """Chooses the data sets of a protocol.

    Args:
        name: the protocol, a key of `PROTOCOLS`.
        data: the data sets; by default the protocol's that exist under `root`.
        root: the folder of the catalogue's data sets.
        source: the data set learned on, if the protocol transfers.

    Returns:
        The data sets; at least one is evaluated on.

    Raises:
        DplError: data are missing or do not fit the protocol.
    """
    protocol = PROTOCOLS[name]
    if source != SOURCE and not protocol.transfers:
        raise DplError(f"--source {source}: {name} learns on every data set; give them with --data")
    names, absent = (_named(data), ()) if data else _present(protocol, root)
    if not protocol.transfers:
        return ProtocolData(names, absent=absent)
    sources = _named((source,))
    if same := sources.keys() & names.keys():
        raise DplError(f"--data {listed(same)}: is what is learned on (--source); name others")
    if source == SOURCE and SOURCE not in _there(root, (SOURCE,)):
        raise DplError(f"{name} learns on {SOURCE}, which is not under {_root(root)}: see dpl datasets where {SOURCE}")
    return ProtocolData(sources, names, absent)


def _present(protocol: Protocol, root: Path | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """The protocol's data sets under --root, and the names of its missing ones."""
    there = _there(root, protocol.names)
    if not there:
        where = "see dpl datasets where NAME for how to get one"
        raise DplError(
            f"none of {listed(protocol.names, 11)} is under {_root(root)}: {where}, and say with --root where they lie"
        )
    return {name: name for name in there}, tuple(name for name in protocol.names if name not in there)


def _there(root: Path | None, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if root is not None and present(CATALOG[name], root))


def _root(root: Path | None) -> str:
    return "--root, which is not given" if root is None else f"--root {shown(root)}"


def _named(given: Sequence[str]) -> dict[str, str]:
    """Maps a name to each data set: its own for a built-in or catalogue data set, else that of its folder or file."""
    names: dict[str, str] = {}
    for data in given:
        name = data if data in CATALOG or data in BUILTIN else data_name(data)
        if name in names:
            raise DplError(f"--data {shown(data)}: would be called {name}, as {shown(names[name])} is; rename or leave out one")
        names[name] = data
    return names
