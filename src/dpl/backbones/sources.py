"""Sources of a checkpoint's files: a folder, or a repository of the Hugging Face hub, which is fetched file by file."""

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm

from dpl.utils.errors import DplError

OnFetch = Callable[[str, int, int], None]
"""Receives a file's name, the megabytes fetched, and the total megabytes."""

CONFIGS = ("config.json", "open_clip_config.json")
_ID = re.compile(r"[\w.-]+/[\w.-]+")
_CONVERSION_BOT = "SFconvertbot"


class Source(Protocol):
    """The files of one checkpoint."""

    @property
    def label(self) -> str:
        """The checkpoint's name in messages."""
        ...

    @property
    def commit(self) -> str | None:
        """The hub's commit; None for a folder."""
        ...

    @property
    def names(self) -> frozenset[str]:
        """The names of all files, without those in subfolders."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether `names` are all files of the checkpoint; false if only the hub's cache could be listed."""
        ...

    def file(self, name: str) -> Path:
        """Returns the path of a file on this machine, after fetching it if needed.

        Args:
            name: one of `names`.

        Raises:
            DplError: the file cannot be fetched.
        """
        ...

    def conversion(self) -> str | None:
        """Returns the revision of the hub's own conversion to safetensors; None if there is none or it is unknown."""
        ...


class Folder:
    """A checkpoint in a local folder."""

    commit = None
    is_whole = True

    def __init__(self, path: Path) -> None:
        self.label, self._path = str(path), path

    @property
    def names(self) -> frozenset[str]:
        """The names of the files in the folder."""
        return _files(self._path)

    def file(self, name: str) -> Path:
        """Returns the path of the file `name`."""
        return self._path / name

    def conversion(self) -> None:
        """Returns None: a folder has no other revisions."""


class Repository:
    """A checkpoint on the Hugging Face hub, at one commit. Files in the local cache are not fetched again."""

    def __init__(self, name: str, revision: str | None, download: bool = True, on_fetch: OnFetch | None = None) -> None:
        """Finds the commit of `revision` by fetching the repository's config.

        Args:
            name: the hub id, owner/name.
            revision: branch, tag, pull request or commit; None: the main branch.
            download: whether the network may be used; otherwise only the cache is read.
            on_fetch: follows the downloads.

        Raises:
            DplError: the repository or the revision is not available, or is not a checkpoint; the message gives the reason.
        """
        self._id, self._download, self._on_fetch = name, download, on_fetch
        self.label, self._revision = f"{name}@{revision}" if revision else name, revision
        config = self._first_config()
        self.commit: str | None = config.parent.name

    def _first_config(self) -> Path:
        absent: EntryNotFoundError | None = None
        for name in CONFIGS:
            try:
                return self._fetch(name, self._revision)
            except EntryNotFoundError as error:  # not in the repository, or not in the cache
                absent = absent or error
        if isinstance(absent, LocalEntryNotFoundError):
            raise DplError(_unreachable(self.label, self._download)) from None
        raise DplError(f"backbone {self.label}: the repository has neither {' nor '.join(CONFIGS)}; it is no CLIP checkpoint")

    @cached_property
    def _listing(self) -> tuple[frozenset[str], bool]:
        if self._download and not constants.HF_HUB_OFFLINE:
            try:
                found = HfApi().model_info(self._id, revision=self.commit)
                return frozenset(one.rfilename for one in found.siblings or () if "/" not in one.rfilename), True
            except Exception:  # the network fails in many ways; a complete cache does not need it
                pass
        return _files(Path(self._fetch_first_cached()).parent), False

    def _fetch_first_cached(self) -> Path:
        cached = Path(constants.HF_HUB_CACHE) / f"models--{self._id.replace('/', '--')}" / "snapshots" / str(self.commit)
        return next(path for name in CONFIGS if (path := cached / name).exists())

    @property
    def names(self) -> frozenset[str]:
        """The names of the files at this commit; of those in the cache if the hub cannot be reached."""
        return self._listing[0]

    @property
    def is_whole(self) -> bool:
        """Whether the hub listed the files."""
        return self._listing[1]

    def file(self, name: str) -> Path:
        """Returns the path of a file in the hub's cache, after fetching it if it is not there.

        Args:
            name: one of `names`.

        Raises:
            DplError: the file is not available; the message gives the reason.
        """
        try:
            return self._fetch(name, self.commit)
        except LocalEntryNotFoundError:
            raise DplError(_unreachable(f"{self.label}: {name}", self._download)) from None
        except EntryNotFoundError:
            raise DplError(f"backbone {self.label}: the hub has no file {name} at commit {self.commit}") from None

    def _fetch(self, name: str, revision: str | None) -> Path:
        options: dict[str, Any] = {"tqdm_class": _reporting(name, self._on_fetch)} if self._on_fetch else {}
        try:
            return Path(hf_hub_download(self._id, name, revision=revision, local_files_only=not self._download, **options))
        except LocalEntryNotFoundError as error:
            if isinstance(error.__cause__, HfHubHTTPError) and error.__cause__.response is not None:
                raise DplError(_refusal(self.label, self._id, error.__cause__)) from None
            raise
        except EntryNotFoundError:
            raise
        except HFValidationError as error:
            raise DplError(f"backbone {self.label}: is no id of the Hugging Face hub ({_line(error)})") from None
        except HfHubHTTPError as error:
            raise DplError(_refusal(self.label, self._id, error)) from None
        except OSError as error:
            raise DplError(f"backbone {self.label}: {name} cannot be fetched ({_line(error)})") from None

    def conversion(self) -> str | None:
        """Returns the pull request of the hub's conversion bot; None if there is none or the hub cannot be reached."""
        if not self.is_whole:
            return None
        try:
            requests = HfApi().get_repo_discussions(self._id, author=_CONVERSION_BOT, discussion_type="pull_request")
            return next((request.git_reference for request in requests if request.git_reference), None)
        except Exception:  # the name only improves a message
            return None


