"""How long 16 shots of an ImageNet of full size take, drawn or read back, and how much memory.

Not run by CI, as making the files takes minutes:

    python -m tests.data.sources.catalog.full_imagenet /tmp/full

The folder gets a layout of ImageNet with empty files if it is not there: 1000 classes, 1,281,167 training and 50,000 test images.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

TRAIN, TEST, CLASSES = 1_281_167, 50_000, 1000


def make(root: Path, train: int = TRAIN, test: int = TEST, classes: int = CLASSES) -> None:
    """Writes the layout, its images empty: classes of nearly equal size."""
    images, wnids = root / "imagenet" / "images", [f"n{1440764 + 137 * label:08}" for label in range(classes)]
    for part, count in (("train", train), ("val", test)):
        for label, wnid in enumerate(wnids):
            folder = images / part / wnid
            folder.mkdir(parents=True)
            for index in range(count * label // classes, count * (label + 1) // classes):
                name = f"{wnid}_{index * 7919 % 99991}_{index}.JPEG" if part == "train" else f"ILSVRC2012_val_{index:08}.JPEG"
                (folder / name).touch()
    (root / "imagenet" / "classnames.txt").write_text("".join(f"{wnid} thing {wnid}\n" for wnid in wnids))


def measure(root: Path) -> None:
    """Loads the task, draws 16 shots, and finds them again by their names."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    from dpl.data.fewshot import sample
    from dpl.data.load import load_task
    from dpl.data.shots_from import read_shots

    task = load_task("imagenet", root=root)
    loaded = time.perf_counter()
    shots = sample(task, 16, seed=1)
    drawn = time.perf_counter()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "shots.json"
        file.write_text(json.dumps({"train": [item.name for item in shots.train], "val": [item.name for item in shots.val]}))
        assert read_shots(load_task("imagenet", root=root), file, 16).train == shots.train
    done, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{len(task.train):,} training images, {len(task.test):,} test images, {len(task.class_names)} classes")
    print(f"{len(shots.train):,} training shots, {len(shots.val):,} validation shots")
    print(f"peak {after // 1024} MB, {before // 1024} at start")
    print(f"load {loaded - begun:.1f} s, draw {drawn - loaded:.1f} s, load and find again {done - drawn:.1f} s")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if sys.argv[2:] == ["measure"]:
        measure(folder)
    else:
        if not folder.exists():
            make(folder)
        subprocess.run([sys.executable, "-m", "tests.data.sources.catalog.full_imagenet", str(folder), "measure"], check=True)
