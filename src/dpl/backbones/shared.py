"""Loads every backbone once per process: users of the same checkpoint share it, and the last one releases its memory."""

from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from dpl.backbones.loading import Backbone, load_backbone

_shared: WeakValueDictionary[tuple[Any, ...], Backbone] = WeakValueDictionary()
_lock = Lock()


def shared_backbone(name: str = "tiny", **options: Any) -> Backbone:
    """Returns the backbone of an earlier call with the same arguments, as long as somebody holds it; else loads it.

    Args:
        name: as for `load_backbone`.
        options: further arguments of `load_backbone`, such as `device`.

    Returns:
        The backbone. The cache itself does not keep it in memory.

    Raises:
        DplError: the backbone cannot be loaded.
    """
    key = (name, *sorted(options.items()))
    with _lock:  # two threads that ask at the same time load it once
        backbone = _shared.get(key)
        if backbone is None:
            backbone = _shared[key] = load_backbone(name, **options)
        return backbone
