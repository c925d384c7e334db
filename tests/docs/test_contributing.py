import re
import sys
from pathlib import Path

import pytest

from dpl import fit, load_run
from dpl.cli.arguments import parse_run
from dpl.methods import METHODS, MethodSpec

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
IMPORTS = """
from dataclasses import dataclass
from typing import Annotated

import torch
import tyro
from torch import nn

from dpl.classifier import ZeroShot
from dpl.config import AugmentedRun, Optimization
from dpl.methods.method import Method
"""


def test_the_method_of_the_example_is_whole(images: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "class_bias_of_the_docs.py").write_text(IMPORTS + example)
    monkeypatch.syspath_prepend(tmp_path)
    row = MethodSpec("a bias per class", "class_bias_of_the_docs:ClassBiasRun", "class_bias_of_the_docs:ClassBias")
    monkeypatch.setitem(METHODS, "class-bias", row)  # pyright: ignore
    words = ["--method", "class-bias", "--start", "0.5", "--shots", "2", "--train.epochs", "3"]
    run = fit(parse_run("fit", [str(images), *words, "--backbone", str(checkpoint), "--out", str(tmp_path / "run")]))
    model = load_run(run)
    (bias,) = model.parameters()
    assert len(bias) == 3 and not (bias == 0.5).all() and (run / "report.html").exists()
    del sys.modules["class_bias_of_the_docs"]
