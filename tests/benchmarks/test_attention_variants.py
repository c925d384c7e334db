"""The variants of the attention benchmark are one function."""

from pathlib import Path

import pytest

from benchmarks import attention
from dpl.utils.files import read_json

pytestmark = pytest.mark.slow  # nothing of dpl itself is tested here


def test_all_variants_agree_in_float64(tmp_path: Path, capsys: pytest.CaptureFixture):
    settings = attention.Settings(
        batches=(2,), options=(3,), heads=2, head_dim=8, tokens=10, what=("plain", "eager", "ours", "naive"), runs=2,
        dtype="float64", out=tmp_path / "attention.json",
    )  # fmt: skip
    attention.main(settings)
    (entry,) = read_json(settings.out)["cases"]
    assert set(entry["differences"]) == {"eager", "ours", "naive"}
    assert max(entry["differences"].values()) < 1e-10
    assert len(entry["rounds"]) == 2 and "| 2 | 0..3 |" in capsys.readouterr().out
