"""The section on calibration: the diagram shows the bins, the words say what they mean."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpl.reports.web.calibration import BOTTOM, TOP, reliability
from dpl.reports.web.html import write_report
from dpl.schemas.run import Calibration
from dpl.utils.errors import DplError
from tests.reports.made_up import edit_json
from tests.reports.page import read

BINS = st.builds(
    lambda images, confidence, accuracy: {
        "images": images,
        "confidence": confidence if images else None,
        "accuracy": accuracy if images else None,
    },
    st.integers(0, 2_000_000),
    st.floats(0, 1),
    st.floats(0, 1),
)


@given(st.lists(BINS, min_size=1, max_size=20), st.floats(0, 1))
def test_the_diagram_has_a_bar_a_dot_and_a_number_for_every_bin_with_images(bins: list[dict[str, Any]], ece: float) -> None:
    measured = Calibration.model_validate({"ece": ece, "bins": bins})
    picture = ElementTree.fromstring(reliability("tuned", "Tuned", measured))
    known = [step for step in bins if step["images"]]
    bars = [part.find("rect") for part in picture.iter("g") if "bar" in part.get("class", "").split()]
    tops = [float(bar.get("y", -1)) for bar in bars if bar is not None]
    assert tops == pytest.approx([BOTTOM - step["accuracy"] * (BOTTOM - TOP) for step in known], abs=0.01)
    dots = [float(dot.get("cy", -1)) for dot in picture.iter("circle")]
    assert dots == pytest.approx([BOTTOM - step["confidence"] * (BOTTOM - TOP) for step in known], abs=0.01)
    heights = [float(bar.get("height", -1)) for bar in picture.iter("rect") if "count-bar" in bar.get("class", "")]
    most = max((step["images"] for step in known), default=1)
    assert heights == pytest.approx([44 * step["images"] / most for step in known], abs=0.01)
    counts = [text.text or "" for text in picture.iter("text") if text.get("class") == "middle small"]
    assert [count for count in counts if not count.endswith("k")] == [str(s["images"]) for s in known if s["images"] < 1000]
    assert all(len(count) <= 5 for count in counts)


def calibration(ece: float, confidence: float, accuracy: float) -> dict[str, Any]:
    return {"ece": ece, "bins": [{"images": 0, "confidence": None, "accuracy": None}] * 14
            + [{"images": 540, "confidence": confidence, "accuracy": accuracy}]}  # fmt: skip


def test_what_the_error_means_is_said(run: Path) -> None:
    both = {"tuned": calibration(0.021, 0.951, 0.93), "zero_shot": calibration(0.1, 0.4, 0.5)}
    edit_json(run / "metrics.json", calibration=both)
    text = read(run).text
    assert "confidence of the tuned model lies 2.1 points from its accuracy on average, that of zero-shot 10.0." in text
    assert "The tuned model is 95.1 % sure on average and right in 93.0 % of the images, too sure;" in text
    assert "zero-shot is 40.0 % sure on average and right in 50.0 % of the images, not sure enough." in text
    assert "Tuning brought confidence nearer to accuracy." in text and "in 15 bins" in text
    edit_json(run / "metrics.json", calibration={"tuned": both["zero_shot"], "zero_shot": both["tuned"]})
    assert "Tuning took confidence away from accuracy." in read(run).text
    edit_json(run / "metrics.json", calibration={"tuned": calibration(0.0, 0.5, 0.5), "zero_shot": calibration(0.0, 0.5, 0.5)})
    text = read(run).text
    assert "as sure as right" in text and "Tuning left the distance as it was." in text


def test_older_runs_have_no_such_section_and_broken_bins_are_named(run: Path) -> None:
    edit_json(run / "metrics.json", remove=("calibration",))
    page = read(run)
    assert "Calibration" not in page.text and "calibration" not in page.values("id")
    edit_json(run / "metrics.json", calibration={"tuned": {"ece": 0, "bins": [{"images": 3}]}, "zero_shot": calibration(0, 1, 1)})
    with pytest.raises(DplError, match=r"metrics\.json: calibration\.tuned\.bins\.0: .*a bin with images must have"):
        write_report(run)
