"""The command `dpl`: an explicit table of commands.

A command imports what it needs when it runs, so that `--help` is quick. `quiet()` comes before these imports, because the
libraries read its settings when they are imported.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

from dpl.cli.arguments import (
    CheckDataset,
    Compare,
    Convert,
    Datasets,
    Demo,
    Evaluate,
    Explain,
    Methods,
    Predict,
    Report,
    Reproduce,
    Resume,
    WhereDataset,
    parse,
    parse_run,
)
from dpl.utils.errors import DplError

HELP = """dpl: fits a frozen vision-language model to your classes from a few labelled images,
by prompts whose lengths per layer are searched by gradient descent.

usage: dpl COMMAND ...        dpl COMMAND --help for its options

  fit DATA            search a prompt layout, train prompts in it, evaluate, report: the main job
  search DATA         only search a layout
  train DATA          only train, in a given --layout
  compare DATA        compare several methods over shots and seeds
  reproduce PROTOCOL  run a protocol of the field: dpl-fewshot, base-to-new, cross-dataset, domain
  evaluate RUN        accuracy of a run on its test images, or on others with --on; on new classes with --classes new
  predict RUN IMAGE   classes and probabilities of images, folders, or of a list on stdin (-)
  explain RUN IMAGE   which parts of an image speak for a class, for zero-shot, this and other runs
  report RUN...       write a run's report.html again; for several runs, a page that compares them
  demo RUN            a page on which you drop images and see the predictions of both models
  convert FILE FOLDER convert a CLIP of OpenAI or open_clip to the Hugging Face form
  methods             list the methods, for fit --method
  datasets            list the built-in tasks and the data sets of the catalogue; dpl datasets where NAME shows how to get one,
                      dpl datasets check NAME --root R whether it is complete

