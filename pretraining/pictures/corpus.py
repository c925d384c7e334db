"""Fetch the corpus with npm and apt, and build it: a shard per source of 72-pixel pictures and their names.

    python -m pretraining.pictures.corpus --out FOLDER      # needs npm, apt-get, dpkg and pip install resvg-py; some 15 minutes

A shard is `NAME.npy`, uint8[pictures, 72, 72, 4] (RGBA, not premultiplied) or uint8[pictures, 72, 72] (coverage alone), and
`NAME.jsonl`, one line a picture: id, names, keywords, group. `sources.json` lists licences and counts. Shards that are there
stay, so a stopped build continues. Same versions, same bytes.
"""

import argparse
import io
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from pretraining.pictures import names, sources
from pretraining.pictures.fetch import fetch
from pretraining.pictures.names import Label
from pretraining.pictures.sources import Source

SIDE = 72
COMMON = 3  # an icon's name counts as a concept where so many families of sets have it, or Unicode has it as an emoji
Item = tuple[str, Label, str | Path]  # id, names, and SVG text or the path of a raster


class Packages:
    """The unpacked packages, read once."""

    def __init__(self, folder: Path):
        base, self.icons = folder / "emojibase-data", folder / "json"
        self.fluent = folder / "fluent-emoji-3d/assets"
        self.clipart = folder / "openclipart-png/usr/share/openclipart/png"
        subgroups = load(base / "meta/groups.json")["subgroups"]
        self.labels = names.emoji_labels(load(base / "en/data.json"), load(base / "en/shortcodes/github.json"), subgroups)
        self.slugs = {names.slug(label.names[0]): label for label in self.labels.values()}
        self.sources = [*sources.EMOJI, *sources.icon_sources(load(self.icons / "collections.json")), *sources.clipart_sources()]

    @cached_property
    def concepts(self) -> frozenset[str]:
        """Names that several families of icon sets share, and names of emoji."""
        families = defaultdict(set)
        for source in self.sources:
            if source.kind == "icon" and source.split == "train":
                for name in self.icon_names(source).values():
                    families[name].add(source.name.split("-")[0])
        known = {name for label in self.labels.values() for name in label.names}
        return frozenset(known | {name for name, having in families.items() if name and len(having) >= COMMON})

    def icon_names(self, source: Source) -> dict[str, str]:
        """Identifier -> concept of an icon set."""
        data = load(self.icons / f"json/{source.name}.json")
        affixes = frozenset(
            word for key in ("suffixes", "prefixes") for affix in data.get(key) or {} for word in affix.split("-")
        )
        return {icon: names.icon_name(icon, affixes) for icon in sorted(data["icons"])}


def load(path: Path):
    """A JSON file's content."""
    return json.loads(path.read_text(encoding="utf-8"))


