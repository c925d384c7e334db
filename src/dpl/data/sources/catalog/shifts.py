"""Rows of the catalogue for the four shifts of ImageNet, which have test images only and ImageNet's class names."""

from dpl.data.sources.catalog import imagenet
from dpl.data.sources.catalog.dataset import Counts, Dataset

NAMES = {"../imagenet/classnames.txt": "that of imagenet; a copy beside the images does too"}
ALSO = {"../imagenet/classnames.txt": "classnames.txt"}

SHIFTS = (
    Dataset(
        name="imagenetv2",
        title="ImageNetV2 (matched frequency)",
        folder="imagenetv2",
        images="imagenetv2-matched-frequency-format-val",
        counts=Counts(1000, None, None, 10_000),
        balanced=("test",),
        reader=imagenet.numbered,
        download=("imagenetv2-matched-frequency.tar.gz, linked from https://github.com/modestyachts/ImageNetV2",),
        files={
            "imagenetv2-matched-frequency-format-val/": "0 to 999: a folder per class, by its place in classnames.txt",
            **NAMES,
        },
        also=ALSO,
        trained_on="imagenet",
    ),
    Dataset(
        name="imagenet_sketch",
        title="ImageNet-Sketch",
        folder="imagenet-sketch",
        images="images",
        counts=Counts(1000, None, None, 50_889),
        reader=imagenet.all_wnids,
        download=("ImageNet-Sketch.zip, linked from https://github.com/HaohanWang/ImageNet-Sketch; its sketch/ becomes images/",),
        files={"images/": "n01440764/sketch_0.JPEG, ...: a folder per class", **NAMES},
        also=ALSO,
        trained_on="imagenet",
    ),
    Dataset(
        name="imagenet_a",
        title="ImageNet-A",
        folder="imagenet-adversarial",
        images="imagenet-a",
        counts=Counts(200, None, None, 7500),
        reader=imagenet.some_wnids,
        download=("imagenet-a.tar, linked from https://github.com/hendrycks/natural-adv-examples",),
        files={"imagenet-a/": "n01498041/..., ...: a folder for each of 200 classes", **NAMES},
        also=ALSO,
        trained_on="imagenet",
    ),
    Dataset(
        name="imagenet_r",
        title="ImageNet-R",
        folder="imagenet-rendition",
        images="imagenet-r",
        counts=Counts(200, None, None, 30_000),
        reader=imagenet.some_wnids,
        download=("imagenet-r.tar, linked from https://github.com/hendrycks/imagenet-r",),
        files={"imagenet-r/": "n01443537/..., ...: a folder for each of 200 classes", **NAMES},
        also=ALSO,
        trained_on="imagenet",
    ),
)
