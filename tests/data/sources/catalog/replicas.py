"""Small copies of the catalogue's fifteen layouts in their true formats: ten images per class, split file and annotations.

Of the ten, the first six are for training, two for validation and two for testing in the split files; the official lists of
Pets, Cars, SUN397 and UCF101 have the first eight as trainval.
"""

import io
import json
import random
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

EACH, TRAIN, TRAINVAL = 10, 6, 8
NAMES: dict[str, tuple[str, ...]] = {  # by hand from docs/protocol.md, in the order of labels
    "imagenet": ("tench", "goldfish", "great white shark", "tiger shark", "hammerhead shark"),
    "caltech101": ("face", "leopard", "accordion", "airplane"),
    "oxford_pets": ("abyssinian", "american bulldog", "wheaten terrier"),
    "stanford_cars": ("1999 Dodge Ram Van", "2012 Acura RL Sedan", "1991 Audi V8 Sedan"),
    "oxford_flowers": ("pink primrose", "hard-leaved orchid", "canterbury bells"),
    "food101": ("apple pie", "baby back ribs", "baklava"),
    "fgvc_aircraft": ("707-320", "A300B4", "Model B200", "F/A-18"),
    "sun397": ("abbey", "interior balcony", "zen garden"),
    "dtd": ("banded", "blotchy", "polka-dotted"),
    "eurosat": ("Annual Crop Land", "Forest", "Highway or Road", "Sea or Lake"),
    "ucf101": ("Apply Eye Makeup", "Baby Crawling", "Yo Yo"),
    "imagenetv2": ("tench", "goldfish", "great white shark", "tiger shark", "hammerhead shark"),
    "imagenet_sketch": ("tench", "goldfish", "great white shark", "tiger shark", "hammerhead shark"),
    "imagenet_a": ("goldfish", "tiger shark"),
    "imagenet_r": ("tench", "tiger shark", "hammerhead shark"),
}
SPLITS = {  # split file and the folder that its paths are relative to
    "caltech101": ("caltech-101/split_zhou_Caltech101.json", "caltech-101/101_ObjectCategories"),
    "oxford_pets": ("oxford_pets/split_zhou_OxfordPets.json", "oxford_pets/images"),
    "stanford_cars": ("stanford_cars/split_zhou_StanfordCars.json", "stanford_cars"),
    "oxford_flowers": ("oxford_flowers/split_zhou_OxfordFlowers.json", "oxford_flowers/jpg"),
    "food101": ("food-101/split_zhou_Food101.json", "food-101/images"),
    "sun397": ("sun397/split_zhou_SUN397.json", "sun397/SUN397"),
    "dtd": ("dtd/split_zhou_DescribableTextures.json", "dtd/images"),
    "eurosat": ("eurosat/split_zhou_EuroSAT.json", "eurosat/2750"),
    "ucf101": ("ucf101/split_zhou_UCF101.json", "ucf101/UCF-101-midframes"),
}
WNIDS = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475")


def build(root: Path) -> Path:
    """All fifteen under `root`."""
    _folders(root, "caltech101", ("Faces", "Leopards", "accordion", "airplanes"), "{}/image_{:04}.jpg")
    for other in ("BACKGROUND_Google", "Faces_easy"):
        _picture(root / SPLITS["caltech101"][1] / other / "image_0001.jpg", 9)
    _folders(root, "food101", ("apple_pie", "baby_back_ribs", "baklava"), "{}/{:07}.jpg")
    (root / "food-101" / "images" / ".DS_Store").write_bytes(b"\0")
    (root / "food-101" / "images" / "baklava" / "Thumbs.db").write_bytes(b"\0")
    _folders(root, "dtd", ("banded", "blotchy", "polka-dotted"), "{0}/{0}_{1:04}.jpg")
    _folders(root, "eurosat", ("AnnualCrop", "Forest", "Highway", "SeaLake"), "{0}/{0}_{1}.jpg")
    for make in (_pets, _cars, _flowers, _aircraft, _sun, _ucf, _imagenet, _shifts):
        make(root)
    return root


def build_without_splits(root: Path) -> Path:
    """All fifteen, but for the split files."""
    build(root)
    for split, _ in SPLITS.values():
        (root / split).unlink()
    return root


@cache
def _jpeg(label: int) -> bytes:
    pixels = np.random.default_rng(label).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((24, 20)).save(buffer, "JPEG")
    return buffer.getvalue()


def _picture(path: Path, label: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_jpeg(label))


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _split(root: Path, name: str, paths: list[list[str]]) -> None:
    """The split file of `paths`, the images of each class, whose names keep their underscores; rows are in disorder."""
    file, images = SPLITS[name]
    shuffled = random.Random(name)
    found: dict[str, list] = {"train": [], "val": [], "test": []}
    for label, of_class in enumerate(paths):
        for index, path in enumerate(of_class):
            _picture(root / images / path, label)
            part = "train" if index < TRAIN else "val" if index < TRAINVAL else "test"
            found[part].append([path, label, NAMES[name][label].replace(" ", "_")])
    for rows in found.values():
        shuffled.shuffle(rows)
    (root / file).write_text(json.dumps(found))


def _folders(root: Path, name: str, folders: tuple[str, ...], form: str) -> None:
    _split(root, name, [[form.format(folder, index + 1) for index in range(EACH)] for folder in folders])


def _pets(root: Path) -> None:
    breeds = ("Abyssinian", "american_bulldog", "wheaten_terrier")
    _split(root, "oxford_pets", [[f"{breed}_{index}.jpg" for index in range(EACH)] for breed in breeds])
    for name, own in (("trainval", range(TRAINVAL)), ("test", range(TRAINVAL, EACH))):
        lines = [f"{breed}_{index} {label} 1 {label}" for label, breed in enumerate(breeds, 1) for index in own]
        _write(root / "oxford_pets" / "annotations" / f"{name}.txt", lines)