def open_source(name: str, revision: str | None = None, download: bool = True, on_fetch: OnFetch | None = None) -> Source | Path:
    """Finds a checkpoint by its name.

    Args:
        name: a folder, a single file, or a hub id: `owner/name`, `owner/name@revision` or `hf-hub:owner/name`.
        revision: the branch, tag, pull request or commit of a hub id.
        download: whether files that the local cache lacks may be fetched from the hub.
        on_fetch: follows the downloads.

    Returns:
        The source of a checkpoint's files, or the path of a single file.

    Raises:
        DplError: there is no checkpoint of this name, or the hub refuses it.
    """
    path = Path(name).expanduser()
    if name and _exists(path):
        if revision:
            raise DplError(f"backbone {name}: is on this machine and has no revisions; leave out --revision {revision}")
        return Folder(path) if path.is_dir() else path
    identifier, _, own = name.removeprefix("hf-hub:").partition("@")
    if own and revision and own != revision:
        raise DplError(f"backbone {name}: has another revision than --revision {revision}; give one of them")
    if not _ID.fullmatch(identifier) or name.startswith((".", "~")) or path.suffix in _FILE_ENDINGS:
        raise DplError(
            f"backbone {name}: is neither tiny, nor a folder or file on this machine, nor a Hugging Face id"
            " such as openai/clip-vit-base-patch16"
        )
    return Repository(identifier, own or revision, download, on_fetch)


_FILE_ENDINGS = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"}


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


def _files(folder: Path) -> frozenset[str]:
    try:
        return frozenset(path.name for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise DplError(f"backbone {folder}: cannot be read ({error.strerror})") from None


def _unreachable(label: str, download: bool) -> str:
    if not download:
        return f"backbone {label}: is not in the Hugging Face cache on this machine, and this command downloads nothing"
    if constants.HF_HUB_OFFLINE:
        return f"backbone {label}: is not in the Hugging Face cache, and HF_HUB_OFFLINE is set; unset it once to fetch it"
    return (
        f"backbone {label}: is not in the Hugging Face cache, and the hub cannot be reached;"
        " check the network, or give a checkpoint folder"
    )


def _refusal(label: str, identifier: str, error: HfHubHTTPError) -> str:
    status = error.response.status_code if error.response is not None else None
    page = f"{constants.ENDPOINT}/{identifier}"
    if isinstance(error, GatedRepoError):
        reason = f"its authors ask for consent: accept the licence at {page}, then set HF_TOKEN to your token"
    elif isinstance(error, RevisionNotFoundError):
        reason = f"the repository has no such revision; {page} lists them"
    elif isinstance(error, RepositoryNotFoundError) or status == 401:
        reason = "the hub has no such repository, or it is private: check the id; for a private one set HF_TOKEN"
    elif status == 403:
        reason = f"the token may not read it; look at {page}"
    elif status == 429:
        reason = "the hub limits the number of requests: wait some minutes, or set HF_TOKEN for a higher limit"
    elif status and status >= 500:
        reason = f"the hub has a fault (HTTP {status}); try again later"
    else:
        reason = f"the hub refused the request ({_line(error)})"
    return f"backbone {label}: {reason}"


def _reporting(name: str, on_fetch: OnFetch) -> type[tqdm]:
    """Makes a progress bar class that draws nothing and reports to `on_fetch`."""

    class Reporting(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._done, self._all = kwargs.get("initial") or 0, kwargs.get("total") or 0
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self._done += n or 0
            on_fetch(name, int(self._done / 1e6), max(1, int(self._all / 1e6)))

    return Reporting


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
