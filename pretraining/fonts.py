"""Rasterise the glyphs of installed fonts once, into the two atlases that training and scoring draw from.

`python -m pretraining.fonts` rebuilds `atlas/train.png`, `atlas/held_out.png` and `atlas/fonts.json`. A row is a font, a
column one of `CHARACTERS`, a cell GLYPH x GLYPH pixels of one bit; a blank cell is a glyph that the font lacks or that cannot be
told from another (a font without lower case). Families, not files, are held out, so no bold twin of a test font is trained on.
"""

import json
import re
import string
import subprocess
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
CELL, GLYPH = 64, 56  # a glyph's longer side is GLYPH pixels, centred in its cell
ATLAS = Path(__file__).parent / "atlas"
# `fonts-aenigma` is hundreds of display faces, many of them hard to read: fewer files of each, and a higher bar.
FILES_PER_FAMILY, FILES_PER_AENIGMA_FAMILY = 4, 2
LEGIBLE, LEGIBLE_AENIGMA = 0.5, 0.82  # share of a font's glyphs that the nearest glyphs of other families must name rightly

PACKAGES = """
    fonts-3270 fonts-aenigma fonts-atarismall fonts-averia-sans-gwf fonts-averia-serif-gwf fonts-bebas-neue
    fonts-beteckna fonts-blankenburg fonts-breip fonts-bwht fonts-cabin fonts-cabinsketch fonts-cantarell
    fonts-cegui fonts-cherrybomb fonts-clear-sans fonts-cmu fonts-comfortaa fonts-comic-neue
    fonts-courier-prime fonts-crosextra-caladea fonts-crosextra-carlito fonts-dancingscript fonts-dclfonts
    fonts-dejavu-core fonts-dejavu-extra fonts-dkg-handwriting fonts-dosis fonts-dotgothic16 fonts-dustin
    fonts-ebgaramond fonts-ecolier-court fonts-engadget fonts-essays1743 fonts-eurofurence
    fonts-fantasque-sans fonts-femkeklaver fonts-ferrite-core fonts-georgewilliams fonts-gfs-didot
    fonts-gnutypewriter fonts-go fonts-goudybookletter fonts-humor-sans fonts-inconsolata fonts-isabella
    fonts-joscelyn fonts-junction fonts-jura fonts-karla fonts-kaushanscript fonts-klaudia-berenika
    fonts-kristi fonts-lato fonts-le-murmure fonts-league-spartan fonts-leckerli-one fonts-levien-typoscript
    fonts-liberation fonts-linex fonts-lobster fonts-lobstertwo fonts-monofur fonts-nanum fonts-national-park
    fonts-ocr-a fonts-ocr-b fonts-okolaks fonts-oldstandard fonts-opendyslexic fonts-osifont fonts-play
    fonts-prociono fonts-proggy fonts-quicksand fonts-radisnoir fonts-reggae fonts-roadgeek
    fonts-roboto-unhinted fonts-rocknroll fonts-routed-gothic fonts-rufscript fonts-seto
    fonts-sil-andika-compact fonts-sixtyfour fonts-sjfonts fonts-smc-chilanka fonts-smiley-sans fonts-sora
    fonts-staypuft fonts-stick fonts-summersby fonts-tiresias fonts-tlwg-purisa-ttf fonts-tlwg-typist-ttf
    fonts-tomsontalks fonts-tuffy fonts-ubuntu-title fonts-urw-base35 fonts-yanone-kaffeesatz
    fonts-yozvox-yozfont-standard-kana fonts-yusei-magic""".split()  # noqa: SIM905

HELD_OUT = """
    fonts-breip fonts-dkg-handwriting fonts-humor-sans fonts-dancingscript fonts-lato fonts-ebgaramond fonts-go fonts-lobster
    fonts-staypuft fonts-ocr-b fonts-seto fonts-quicksand fonts-courier-prime fonts-jura""".split()  # noqa: SIM905
