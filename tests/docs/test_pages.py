"""README, CONTRIBUTING and the site name commands, flags, files and pages that exist."""

import re
import shlex
from pathlib import Path

import pytest

import dpl
from docs.extensions.library import remaining
from docs.extensions.settings import settings_of
from dpl.cli import arguments
from dpl.cli.main import COMMANDS
from dpl.cli.plans import comparison_plan
from dpl.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(page.relative_to(ROOT)): re.sub(r"\\\n +", "", page.read_text()) for page in PAGES}
PARSED_AS = {"datasets where": arguments.WhereDataset, "datasets check": arguments.CheckDataset}


def commands(text: str) -> list[str]:
    """The commands in the code blocks and code marks of a page, without those that stand for any command."""
    lines = re.findall(r"^ *(dpl [a-z].*)$", text, re.MULTILINE) + re.findall(r"`(dpl [a-z][^`]*)`", text)
    return [part.strip() for line in lines for part in line.split("&&") if not line.endswith(("{", ":"))]


ALL = sorted({command for text in TEXTS.values() for command in commands(text)})


@pytest.mark.parametrize("line", ALL)
def test_every_command_parses(line: str):
    _, command, *rest = shlex.split(line, comments=True)
    assert command in COMMANDS
    kind = PARSED_AS.get(f"{command} {rest[0]}" if rest else "")
    if rest in ([], ["--help"], ["check"]) or {"DATA", "NAME", "PROTOCOL"} & set(rest):
        return  # the general form of a command
    if kind:
        arguments.parse(kind, rest[1:], f"dpl {command}")
    elif command in ("fit", "search", "train"):
        if "--resume" in rest:
            arguments.parse(arguments.Resume, rest, "dpl fit")
        elif "--help" not in rest:
            assert arguments.parse_run(command, rest).data
    else:
        parsed = arguments.parse(getattr(arguments, command.capitalize()), rest, f"dpl {command}")
        assert command != "compare" or comparison_plan(parsed).runs


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_to_a_file_leads_somewhere(page: str):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL))
    broken = [link for link in links if "://" not in link and not ((ROOT / page).parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("page", TEXTS)
def test_every_named_file_of_the_repository_exists(page: str):
    named = re.findall(r"`((?:tests|src|benchmarks|docs|pretraining)/[\w./-]+)`", TEXTS[page])
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", ["docs/method.md", "docs/protocol.md", "docs/architecture.md"])
def test_every_named_module_exists(page: str):
    named = re.findall(r"`((?!tests/|benchmarks/)[a-z_/]+\.py)`", TEXTS[page])
    assert named and not [name for name in named if not (ROOT / "src" / "dpl" / name).exists()]


def test_the_library_page_has_every_public_name_once():
    page = TEXTS["docs/api.md"]
    documented = [*re.findall(r"auto\w+:: dpl\.(\w+)", page), *(remaining(page) if "{library}" in page else [])]
    assert sorted(documented) == sorted(dpl.__all__)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_a_page_with_its_command_and_its_flags(method: str):
    text = TEXTS[f"docs/methods/{method}.md"]
    used = [arguments.parse_run("fit", shlex.split(line)[2:]).method for line in commands(text) if line.startswith("dpl fit")]
    assert method in used
    own = {alias for _, setting in settings_of(METHODS[method].run()) for alias in re.findall(r"--[\w.-]+", setting.flags)}
    named = {flag for code in re.findall(r"`([^`\n]*)`", text) for flag in re.findall(r"^--[a-z][\w.-]*", code)}
    assert {flag.replace("--no-", "--") if flag not in own else flag for flag in named} <= own