def _cars(root: Path) -> None:
    names = ("Dodge Ram Van 1999", "Acura RL Sedan 2012", "Audi V8 Sedan 1991")
    # Numbers run through the classes, as in the true set.
    train = [[f"cars_train/{index * 3 + label + 1:05}.jpg" for index in range(TRAINVAL)] for label in range(3)]
    test = [[f"cars_test/{index * 3 + label + 1:05}.jpg" for index in range(EACH - TRAINVAL)] for label in range(3)]
    _split(root, "stanford_cars", [one + other for one, other in zip(train, test, strict=True)])
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir()
    cells = np.empty((1, 3), dtype=object)
    cells[0] = names
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": cells})
    savemat(folder / "devkit" / "cars_train_annos.mat", {"annotations": _structs(train)})
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": _structs(test)})


def _structs(paths: list[list[str]]) -> np.ndarray:
    """MATLAB's struct array of Stanford Cars, 1 x images, every value an array of its own."""
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    rows = sorted((path.rpartition("/")[2], label) for label, of_class in enumerate(paths, 1) for path in of_class)
    structs = np.empty((1, len(rows)), dtype=[(name, object) for name in fields])
    for index, (file, label) in enumerate(rows):
        numbers = [np.array([[value]], dtype=np.uint8) for value in (1, 2, 20, 18, label)]
        structs[0, index] = (*numbers, np.array([file]))
    return structs


def _flowers(root: Path) -> None:
    labels = [3] * EACH + [1] * EACH + [2] * EACH  # in the true set, too, classes do not come in order
    paths = [[f"image_{index:05}.jpg" for index, own in enumerate(labels, 1) if own == label] for label in (1, 2, 3)]
    _split(root, "oxford_flowers", paths)
    folder = root / "oxford_flowers"
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    names = {str(label): name for label, name in enumerate(NAMES["oxford_flowers"], 1)}
    (folder / "cat_to_name.json").write_text(json.dumps(dict(reversed(names.items()))))


def _aircraft(root: Path) -> None:
    folder, names = root / "fgvc_aircraft", NAMES["fgvc_aircraft"]
    _write(folder / "variants.txt", [*names])
    for part, first, end in (("train", 0, TRAIN), ("val", TRAIN, TRAINVAL), ("test", TRAINVAL, EACH)):
        rows = [(f"{index * 4 + label:07}", label) for index in range(first, end) for label in (2, 0, 3, 1)]
        _write(folder / f"images_variant_{part}.txt", [f"{image} {names[label]}" for image, label in rows])
        for image, label in rows:
            _picture(folder / "images" / f"{image}.jpg", label)


def _sun(root: Path) -> None:
    places = ("a/abbey", "b/balcony/interior", "z/zen_garden")
    paths = [[f"{place}/sun_{chr(97 + index) * 16}.jpg" for index in range(EACH)] for place in places]
    _split(root, "sun397", paths)
    _write(root / "sun397" / "ClassName.txt", [f"/{place}" for place in places])
    for name, own in (("Training_01", slice(TRAINVAL)), ("Testing_01", slice(TRAINVAL, EACH))):
        _write(root / "sun397" / f"{name}.txt", [f"/{path}" for of_class in paths for path in of_class[own]])


def _ucf(root: Path) -> None:
    actions = {"ApplyEyeMakeup": "Apply_Eye_Makeup", "BabyCrawling": "Baby_Crawling", "YoYo": "Yo_Yo"}
    videos = {action: [f"v_{action}_g{index:02}_c01" for index in range(EACH)] for action in actions}
    _split(root, "ucf101", [[f"{place}/{video}.jpg" for video in videos[action]] for action, place in actions.items()])
    lists = root / "ucf101" / "ucfTrainTestlist"
    _write(lists / "classInd.txt", [f"{label} {action}" for label, action in enumerate(actions, 1)])
    rows = [(index, f"{action}/{video}.avi", label) for label, action in enumerate(actions, 1)
            for index, video in enumerate(videos[action])]  # fmt: skip
    _write(lists / "trainlist01.txt", [f"{video} {label}" for index, video, label in rows if index < TRAINVAL])
    _write(lists / "testlist01.txt", [video for index, video, _ in rows if index >= TRAINVAL])


def _imagenet(root: Path) -> None:
    folder = root / "imagenet"
    _write(folder / "classnames.txt", [f"{wnid} {name}" for wnid, name in zip(WNIDS, NAMES["imagenet"], strict=True)])
    for label, wnid in enumerate(WNIDS):
        for index in range(EACH):  # sorted as text, 10 comes before 2
            _picture(folder / "images" / "train" / wnid / f"{wnid}_{index * 37}.JPEG", label)
        for index in range(2):
            _picture(folder / "images" / "val" / wnid / f"ILSVRC2012_val_{index * 5 + label:08}.JPEG", label)


def _shifts(root: Path) -> None:
    for label, wnid in enumerate(WNIDS):
        for index in range(2):
            _picture(root / "imagenetv2/imagenetv2-matched-frequency-format-val" / f"{label}/{index:x}e.jpeg", label)
            _picture(root / "imagenet-sketch/images" / wnid / f"sketch_{index}.JPEG", label)
            if label in (1, 3):
                _picture(root / "imagenet-adversarial/imagenet-a" / wnid / f"0.0{index}_cat _ cat_0.9.jpg", label)
            if label in (0, 3, 4):
                _picture(root / "imagenet-rendition/imagenet-r" / wnid / f"art_{index}.jpg", label)
    (root / "imagenet-rendition/imagenet-r/README.txt").write_text("ImageNet-R\n")