# Text faces: what is printed, not written. Training and scoring use these alone, so that handwriting stays unseen
# (but for Abecedario, a school script in fonts-linex).
PRINT = """
    fonts-3270 fonts-averia-sans-gwf fonts-averia-serif-gwf fonts-bebas-neue fonts-cabin fonts-cantarell fonts-clear-sans
    fonts-cmu fonts-comfortaa fonts-courier-prime fonts-crosextra-caladea fonts-crosextra-carlito fonts-dejavu-core
    fonts-dejavu-extra fonts-dosis fonts-ebgaramond fonts-eurofurence fonts-fantasque-sans fonts-gfs-didot fonts-go
    fonts-goudybookletter fonts-inconsolata fonts-junction fonts-jura fonts-karla fonts-lato fonts-league-spartan
    fonts-liberation fonts-linex fonts-monofur fonts-nanum fonts-national-park fonts-ocr-a fonts-ocr-b fonts-okolaks
    fonts-oldstandard fonts-opendyslexic fonts-osifont fonts-play fonts-prociono fonts-quicksand fonts-roadgeek
    fonts-roboto-unhinted fonts-routed-gothic fonts-sil-andika-compact fonts-sora fonts-tiresias fonts-tlwg-typist-ttf
    fonts-tuffy fonts-ubuntu-title fonts-urw-base35 fonts-yanone-kaffeesatz""".split()  # noqa: SIM905
# Not letters as anyone writes them: ruled or dotted school sheets, glyphs turned by 90 degrees, symbols, a hidden-line face.
EXCLUDE = re.compile(r"Paut|Punt|Guiad|90|Dingbat|Symbol|Klingon|Futhark|Standard ?Symbols|D050000L|Emoji|Keyboard", re.I)


def font_files() -> dict[str, list[Path]]:
    """Family -> font files. A family is a Debian package, but a first few letters within the large collection `aenigma`."""
    families = defaultdict(list)
    for package in PACKAGES:
        listing = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True).stdout.splitlines()
        for path in sorted(p for p in listing if p.endswith((".ttf", ".otf")) and not EXCLUDE.search(Path(p).name)):
            family = f"{package}/{Path(path).stem[:5].lower()}" if package == "fonts-aenigma" else package
            families[family].append(Path(path))
    return families


def spread(files: list[Path], count: int) -> list[Path]:
    """`count` files spread evenly over the sorted names, one per distinct stem."""
    distinct = list({file.stem: file for file in files}.values())
    if len(distinct) <= count:
        return distinct
    return [distinct[i] for i in np.linspace(0, len(distinct) - 1, count).round().astype(int)]


def rasterise(path: Path) -> np.ndarray | None:
    """Glyphs as bool[62, CELL, CELL], each fitted into its cell with its aspect kept; None if the font lacks one."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        present = TTFont(path, fontNumber=0, lazy=True).getBestCmap() or {}
        font = ImageFont.truetype(str(path), 160)
    except (OSError, TTLibError):
        return None
    if any(ord(character) not in present for character in CHARACTERS):
        return None
    cells = np.zeros((len(CHARACTERS), CELL, CELL), bool)
    for index, character in enumerate(CHARACTERS):
        canvas = Image.new("L", (480, 480))
        ImageDraw.Draw(canvas).text((140, 120), character, fill=255, font=font)
        box = canvas.getbbox()
        if box is None:
            return None
        width, height = box[2] - box[0], box[3] - box[1]
        size = [max(2, round(side * GLYPH / max(width, height))) for side in (width, height)]
        glyph = np.asarray(canvas.crop(box).resize((size[0], size[1]), Image.Resampling.BOX)) >= 112
        top, left = (CELL - size[1]) // 2, (CELL - size[0]) // 2
        cells[index, top : top + size[1], left : left + size[0]] = glyph
    return cells


def blank_missing_case(cells: np.ndarray) -> np.ndarray:
    """Blank the lower case of a font that draws capitals for it (or small capitals), judged on letters whose forms differ."""
    differing = "abdeghnqrt"
    pairs = [(cells[CHARACTERS.index(c.upper())], cells[CHARACTERS.index(c)]) for c in differing]
    overlap = [(upper & lower).sum() / max(1, (upper | lower).sum()) for upper, lower in pairs]
    if np.mean(np.array(overlap) > 0.85) >= 0.4:
        cells[36:] = False
    return cells


def legibility(glyphs: np.ndarray, families: list[str]) -> np.ndarray:
    """Per font, the share of its glyphs whose nearest glyph among other families (8 x 8 features) is the same character.

    Case is ignored, and 0/o, 1/i/l count as one, as tight fitting makes these alike. glyphs: bool[fonts, 62, CELL, CELL].
    """
    fonts = len(glyphs)
    small = glyphs.reshape(fonts * 62, 16, CELL // 16, 16, CELL // 16).mean((2, 4), dtype=np.float32).reshape(fonts * 62, -1)
    small -= small.mean(1, keepdims=True)
    small /= np.linalg.norm(small, axis=1, keepdims=True) + 1e-6
    alike = str.maketrans({"o": "0", "i": "1", "l": "1"})
    names = np.array([c.lower().translate(alike) for c in CHARACTERS] * fonts)
    drawn = glyphs.reshape(fonts * 62, -1).max(1)
    family = np.repeat(np.array(families), 62)
    score = np.zeros(fonts)
    for index in range(fonts):
        rows = np.flatnonzero(drawn[index * 62 : index * 62 + 62]) + index * 62
        others = np.flatnonzero(drawn & (family != families[index]))
        nearest = others[(small[rows] @ small[others].T).argmax(1)]
        score[index] = (names[nearest] == names[rows]).mean()
    return score


def licence(package: str) -> str:
    """The licences that a package's Debian copyright file names."""
    text = Path(f"/usr/share/doc/{package}/copyright").read_text(encoding="utf-8", errors="replace")
    found = dict.fromkeys(re.findall(r"^License: *(\S.*)$", text, re.M))
    return ", ".join(found) or "see the package's copyright file"


