"""Computes a model's pixels from an image, as the checkpoint's `preprocessor_config.json` specifies."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, cast, get_args

from annotated_types import Ge, Le
from transformers.utils.constants import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from dpl.backbones.choices import Resize
from dpl.utils.errors import DplError

Rule = Literal["shortest", "longest", "squash", "none"]
Filter = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]

FILTERS: tuple[Filter, ...] = get_args(Filter)
"""PIL's filters in the order of PIL's numbers, which `resample` of a checkpoint holds."""
RULES: dict[Resize, Rule] = {"crop": "shortest", "squash": "squash", "pad": "longest"}
"""The rule of each policy of --resize."""
_LARGEST_EDGE = 4096  # pixels; a larger image would fill the memory
_LEAST, _MOST = 1e-6, 1e6  # limits of the numbers that pixels are divided by, so that float32 holds the result

Offset = Annotated[float, Ge(-_MOST), Le(_MOST)]
Factor = Annotated[float, Ge(_LEAST), Le(_MOST)]
Side = Annotated[int, Ge(1), Le(_LARGEST_EDGE)]
Colour = tuple[Offset, Offset, Offset]


@dataclass(frozen=True)
class Preprocessing:
    """The steps from an RGB image to a model's pixels: resize, crop the centre, rescale, normalise.

    The resized image is cut to the `size` x `size` pixels at its centre. If it is smaller, the rest is black.
    """

    size: Side
    """Side of the model's square input, in pixels."""
    edge: Side
    """Side in pixels that `resize` produces; "none" does not use it."""
    resize: Rule = "shortest"
    """The shortest or the longest side becomes `edge` and the other keeps the aspect ratio; or both sides become `edge`
    ("squash"); or the image keeps its size ("none")."""
    resample: Filter = "bicubic"
    """PIL's filter."""
    rescale: Factor = 1 / 255
    """Factor of the pixels' values, 0-255, before they are normalised."""
    mean: Colour = cast(Colour, tuple(OPENAI_CLIP_MEAN))
    """Subtracted from each channel."""
    std: tuple[Factor, Factor, Factor] = cast(Colour, tuple(OPENAI_CLIP_STD))
    """Divides each channel."""

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Computes the size of an image after the resize.

        Args:
            width: width of the image in pixels.
            height: height of the image in pixels.

        Returns:
            Width and height in pixels, each at least 1.
        """
        if self.resize == "none":
            return width, height
        if self.resize == "squash":
            return self.edge, self.edge
        base = min(width, height) if self.resize == "shortest" else max(width, height)
        return max(1, self.edge * width // base), max(1, self.edge * height // base)

    def corner(self, width: int, height: int) -> tuple[int, int]:
        """Computes the left and the top of the central crop.

        Rounded down, as in transformers; torchvision rounds halves to even, which differs by one pixel.

        Args:
            width: width of the resized image in pixels.
            height: height of the resized image in pixels.

        Returns:
            Left and top in pixels; negative where black is added.
        """
        return (width - self.size) // 2, (height - self.size) // 2

    def with_resize(self, resize: Resize) -> "Preprocessing":
        """Returns a copy with another resize policy, with `edge` equal to `size`.

        Args:
            resize: the policy; "checkpoint" changes nothing.
        """
        return self if resize == "checkpoint" else replace(self, resize=RULES[resize], edge=self.size)


def read_preprocessing(settings: Any, image_size: int, resize: Resize = "checkpoint") -> Preprocessing:
    """Reads the content of a `preprocessor_config.json`, or of a `processor_config.json` with an `image_processor` in it.

    Absent and null keys have the defaults of transformers' image processor of that type; absent sizes are the model's.

    Args:
        settings: the parsed JSON.
        image_size: side of the model's square input, in pixels.
        resize: a policy instead of the checkpoint's; its rules for size and crop are then ignored.

    Returns:
        The preprocessing.

    Raises:
        DplError: a setting has a wrong type or value, or is not supported; the line names it.
    """
    given = settings.get("image_processor", settings) if isinstance(settings, dict) else settings
    if not isinstance(given, dict):
        raise DplError("is not an object of settings; correct the file")
    given = {key: value for key, value in given.items() if value is not None}
    given = _defaults(given, image_size, strict=resize == "checkpoint") | given
    normalised = _flag(given, "do_normalize")
    found = Preprocessing(
        size=image_size,
        edge=image_size,
        resample=_filter(given["resample"]),
        rescale=_positive(given, "rescale_factor") if _flag(given, "do_rescale") else 1.0,
        mean=_colour(given, "image_mean") if normalised else (0.0, 0.0, 0.0),
        std=_colour(given, "image_std") if normalised else (1.0, 1.0, 1.0),
    )
    if min(found.std) < _LEAST:
        raise DplError(f"image_std {list(found.std)}: must be above 0; correct the file")
    if resize != "checkpoint":
        return found.with_resize(resize)
    try:
        return _with_geometry(found, given)
    except DplError as error:
        raise DplError(f"{error}; resize with --resize crop, squash or pad") from None


def _defaults(given: Mapping[str, Any], image_size: int, strict: bool) -> dict[str, Any]:
    """Returns the default settings of transformers' image processor of the file's type."""
    named = given.get("image_processor_type", given.get("feature_extractor_type", "CLIPImageProcessor"))
    kind = str(named)
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(ending)
    square = {"height": image_size, "width": image_size}
    clip = {
        **dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize"), True),
        **dict.fromkeys(("do_pad", "default_to_square"), False),
        "size": {"shortest_edge": image_size},
        "crop_size": square,
        "resample": FILTERS.index("bicubic"),
        "rescale_factor": 1 / 255,
        "image_mean": OPENAI_CLIP_MEAN,
        "image_std": OPENAI_CLIP_STD,
    }
    siglip = {"do_center_crop": False, "size": square, "image_mean": IMAGENET_STANDARD_MEAN, "image_std": IMAGENET_STANDARD_STD}
    kinds = {
        "CLIP": clip,
        "Bit": clip,
        "Siglip": clip | siglip,
        "ViT": clip | siglip | {"resample": FILTERS.index("bilinear"), "default_to_square": True},
    }
    if kind not in kinds and strict:
        known = ", ".join(kinds)
        raise DplError(f"image processor {named}: only those of {known} are followed; resize with --resize crop, squash or pad")
    return kinds.get(kind, clip)


def _with_geometry(found: Preprocessing, given: Mapping[str, Any]) -> Preprocessing:
    """Returns `found` with the checkpoint's resize and crop; raises `DplError` if the result is not the model's square."""
    rule, edge = "none", found.size
    if _flag(given, "do_resize"):
        rule, edge = _size(given["size"], _flag(given, "default_to_square"))
    if _flag(given, "do_pad"):
        raise DplError("do_pad true: this padding is not followed")
    if _flag(given, "do_center_crop"):
        name, value, fits = "crop_size", given["crop_size"], _square(given["crop_size"]) == found.size
    elif rule == "none":
        name, value, fits = "do_resize", "false and do_center_crop false", False
    else:
        name, value, fits = "size", f"{given['size']} and do_center_crop false", (rule, edge) == ("squash", found.size)
    if not fits:
        raise DplError(f"{name} {value}: the model reads {found.size} x {found.size} pixels")
    return replace(found, resize=rule, edge=edge)


def _size(size: Any, default_to_square: bool) -> tuple[Rule, int]:
    """Returns the rule and the edge of a `size`."""
    sides = {key: value for key, value in size.items() if value is not None} if isinstance(size, dict) else {}
    if set(sides) == {"shortest_edge"} and (edge := _whole(sides["shortest_edge"])):
        return "shortest", edge
    if set(sides) == {"max_height", "max_width"} and (edge := _whole(*sides.values())):
        return "longest", edge
    if not isinstance(size, dict | list) and not default_to_square and (edge := _whole(size)):
        return "shortest", edge
    if edge := _square(size):
        return "squash", edge
    known = f"a whole number up to {_LARGEST_EDGE}, shortest_edge, equal height and width, or equal max_height and max_width"
    raise DplError(f"size {size!r}: is not {known}")


def _square(size: Any) -> int | None:
    """Returns the side of a square given as a number, as two, or as height and width; None for anything else."""
    if isinstance(size, dict):
        sides = {key: value for key, value in size.items() if value is not None}
        return _whole(*sides.values()) if set(sides) == {"height", "width"} else None
    return _whole(*size) if isinstance(size, list) and len(size) == 2 else _whole(size)


def _whole(*numbers: Any) -> int | None:
    """Returns the common value of the numbers if it is an integer from 1 to the largest edge, else None."""
    first = numbers[0]
    whole = all(type(number) is int and number == first for number in numbers)
    return first if whole and 0 < first <= _LARGEST_EDGE else None


def _flag(given: Mapping[str, Any], key: str) -> bool:
    if not isinstance(given[key], bool):
        raise DplError(f"{key} {given[key]!r}: must be true or false; correct the file")
    return given[key]


def _filter(number: Any) -> Filter:
    if type(number) is not int or not 0 <= number < len(FILTERS):
        raise DplError(f"resample {number!r}: must be one of PIL's filters, 0 to {len(FILTERS) - 1}; correct the file")
    return FILTERS[number]


def _positive(given: Mapping[str, Any], key: str) -> float:
    if not _is_number(given[key]) or given[key] < _LEAST:
        raise DplError(f"{key} {given[key]!r}: must be a number above 0; correct the file")
    return float(given[key])


def _colour(given: Mapping[str, Any], key: str) -> Colour:
    """Reads three numbers, or one for all channels."""
    channels = given[key] if isinstance(given[key], list | tuple) else [given[key]] * 3
    if len(channels) != 3 or not all(map(_is_number, channels)):
        raise DplError(f"{key} {given[key]!r}: must be three numbers; correct the file")
    red, green, blue = map(float, channels)
    return red, green, blue


def _is_number(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and abs(number) <= _MOST
