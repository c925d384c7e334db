"""Atomic writes: a file is whole or as it was before, whenever the process dies."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from dpl.errors import DplError


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Writes `data` to a temporary file beside `path`, then renames it.

    `durable` also flushes to the disk, for a loss of power; a killed process loses nothing without. Raises `DplError`
    where the disk is full or may not be written; what was there before stays.
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
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """`write_bytes` of indented JSON; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`; `DplError` names the file where it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise DplError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DplError(f"{path}: is not JSON ({error})") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