DATA is a built-in task such as digits, a data set of the catalogue with --root, a folder (class name/*.jpg, or train/ [val/]
test/ of such), a table of paths and labels (.csv, .jsonl, .parquet), or a data set of Hugging Face (hf:NAME).
dpl fit --resume RUN resumes a stopped fit, search or train; the same command resumes a stopped compare or
reproduce.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words behind `dpl`; by default those of the process.

    Returns:
        The exit status: 0; 2 for bad input, with one line on stderr; 130 for Ctrl-C; 141 if the reader of the output has gone.
    """
    # Spinning threads make a step three times slower if another program uses the cores, and save only a tenth of it
    # otherwise.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(f"dpl {version('differentiable-prompt-learning')}")
        return 0
    try:
        if name not in COMMANDS:
            raise DplError(f"no command {name!r}: there are {', '.join(COMMANDS)}; see dpl --help")
        COMMANDS[name](rest)
    except DplError as error:
        print(f"dpl: {error}", file=sys.stderr)
        return 2
    except NotImplementedError as error:
        from dpl.backbones.devices import missing_operation

        line = missing_operation(error)
        if line is None:
            raise
        print(f"dpl: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\ndpl: stopped{stop.args[0] if stop.args else ''}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has exited: `dpl predict ... | head`
        sys.stderr.close()
        return 141
    return 0


def _run(kind: str, rest: Sequence[str]) -> None:
    """Runs fit, search or train: begins a run, or resumes one."""
    from dpl.cli.terminal import quiet, run_progress, summary

    if any(word.split("=")[0] == "--resume" for word in rest):
        run = parse(Resume, rest, f"dpl {kind}").resume
        config = None
    else:
        config = parse_run(kind, rest)
        from dpl.pipeline import default_folder

        run = config.out or default_folder(config)
    quiet()
    try:
        from dpl.pipeline import fit, resume

        with run_progress() as (on_step, say):
            run = fit(config, on_step, say) if config else resume(run, on_step, say)
    except KeyboardInterrupt:
        began = (run / "checkpoint").exists()
        raise KeyboardInterrupt(f"; go on with: dpl {kind} --resume {run}" if began else "; nothing was begun") from None
    summary(run)


def _compare(rest: Sequence[str]) -> None:
    arguments = parse(Compare, rest, "dpl compare")
    from dpl.cli.terminal import quiet

    quiet()
    from dpl.cli.comparison import comparison_progress, print_comparison
    from dpl.cli.plans import comparison_plan
    from dpl.experiments.compare import compare

    plan = comparison_plan(arguments)
    try:
        with comparison_progress(len(plan.runs)) as watch:
            comparison = compare(plan, watch.begin, watch.on_step, watch.say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; go on with the same command") from None
    print_comparison(comparison, plan.out)


def _reproduce(rest: Sequence[str]) -> None:
    arguments = parse(Reproduce, rest, "dpl reproduce")
    from dpl.cli.terminal import quiet

    quiet()
    from dpl.cli.comparison import comparison_progress
    from dpl.cli.plans import reproduction_grid
    from dpl.cli.reproduction import print_reproduction
    from dpl.experiments.reproduce import reproduce

    grid = reproduction_grid(arguments)
    try:
        with comparison_progress(sum(len(plan.runs) for plan in grid.plans.values())) as watch:
            found = reproduce(grid, watch.begin, watch.on_step, watch.say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; go on with the same command") from None
    print_reproduction(found, grid.out)


def _evaluate(rest: Sequence[str]) -> None:
    arguments = parse(Evaluate, rest, "dpl evaluate")
    from dpl.cli.terminal import print_evaluations, print_metrics, quiet

    quiet()
    from dpl.inference import evaluate_run

    results = evaluate_run(arguments.run, arguments.on, arguments.classes, arguments.root, arguments.loading, say=_note)
    if arguments.json:
        print(json.dumps(results if len(results) > 1 else results[0], indent=1, ensure_ascii=False))
    elif len(results) > 1:
        from dpl.runs import read_config

        print_evaluations(results, read_config(arguments.run).get("data"))
    else:
        print_metrics(results[0])


def _predict(rest: Sequence[str]) -> None:
    arguments = parse(Predict, rest, "dpl predict")
    from dpl.cli.terminal import print_predictions, quiet

    quiet()
    from dpl.inference import predict_files

    result = predict_files(arguments.run, arguments.images, arguments.top, arguments.loading, say=_note)
    print(json.dumps(result, indent=1, ensure_ascii=False)) if arguments.json else print_predictions(result)


def _explain(rest: Sequence[str]) -> None:
    arguments = parse(Explain, rest, "dpl explain")
    from dpl.cli.terminal import quiet

    quiet()
    from dpl.reports.explanation.write import explain_files

    print(explain_files(**vars(arguments), say=_note))


def _report(rest: Sequence[str]) -> None:
    arguments = parse(Report, rest, "dpl report")
    if arguments.others:
        from dpl.cli.terminal import quiet

        quiet()  # the runs are loaded to explain the same pictures
    from dpl.reports.write import report

    for path in report((arguments.run, *arguments.others), arguments.out, arguments.figures, arguments.format, _note):
        print(path)


def _demo(rest: Sequence[str]) -> None:
    arguments = parse(Demo, rest, "dpl demo")
    os.environ["HF_HUB_OFFLINE"] = "1"  # the demo contacts no other machine, not even to check a backbone for updates
    from dpl.cli.terminal import quiet

    quiet()
    from dpl.demo.serve import serve

    serve(arguments.run, arguments.host, arguments.port, arguments.loading, say=partial(print, flush=True), warn=_note)


def _convert(rest: Sequence[str]) -> None:
    arguments = parse(Convert, rest, "dpl convert")
    from dpl.cli.terminal import quiet

    quiet()
    from dpl.backbones.formats import convert_to_folder

    for note in convert_to_folder(arguments.file, arguments.folder, not arguments.no_pickle, arguments.activation):
        _note(note)
    print(arguments.folder)


def _datasets(rest: Sequence[str]) -> None:
    if rest and rest[0] in ("check", "where"):
        return _catalog(*rest)
    arguments = parse(Datasets, rest, "dpl datasets")
    if arguments.pictures is None:
        from dpl.cli.terminal import print_datasets

        print_datasets(arguments.root)
    else:
        from dpl.reports.gallery import write_gallery

        write_gallery(arguments.pictures)
        print(arguments.pictures)


def _catalog(action: str, *rest: str) -> None:
    """Runs dpl datasets check or dpl datasets where."""
    arguments = parse(CheckDataset if action == "check" else WhereDataset, rest, f"dpl datasets {action}")
    from dpl.cli.catalog import print_check, print_where
    from dpl.data.sources.catalog import CATALOG
    from dpl.data.sources.catalog.check import check

    if arguments.name not in CATALOG:
        raise DplError(f"no data set {arguments.name!r} in the catalogue: there are {', '.join(CATALOG)}")
    row = CATALOG[arguments.name]
    if isinstance(arguments, WhereDataset):
        return print_where(row)
    checked = check(row, arguments.root, everything=arguments.all, on_step=_decoded)
    print_check(checked)
    if checked.problems:
        count = f"{len(checked.problems)} problem{'s' if len(checked.problems) > 1 else ''}"
        raise DplError(f"{row.name} is not as published ({count}, above); dpl datasets where {row.name} says how to get it")


def _decoded(done: int, total: int) -> None:
    if total > 1000:
        print(f"decoded {done} of {total} images", file=sys.stderr, flush=True)


def _methods(rest: Sequence[str]) -> None:
    parse(Methods, rest, "dpl methods")
    from dpl.cli.terminal import print_methods

    print_methods()


def _note(text: str) -> None:
    """Prints a note to stderr, separate from the output."""
    print(text, file=sys.stderr)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "fit": partial(_run, "fit"),
    "search": partial(_run, "search"),
    "train": partial(_run, "train"),
    "compare": _compare,
    "reproduce": _reproduce,
    "evaluate": _evaluate,
    "predict": _predict,
    "explain": _explain,
    "report": _report,
    "demo": _demo,
    "convert": _convert,
    "methods": _methods,
    "datasets": _datasets,
}