def save_atlas(path: Path, glyphs: np.ndarray) -> None:
    """bool[fonts, 62, CELL, CELL] -> a one-bit PNG of fonts rows and 62 columns of cells without their margin."""
    margin = (CELL - GLYPH) // 2
    cells = glyphs[:, :, margin:-margin, margin:-margin]
    sheet = cells.transpose(0, 2, 1, 3).reshape(len(cells) * GLYPH, -1)
    Image.fromarray(sheet).convert("1").save(path, optimize=True)


def read_atlas(split: str) -> np.ndarray:
    """The glyphs of `train` or `held_out` as bool[fonts, 62, CELL, CELL]: text faces only.

    `held_out other` gives the held-out faces that are not: scripts, handwriting, display.
    """
    name, _, other = split.partition(" ")
    sheet = np.asarray(Image.open(ATLAS / f"{name}.png"))
    cells = sheet.reshape(-1, GLYPH, len(CHARACTERS), GLYPH).transpose(0, 2, 1, 3)
    printed = [font["package"] in PRINT for font in json.loads((ATLAS / "fonts.json").read_text())[name]]
    cells = cells[np.array(printed) != bool(other)]
    margin = (CELL - GLYPH) // 2
    return np.pad(cells, ((0, 0), (0, 0), (margin, margin), (margin, margin)))


def main() -> None:
    """Rebuild the atlases from the fonts that are installed."""
    kept, names, families = [], [], []
    for family, files in sorted(font_files().items()):
        for file in spread(files, FILES_PER_AENIGMA_FAMILY if "/" in family else FILES_PER_FAMILY):
            cells = rasterise(file)
            if cells is not None:
                kept.append(blank_missing_case(cells))
                names.append(file.name)
                families.append(family)
    glyphs = np.stack(kept)
    score = legibility(glyphs, families)
    index = {"characters": CHARACTERS, "cell": GLYPH, "train": [], "held_out": []}
    chosen = {"train": [], "held_out": []}
    for row, (name, family) in enumerate(zip(names, families, strict=True)):
        package = family.split("/")[0]
        # Every eighth family of aenigma is held out too, by a hash of its name.
        hashed = "/" in family and zlib.crc32(family.encode()) % 8 == 0
        split = "held_out" if package in HELD_OUT or hashed else "train"
        if score[row] >= (LEGIBLE_AENIGMA if "/" in family else LEGIBLE):
            index[split].append({"file": name, "package": package, "legibility": round(float(score[row]), 2)})
            chosen[split].append(row)
        else:
            print(f"left out, {score[row]:.2f} legible: {package} {name}")
    index["licences"] = {p: licence(p) for p in sorted({f.split("/")[0] for f in families})}
    ATLAS.mkdir(exist_ok=True)
    for split, rows in chosen.items():
        save_atlas(ATLAS / f"{split}.png", glyphs[rows])
        print(split, len(rows), "fonts", (ATLAS / f"{split}.png").stat().st_size, "bytes")
    (ATLAS / "fonts.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
