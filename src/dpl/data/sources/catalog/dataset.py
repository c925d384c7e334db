"""Row type of the catalogue: names, folders, files, published counts and templates of a data set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dpl.data.sources.catalog.pools import Pools

SPLITS_PAGE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
# The seven templates that CLIP's authors found best on ImageNet. The ensemble is the data set's own template and these.
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
    """Published numbers of classes and images; None if the data set does not have the part."""

    classes: int
    train: int | None
    val: int | None
    test: int

    def part(self, name: str) -> int | None:
        """Returns the number of images of "train", "val" or "test"."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]


@dataclass(frozen=True)
class Dataset:
    """A row of the catalogue."""

    name: str
    title: str
    folder: str
    """The folder of the data set under --root."""
    images: str
    """The folder of images in it; "." for the folder itself."""
    counts: Counts
    reader: Callable[[Path, Path], Pools]
    """Reads the original annotations, given the folder and the folder of images."""
    download: tuple[str, ...]
    """The download steps with their addresses, one sentence each."""
    files: Mapping[str, str]
    """The required files with a remark each; the name of a folder ends in /."""
    template: str = "a photo of a {}."
    split: str | None = None
    """The file of the field's split; without it the original annotations are read."""
    stand_in: Mapping[str, str] = field(default_factory=dict)
    """Files as in `files` that are required only without the split file."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Second possible places of files."""
    balanced: tuple[str, ...] = ()
    """The parts in which all classes have the same number of images."""
    trained_on: str | None = None
    """The data set to train on if this one has test images only."""

    @property
    def templates(self) -> tuple[str, ...]:
        """The protocol's template, followed by the others of the ensemble."""
        return (self.template, *ENSEMBLE)

    def steps(self) -> tuple[str, ...]:
        """Returns all download steps, including the split file, a sentence each."""
        split = (f"{self.split}: linked from {SPLITS_PAGE}",) if self.split else ()
        return (*self.download, *split)

    def tree(self) -> str:
        """Formats the layout of the folder, one file per line with a remark."""
        split = {self.split: "the split that the field uses"} if self.split else {}
        only = {name: f"{remark} (only without the split file)".strip() for name, remark in self.stand_in.items()}
        entries = {**self.files, **split, **only}
        width = max(map(len, entries))
        return "\n".join([f"{self.folder}/", *(f"    {name:{width}}  {remark}".rstrip() for name, remark in entries.items())])
