"""Download and unpack the packages of the corpus with npm and apt."""

import subprocess
import sys
from pathlib import Path

from pretraining.pictures.sources import DEBIAN, NPM


def fetch(folder: Path) -> None:
    """Download and unpack the packages; those unpacked already are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, version in NPM.items():
        place = folder / package.split("/")[-1]
        if not place.exists():
            print(f"fetching {package}@{version}", file=sys.stderr)
            command = ["npm", "pack", "--silent", "--pack-destination", str(folder), f"{package}@{version}"]
            archive = folder / subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
            unpack(["tar", "xzf", str(archive), "--strip-components", "1", "-C"], place)
            archive.unlink()
    for package in DEBIAN:
        place = folder / package
        if not place.exists():
            print(f"fetching {package}", file=sys.stderr)
            subprocess.run(["apt-get", "download", package], check=True, cwd=folder, stdout=subprocess.DEVNULL)
            archive = next(folder.glob(f"{package}_*.deb"))
            unpack(["dpkg", "-x", str(archive)], place)
            archive.unlink()


def unpack(command: list[str], place: Path) -> None:
    """Run an unpacking command on a folder beside `place`, then rename it."""
    aside = place.with_name(place.name + ".part")
    aside.mkdir(exist_ok=True)
    subprocess.run([*command, str(aside)], check=True)
    aside.rename(place)
