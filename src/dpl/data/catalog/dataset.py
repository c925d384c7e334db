"""What the catalogue says of a data set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dpl.data.catalog.pools import Pools

SPLITS_PAGE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
# The seven that CLIP's authors found to do best on ImageNet: behind a data set's own, they make the ensemble.
ENSEMBLE = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)


@dataclass(frozen=True)
class Counts:
    """The published sizes; none where the data set has no such part."""

    classes: int
    train: int | None
    val: int | None
    test: int

    def part(self, name: str) -> int | None:
        """Images of "train", "val" or "test"."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]


@dataclass(frozen=True)
class Dataset:
    """A row of the catalogue."""

    name: str
    title: str
    folder: str
    """Its folder under --root."""
    images: str
    """The folder of images in that, "." for itself."""
    counts: Counts
    reader: Callable[[Path, Path], Pools]
    """Reads the original annotations, given the folder and the folder of images."""
    download: tuple[str, ...]
    """What to get, and where: a sentence each."""
    files: Mapping[str, str]
    """What must lie in the folder, with a remark each; a name that ends in / is a folder's."""
    template: str = "a photo of a {}."
    split: str | None = None
    """The file of the field's split, which the original annotations are only a stand-in for."""
    stand_in: Mapping[str, str] = field(default_factory=dict)
    """As `files`, but needed only where the split file is not there."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Where else a file may lie."""
    balanced: tuple[str, ...] = ()
    """The parts in which every class has as many images."""
    trained_on: str | None = None
    """The data set that runs are trained on, where this has test images only."""

    @property
    def templates(self) -> tuple[str, ...]:
        """The protocol's template, and those that make the ensemble with it."""
        return (self.template, *ENSEMBLE)

    def steps(self) -> tuple[str, ...]:
        """All that is to be downloaded, the split file included."""
        split = (f"{self.split}: linked from {SPLITS_PAGE}",) if self.split else ()
        return (*self.download, *split)

    def tree(self) -> str:
        """How the folder is laid out, with a remark per line."""
        split = {self.split: "the split that the field uses"} if self.split else {}
        only = {name: f"{remark} (only without the split file)".strip() for name, remark in self.stand_in.items()}
        entries = {**self.files, **split, **only}
        width = max(map(len, entries))
        return "\n".join([f"{self.folder}/", *(f"    {name:{width}}  {remark}".rstrip() for name, remark in entries.items())])
