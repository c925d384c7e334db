"""The command `dpl`: an explicit table of commands; heavy imports only where a command needs them."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial

from dpl.arguments import (
    CheckDataset,
    Compare,
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
from dpl.errors import DplError

HELP = """dpl: fits a frozen vision-language model to your classes from a few labelled images,
by prompts whose lengths per layer are searched by gradient descent.

usage: dpl COMMAND ...        dpl COMMAND --help for its options

  fit DATA            search a prompt layout, train prompts in it, evaluate, report: the main job
  search DATA         only search a layout
  train DATA          only train, in a given --layout
  compare DATA        run several methods on several shots and seeds, and put them side by side
  reproduce PROTOCOL  a protocol of the field on the data sets that are there: dpl-fewshot, base-to-new, cross-dataset, domain
  evaluate RUN        accuracy of a run on its test images, or on others with --on; on new classes with --classes new
  predict RUN IMAGE   classes and probabilities of images, folders, or - for a list on stdin
  explain RUN IMAGE   where the model looks, beside zero-shot and other runs; without images on the run's own examples
  report RUN...       write the run's report.html again; of several runs a page that compares them; --figures DIR for print
  demo RUN            a page for the browser: drop images, see what zero-shot and the tuned model make of them
  methods             the ways to adapt a backbone, for fit --method
  datasets            the built-in tasks and the data sets of the catalogue; with --pictures FILE.html examples of images;
                      dpl datasets where NAME says how to get one, dpl datasets check NAME --root R whether it is whole

DATA is a built-in task such as digits, a data set of the catalogue with --root, a folder (class name/*.jpg, or train/ [val/]
test/ of such), a table of paths and labels (.csv, .jsonl, .parquet), or a data set of Hugging Face (hf:NAME).
A stopped fit, search or train goes on with  dpl fit --resume RUN, a stopped compare or reproduce with the
same command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0, 2 for bad input (told in one line), 130 for Ctrl-C."""
    # Threads that spin while they wait make a step three times slower where another program wants the cores too, and
    # save a tenth of it where none does.
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
    except KeyboardInterrupt as stop:
        print(f"\ndpl: stopped{stop.args[0] if stop.args else ''}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away: `dpl predict ... | head`
        sys.stderr.close()
        return 141
    return 0


def _run(kind: str, rest: Sequence[str]) -> None:
    """fit, search and train: begin a run, or go on with one."""
    from dpl.terminal import quiet, run_progress, summary

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
    from dpl.terminal import quiet

    quiet()
    from dpl.compare import compare, make_plan
    from dpl.reports.comparison.terminal import comparison_progress, print_comparison

    plan = make_plan(arguments)
    try:
        with comparison_progress(len(plan.runs)) as watch:
            comparison = compare(plan, watch.begin, watch.on_step, watch.say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; go on with the same command") from None
    print_comparison(comparison, plan.out)


def _reproduce(rest: Sequence[str]) -> None:
    arguments = parse(Reproduce, rest, "dpl reproduce")
    from dpl.terminal import quiet

    quiet()
    from dpl.reports.comparison.terminal import comparison_progress
    from dpl.reproduce import make_grid, reproduce
    from dpl.reproduce.terminal import print_reproduction

    grid = make_grid(arguments)
    try:
        with comparison_progress(sum(len(plan.runs) for plan in grid.plans.values())) as watch:
            found = reproduce(grid, watch.begin, watch.on_step, watch.say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; go on with the same command") from None
    print_reproduction(found, grid.out)


def _evaluate(rest: Sequence[str]) -> None:
    arguments = parse(Evaluate, rest, "dpl evaluate")
    from dpl.terminal import print_evaluations, print_metrics, quiet

    quiet()
    from dpl.apply import evaluate_run

    where = {"classes": arguments.classes, "root": arguments.root, **vars(arguments.loading)}
    results = evaluate_run(arguments.run, arguments.on, **where, say=_note)
    if arguments.json:
        print(json.dumps(results if len(results) > 1 else results[0], indent=1, ensure_ascii=False))
    elif len(results) > 1:
        from dpl.runs import read_config

        print_evaluations(results, read_config(arguments.run).get("data"))
    else:
        print_metrics(results[0])


def _predict(rest: Sequence[str]) -> None:
    arguments = parse(Predict, rest, "dpl predict")
    from dpl.terminal import print_predictions, quiet

    quiet()
    from dpl.apply import predict_files

    result = predict_files(arguments.run, arguments.images, arguments.top, **vars(arguments.loading), say=_note)
    print(json.dumps(result, indent=1, ensure_ascii=False)) if arguments.json else print_predictions(result)


def _explain(rest: Sequence[str]) -> None:
    arguments = parse(Explain, rest, "dpl explain")
    from dpl.terminal import quiet

    quiet()
    from dpl.explain.files import explain_files

    given = {name: value for name, value in vars(arguments).items() if name != "loading"}
    print(explain_files(**given, **vars(arguments.loading), say=_note))


def _report(rest: Sequence[str]) -> None:
    arguments = parse(Report, rest, "dpl report")
    if arguments.others:
        from dpl.terminal import quiet

        quiet()  # the runs are loaded, to look at the same pictures
    from dpl.reports.write import report

    for path in report((arguments.run, *arguments.others), arguments.out, arguments.figures, arguments.format, _note):
        print(path)


def _demo(rest: Sequence[str]) -> None:
    arguments = parse(Demo, rest, "dpl demo")
    os.environ["HF_HUB_OFFLINE"] = "1"  # a demo asks no other machine, not even whether a backbone has changed
    from dpl.terminal import quiet

    quiet()
    from dpl.demo.serve import serve

    serve(arguments.run, arguments.host, arguments.port, **vars(arguments.loading), say=partial(print, flush=True), warn=_note)


def _datasets(rest: Sequence[str]) -> None:
    if rest and rest[0] in ("check", "where"):
        return _catalog(*rest)
    arguments = parse(Datasets, rest, "dpl datasets")
    if arguments.pictures is None:
        from dpl.terminal import print_datasets

        print_datasets(arguments.root)
    else:
        from dpl.data.gallery import write_gallery

        write_gallery(arguments.pictures)
        print(arguments.pictures)


def _catalog(action: str, *rest: str) -> None:
    """dpl datasets check and where."""
    arguments = parse(CheckDataset if action == "check" else WhereDataset, rest, f"dpl datasets {action}")
    from dpl.data.catalog import CATALOG
    from dpl.data.catalog.check import check
    from dpl.data.catalog.terminal import print_check, print_where

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
    from dpl.terminal import print_methods

    print_methods()


def _note(text: str) -> None:
    """A remark for the person, apart from the output proper."""
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
    "methods": _methods,
    "datasets": _datasets,
}
