"""Output of the command line: progress with the time left, and tables of results."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dpl.methods import METHODS
from dpl.utils.files import read_json

NAMES = {"search": "searching a layout", "train": "training", "evaluate": "evaluating"}


def quiet() -> None:
    """Turns off the progress bars and notices of the libraries."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils.logging import disable_progress_bar  # late: it reads the environment when it is imported

    disable_progress_bar()


@contextmanager
def run_progress() -> Iterator[tuple[Callable[[str, int, int, Mapping[str, float]], None], Callable[[str], None]]]:
    """Shows a progress bar per stage on stderr, with the losses and the time left; without a terminal, plain lines.

    Yields:
        `on_step`, which receives the progress, and `say`, which prints a note.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_step, lambda text: print(text, file=sys.stderr, flush=True)
        return
    columns = (
        TextColumn("{task.description:20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns, console=console) as progress:
        bars: dict[str, Any] = {}

        def on_step(stage: str, done: int, total: int, losses: Mapping[str, float]) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(NAMES.get(stage, stage), total=total, losses="")
            progress.update(bars[stage], completed=done, losses=_losses(losses))

        yield on_step, lambda text: console.print(Text(text))


def _plain_step(stage: str, done: int, total: int, losses: Mapping[str, float]) -> None:
    if done % max(total // 10, 1) == 0 or done == total:
        print(f"{NAMES.get(stage, stage)}: {done} of {total}  {_losses(losses)}".rstrip(), file=sys.stderr, flush=True)


def _losses(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in losses.items())


def summary(run: Path) -> None:
    """Prints the results of a run: accuracies, the layout, the preferences of the search, and the paths of its files.

    Args:
        run: the run folder.
    """
    # Late: only a run needs them.
    from dpl.cli.terminal_chart import print_blocks
    from dpl.schemas.run_folder import read_run

    table, found = _facts(), read_run(run)
    if (run / "metrics.json").exists():
        metrics = read_json(run / "metrics.json")
        _add_accuracies(table, metrics)
        table.add_row("trainable", f"{metrics['trainable_parameters']:,} parameters in {metrics['layout_tokens']} prompt tokens")
        if (scale := metrics.get("prompt_scale", metrics.get("gate", 1))) != 1:  # gate: the name in earlier runs
            table.add_row("prompt scale", f"{scale:g}  (1: prompts as trained, 0: zero-shot; chosen on the validation shots)")
        if found.metrics and found.metrics.head:
            table.add_row("head", found.metrics.head.summary)
        _print(table)
    print_blocks(found, Console())
    table = _facts()
    table.add_row("run", Text(str(run)))
    table.add_row("report", Text(str(run / "report.html")))
    if (run / "prompts.safetensors").exists():
        table.add_row("use it", Text(f"dpl predict {run} IMAGE..."))
    _print(table)


def _facts() -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(min_width=9)
    table.add_column(overflow="fold")
    return table


def _add_accuracies(table: Table, metrics: Mapping[str, Any]) -> None:
    for label, key in (("accuracy", "accuracy"), ("zero-shot", "zero_shot_accuracy")):
        low, high = metrics[f"{key.removesuffix('_accuracy')}_interval"]
        share = f"{metrics[key]:6.1%}"
        table.add_row(label, f"{share}  (95 % interval {low:.1%} to {high:.1%}, {metrics['test_images']} test images)")


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """Prints the result of `dpl evaluate` on one data set.

    Args:
        metrics: the result of `dpl.inference.accuracies`.
    """
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("data", Text(metrics["data"]))
    _add_accuracies(table, metrics)
    for key, both in metrics.get("base_to_new", {}).items():
        name = "base, new: " + ("harmonic mean" if key == "accuracy" else "of zero-shot")
        table.add_row(name, f"{both['harmonic_mean']:6.1%}  (base {both['base']:.1%}, new {both['new']:.1%})")
    _print(table)


def print_evaluations(results: Sequence[Mapping[str, Any]], source: str | None) -> None:
    """Prints the results of `dpl evaluate` on several data sets, with their mean.

    Args:
        results: a result per data set.
        source: the data that the run has learned from, which is marked and left out of the mean.
    """
    table = Table(box=None, pad_edge=False)
    for column in ("data", "accuracy", "95 % interval", "zero-shot", "95 % interval", "classes", "images"):
        table.add_column(column, justify="left" if column == "data" else "right", overflow="fold")

    def is_source(data: str) -> bool:
        return source is not None and Path(data).resolve() == Path(source).resolve()

    for result in results:
        cells = [Text(result["data"] + (" (learned from)" if is_source(result["data"]) else ""))]
        for key in ("accuracy", "zero_shot_accuracy"):
            low, high = result[f"{key.removesuffix('_accuracy')}_interval"]
            cells += [Text(f"{result[key]:.1%}"), Text(f"{low:.1%} to {high:.1%}")]
        table.add_row(*cells, str(result["classes"]), str(result["test_images"]))
    others = [result for result in results if not is_source(result["data"])]
    if len(others) > 1:
        means = [f"{sum(result[key] for result in others) / len(others):.1%}" for key in ("accuracy", "zero_shot_accuracy")]
        table.add_row(f"mean of {len(others)}", means[0], "", means[1])
    _print(table)


def print_predictions(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints a line per image: its classes, the most probable first.

    Args:
        rows: the result of `dpl.inference.predict_files`.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    for place in range(max(len(row["classes"]) for row in rows)):
        table.add_column("class" if place == 0 else f"{place + 1}.")
        table.add_column("", justify="right")
    for row in rows:
        cells = [cell for best in row["classes"] for cell in (Text(best["name"]), f"{best['probability']:.1%}")]
        table.add_row(Text(row["image"]), *cells)
    _print(table)


def print_methods() -> None:
    """Prints the methods with a summary of each."""
    table = Table(box=None, pad_edge=False)
    for column in ("method", "what is learned"):
        table.add_column(column)
    for name, row in METHODS.items():
        table.add_row(name, row.summary)
    _print(table)
    print(
        "\ndpl fit DATA --method NAME; --method NAME --help shows its settings, --preset paper takes those its authors published."
    )


def print_datasets(root: Path | None = None) -> None:
    """Prints the built-in tasks with their sizes, and the catalogue.

    Args:
        root: the folder of the catalogue's data sets; if given, the list shows whether each of them is present.
    """
    # Late: only `dpl datasets` needs them.
    from dpl.cli.catalog import print_catalog
    from dpl.data.load import BUILTIN, load_task

    table = Table(box=None, pad_edge=False)
    for column in ("task", "classes", "train", "val", "test", "what"):
        table.add_column(column, justify="right" if column in ("classes", "train", "val", "test") else "left")
    for name, builtin in BUILTIN.items():
        task = load_task(name)
        sizes = (len(task.class_names), len(task.train), len(task.val), len(task.test))
        table.add_row(name, *map(str, sizes), builtin.description)
    _print(table)
    print()
    print_catalog(root)
    print("\ndpl datasets where NAME shows what to download; dpl datasets check NAME --root R tells whether it is complete.")
    print("Any folder is a task too: class name/*.jpg, or train/ [val/] test/ of such.")
    print("dpl datasets --pictures FILE.html  (or .png) shows an image of every class.")


def _print(table: Table) -> None:
    # Without a terminal a program may read the lines, so they must not be folded.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
