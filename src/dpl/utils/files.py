"""Atomic writes: if the process dies, a file has either its old or its new content."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from dpl.utils.errors import DplError


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Writes `data` to a temporary file beside `path`, then renames it.

    Args:
        path: the file.
        data: its new content.
        durable: flush to the disk, so that the file survives a loss of power. A kill of the process loses nothing without it.

    Raises:
        DplError: the disk is full or not writable; the old content is kept.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise DplError(f"{path}: cannot be written ({error.strerror}); the old state is kept") from error
    except BaseException:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes text as UTF-8, as `write_bytes` does.

    Args:
        path: the file.
        text: its new content.

    Raises:
        DplError: the disk is full or not writable; the old content is kept.
    """
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """Writes indented JSON, as `write_bytes` does.

    Args:
        path: the file.
        data: a JSON value.

    Raises:
        ValueError: `data` contains NaN or infinity, which JSON does not have.
        DplError: the file cannot be written.
    """
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Args:
        path: the file.

    Raises:
        DplError: the file is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DplError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DplError(f"{path}: is not JSON ({error})") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