def svg(data: dict, icon: str) -> str:
    """An iconify icon as an SVG document, in a square canvas."""
    body = data["icons"][icon]
    left, top, width, height = (
        body.get(key, data.get(key, default)) for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    side = max(width, height)
    box = f"{left - (side - width) / 2} {top - (side - height) / 2} {side} {side}"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{box}" width="{side}" height="{side}">{body["body"]}</svg>'


def items(packages: Packages, source: Source) -> Iterator[Item]:
    """The pictures of a source, one a concept and style."""
    if source.kind == "clipart":
        yield from clipart_items(packages.clipart / source.name.removeprefix("openclipart-"))
    elif source.name == "fluent-emoji-3d":
        for path in sorted(packages.fluent.glob("*.webp")):
            label = packages.labels.get(names.hexcode(path.stem))
            if label:
                yield path.stem, label, path
    elif source.kind == "emoji":
        yield from emoji_items(packages, source)
    else:
        data = load(packages.icons / f"json/{source.name}.json")
        seen = defaultdict(int)
        for icon, name in packages.icon_names(source).items():
            wanted = name in packages.concepts or (source.split != "train" and name)
            if wanted and not data["icons"][icon].get("hidden") and seen[name] < 2:
                seen[name] += 1
                yield icon, Label((name,)), svg(data, icon)


def emoji_items(packages: Packages, source: Source) -> Iterator[Item]:
    """The emoji of an iconify set, without skin tones."""
    data = load(packages.icons / f"json/{source.name}.json")
    aliases, chars = defaultdict(list), {icon: names.hexcode(code) for code, icon in data.get("chars", {}).items()}
    for alias, about in data.get("aliases", {}).items():
        aliases[about["parent"]].append(alias)
    seen = set()
    for icon in sorted(data["icons"]):
        label = names.match_emoji(icon, aliases, chars, packages.labels, packages.slugs)
        if label and label.names[0] not in seen:
            seen.add(label.names[0])
            yield icon, label, svg(data, icon)


def clipart_items(folder: Path) -> Iterator[Item]:
    """Titled clip art below a folder, the folder's name as a keyword."""
    seen = defaultdict(int)
    for path in sorted(folder.rglob("*.png")):
        name = names.title_name(title(path))
        if name and seen[name] < 8:
            seen[name] += 1
            folders = [names.plain(part) for part in path.relative_to(folder.parent).parts[:-1]]
            yield str(path.relative_to(folder)), Label((name,), tuple(folders)), path


def title(path: Path) -> str:
    """The title that a PNG carries; "" for pictures too large to open safely."""
    try:
        with Image.open(path) as image:
            return str(image.info.get("Title", ""))
    except Image.DecompressionBombError:
        return ""


def draw(picture: str | Path, colour: bool) -> np.ndarray | None:
    """A picture as uint8[72, 72, 4], or its coverage as uint8[72, 72]; None where it cannot be drawn or is blank."""
    try:
        image = fit(Image.open(picture).convert("RGBA")) if isinstance(picture, Path) else rasterise(picture)
    except (ValueError, OSError):
        return None
    pixels = np.asarray(image)
    return None if pixels[..., 3].max() < 64 else pixels if colour else pixels[..., 3]


def rasterise(document: str) -> Image.Image:
    """An SVG document drawn in a square of SIDE."""
    import resvg_py  # pyright: ignore[reportMissingImports]  # needed to build the corpus alone, so no dependency of the project

    drawn = resvg_py.svg_to_bytes(svg_string=document, width=SIDE, height=SIDE, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(drawn))).convert("RGBA")


def fit(image: Image.Image) -> Image.Image:
    """A raster, without its transparent border, in a square of SIDE."""
    image = image.crop(image.getbbox(alpha_only=True))
    scale = SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    canvas = Image.new("RGBA", (SIDE, SIDE))
    canvas.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return canvas


def build(folder: Path, source: Source) -> int:
    """Write the shard of a source where it is not there; returns its number of pictures."""
    array, lines = folder / f"{source.name}.npy", folder / f"{source.name}.jsonl"
    if not lines.exists():
        packages = read_packages(folder / "packages")
        drawn = [(item, pixels) for item in items(packages, source) if (pixels := draw(item[2], source.colour)) is not None]
        if not drawn:
            return 0
        np.save(array.with_suffix(".part.npy"), np.stack([pixels for _, pixels in drawn]))
        array.with_suffix(".part.npy").replace(array)
        text = "".join(json.dumps({"id": name} | label.as_json()) + "\n" for (name, label, _), _ in drawn)
        lines.with_suffix(".part").write_text(text)
        lines.with_suffix(".part").replace(lines)
    return len(lines.read_text().splitlines())


@cache
def read_packages(folder: Path) -> Packages:
    """The packages, read once a process."""
    return Packages(folder)


def main() -> None:
    """Fetch and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards, outside the repository (some 2 GB)")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    args = parser.parse_args()
    fetch(args.out / "packages")
    table = []
    everything = read_packages(args.out / "packages").sources
    with ProcessPoolExecutor(args.workers) as pool:
        counts = pool.map(build, [args.out] * len(everything), everything)
        for number, (source, count) in enumerate(zip(everything, counts, strict=True), 1):
            print(
                f"{number}/{len(everything)} {source.name}: {count} pictures, {source.licence}, {source.split}", file=sys.stderr
            )
            table += [asdict(source) | {"pictures": count}] if count else []
    (args.out / "sources.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
