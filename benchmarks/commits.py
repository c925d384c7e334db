"""The sources of an earlier commit beside those of now."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).parents[1]


@contextmanager
def sources(commit: str) -> Iterator[dict[str, Path]]:
    """Yields the folders for PYTHONPATH: of `commit`, in a temporary worktree, and of "now"."""
    with TemporaryDirectory() as folder:
        earlier = Path(folder) / "earlier"
        subprocess.run(["git", "worktree", "add", "--detach", str(earlier), commit], cwd=REPOSITORY, check=True)
        try:
            yield {commit: earlier / "src", "now": REPOSITORY / "src"}
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(earlier)], cwd=REPOSITORY, check=True)
