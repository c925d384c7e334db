"""Cut the glyph sheet that the drawn tasks ship, `src/dpl/data/synthetic/glyphs.png`, out of the held-out atlas.

`python -m pretraining.glyphs` rewrites the sheet and `glyphs.json`. Only faces of families that were never trained on and whose
licence (Open Font License, BSD, public domain) lets their glyphs be passed on.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from pretraining.fonts import ATLAS, CHARACTERS, GLYPH

OUT = Path(__file__).parents[1] / "src" / "dpl" / "data" / "synthetic"
FACES = {
    "print": (
        "Go-Medium.ttf", "Go-Mono-Italic.ttf", "Lato-Black.ttf", "Lato-Medium.ttf", "Courier Prime Bold Italic.otf",
        "Courier Prime Sans Bold.otf", "EBGaramond12-Regular.otf", "Jura-SemiBold.otf", "OCRB.otf", "Quicksand-Bold.ttf",
    ),
    "script": (
        "Breip.ttf", "DancingScript-Bold.otf", "DancingScript-Regular.otf", "dkg.ttf", "dkgBd.ttf", "lobster.otf", "setofont.ttf",
    ),
}  # fmt: skip
LICENCES = {"fonts-go": "BSD-3-Clause", "fonts-ocr-b": "public domain"}  # the others: OFL-1.1, at times among further ones


def main() -> None:
    """Write the sheet (a row of 62 cells per face) and what its rows are."""
    held_out = json.loads((ATLAS / "fonts.json").read_text())["held_out"]
    row = {font["file"]: index for index, font in enumerate(held_out)}
    atlas = np.asarray(Image.open(ATLAS / "held_out.png")).reshape(-1, GLYPH, len(CHARACTERS) * GLYPH)
    faces = [(style, file) for style, files in FACES.items() for file in files]
    sheet = np.concatenate([atlas[row[file]] for _, file in faces])
    Image.fromarray(sheet).convert("1").save(OUT / "glyphs.png", optimize=True)
    listing = [
        {"file": file, "style": style, "package": package, "licence": LICENCES.get(package, "OFL-1.1")}
        for style, file in faces
        for package in [held_out[row[file]]["package"]]
    ]
    (OUT / "glyphs.json").write_text(json.dumps({"characters": CHARACTERS, "cell": GLYPH, "faces": listing}, indent=1) + "\n")


if __name__ == "__main__":
    main()
