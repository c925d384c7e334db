"""A run folder as one self-contained HTML page: no network, no scripts but its own, readable without them."""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dpl.explain.stored import Explanation, read_explanation
from dpl.files import write_text
from dpl.methods import METHODS
from dpl.nested import flat
from dpl.reports import charts
from dpl.reports.accuracy import classes, percent, points, result
from dpl.reports.attention import attention
from dpl.reports.calibration import calibration
from dpl.reports.confusions import confusions
from dpl.reports.costs import costs
from dpl.reports.figures import plural
from dpl.reports.looking import looking
from dpl.reports.run_folder import RunFolder, read_run
from dpl.reports.stages import given, inherits, layout, search, times
from dpl.reports.words import words

# What a run folder may hold beside the report, for the list at its end.
FILES = {
    "config.json": "what was run: task, backbone, settings, versions",
    "layout.json": "the prompt layout, one length per layer and branch",
    "prompts.safetensors": "all that was learned",
    "class_features.safetensors": "the class embeddings",
    "metrics.json": "the results",
    "explanation.json": "the test images shown here, what the prompts say, and how much they are used",
    "explanation.safetensors": "the pixels of these images, and where the models look",
    "history.jsonl": "one line per epoch, with all that was noted of it",
}


def write_report(run: Path) -> Path:
    """Writes `report.html` into the run folder `run`, whole or not at all, and returns its path.

    Reads config.json, layout.json, metrics.json and history.jsonl, and the explanation where there is one. Raises `DplError`,
    one line that names the file, where one is missing, malformed or contradicts another, or the report cannot be written.
    """
    files = {name: purpose for name, purpose in FILES.items() if (run / name).exists()}
    path = run / "report.html"
    write_text(path, render(read_run(run), files, read_explanation(run)))
    return path


def render(run: RunFolder, files: dict[str, str], explanation: Explanation | None = None) -> str:
    """The page for `run`; `files` are names and purposes of the files beside it. The same run gives the same page.

    Sections of which the run has nothing are left out.
    """
    environment = _environment()
    assert environment.loader is not None
    style, script = (environment.loader.get_source(environment, name)[0] for name in ("report.css", "report.js"))
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "result": result(run.metrics) if run.metrics else None,
        "search": search(run),
        "looking": looking(run, explanation),
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
    """The templates, compiled once for all reports."""
    environment = Environment(loader=PackageLoader("dpl", "reports"), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"percent": percent, "points": points, "plural": lambda noun, count: plural(count, noun)}
    return environment


def _contents(run: RunFolder, parts: dict[str, Any]) -> list[tuple[str, str]]:
    """The sections of the page: the id of each and what it is called in the table of contents."""
    sections = [
        ("result", "Result", parts["result"]),
        ("layout", "Layout", True),
        ("preference", "Search", parts["search"] or given(run)),
        ("convergence", "Convergence", True),
        ("classes", "Classes", run.metrics),
        ("looking", "Where it looks", parts["looking"]),
        ("calibration", "Calibration", parts["calibration"]),
        ("prompts", "Prompts", parts["prompts"]),
        ("cost", "Cost", parts["costs"]),
        ("again", "Repeating it", True),
    ]
    return [(key, name) for key, name, there in sections if there]


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    """What the page's head says of the run: names and values."""
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
    """Text as it is, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
