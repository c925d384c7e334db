"""Writes a run's report as one self-contained HTML page: no network, no scripts but its own, readable without them."""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from dpl.methods import METHODS
from dpl.reports.web import charts
from dpl.reports.web.accuracy import classes, percent, points, result
from dpl.reports.web.attention_heatmap import attention
from dpl.reports.web.calibration import calibration
from dpl.reports.web.confusions import confusions
from dpl.reports.web.costs import costs
from dpl.reports.web.figures import plural
from dpl.reports.web.gradcam_grid import gradcam_grid
from dpl.reports.web.prompt_words import words
from dpl.reports.web.stages import given, inherits, layout, search, times
from dpl.schemas.explanation import Explanation, read_explanation
from dpl.schemas.run_folder import RunFolder, read_run
from dpl.utils.files import write_text
from dpl.utils.nested import flat
from dpl.utils.templates import environment

# Files that a run folder may hold beside the report, and their purposes; the report ends with this list.
FILES = {
    "config.json": "what was run: task, backbone, settings, versions",
    "layout.json": "the prompt layout, one length per layer and branch",
    "prompts.safetensors": "all that was learned",
    "head.safetensors": "the residual head, a row per class",
    "class_features.safetensors": "the class embeddings",
    "metrics.json": "the results",
    "explanation.json": "the test images shown here, what the prompts say, and how much they are used",
    "explanation.safetensors": "the pixels of these images, and where the models look",
    "history.jsonl": "one line per epoch, with all that was noted of it",
}


def write_report(run: Path) -> Path:
    """Writes report.html into a run folder, atomically.

    Reads config.json, layout.json, metrics.json and history.jsonl, and the explanation if there is one.

    Args:
        run: the run folder.

    Returns:
        The path of report.html.

    Raises:
        DplError: a file is missing, malformed or contradicts another, or the report cannot be written; one line that names
            the file.
    """
    files = {name: purpose for name, purpose in FILES.items() if (run / name).exists()}
    path = run / "report.html"
    write_text(path, render(read_run(run), files, read_explanation(run)))
    return path


def render(run: RunFolder, files: dict[str, str], explanation: Explanation | None = None) -> str:
    """Renders the page of a run. The same run gives the same page; sections without data are left out.

    Args:
        run: the run.
        files: names and purposes of the files beside the page.
        explanation: the run's explanation; None if it has none.

    Returns:
        The HTML.
    """
    environment = _environment()
    assert environment.loader is not None
    style, script = (environment.loader.get_source(environment, name)[0] for name in ("report.css", "report.js"))
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "result": result(run.metrics) if run.metrics else None,
        "search": search(run),
        "gradcam": gradcam_grid(run, explanation),
        "calibration": calibration(run.metrics),
        "prompts": words(run, explanation),
        "costs": costs(run),
    }
    page = environment.get_template("report.html.j2").render(
        **parts,
        contents=_contents(run, parts),
        run=run,
        files=files,
        style=Markup(style),
        script=Markup(script),
        script_hash=script_hash,
        facts=_facts(run),
        layout=layout(run),
        attention=attention(run, explanation),
        training=charts.training(run),
        given=given(run),
        inherits=inherits(run),
        method=METHODS[run.config.method].summary if run.config.method in METHODS else None,
        times=times(run),
        classes=classes(run.metrics.per_class) if run.metrics else None,
        confusions=confusions(run, explanation),
        settings=[(name, _written(value)) for name, value in flat(run.config.settings).items()],
    )
    return page.strip() + "\n"


@cache
def _environment() -> Environment:
    """Returns the environment of the templates, which are compiled once for all reports."""
    return environment("reports/web", percent=percent, points=points, plural=lambda noun, count: plural(count, noun))


def _contents(run: RunFolder, parts: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the sections of the page: their ids and their names in the table of contents."""
    sections = [
        ("result", "Result", parts["result"]),
        ("layout", "Layout", True),
        ("preference", "Search", parts["search"] or given(run)),
        ("convergence", "Convergence", True),
        ("classes", "Classes", run.metrics),
        ("gradcam", "Where it looks", parts["gradcam"]),
        ("calibration", "Calibration", parts["calibration"]),
        ("prompts", "Prompts", parts["prompts"]),
        ("cost", "Cost", parts["costs"]),
        ("again", "Repeating it", True),
    ]
    return [(key, name) for key, name, there in sections if there]


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    """Returns the facts at the head of the page: names and values."""
    settings, metrics = run.config.settings, run.metrics
    shots, seed = (metrics.shots, metrics.seed) if metrics else (settings.get("shots"), settings.get("seed"))
    facts = [("Method", run.config.method), ("Backbone", run.config.backbone.name)]
    facts.append(("Shots", "all images" if shots is None else f"{shots} per class"))
    facts.append(("Classes", f"{metrics.classes if metrics else len(run.config.task.class_names):,}"))
    if metrics:
        facts.append(("Test images", f"{metrics.test_images:,}"))
    facts.append(("Seed", str(seed)))
    if run.search or given(run):
        facts.append(("Layout", "searched" if run.search else "given"))
    return facts


def _written(value: Any) -> str:
    """Returns text unchanged and other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
