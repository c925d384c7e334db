"""Reads a pickle as symbols: its calls become data; nothing is imported or called.

TorchScript writes its archives with the few opcodes below. Python's own unpickler would call any function that a file names.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dpl.utils.errors import DplError


@dataclass(frozen=True)
class Name:
    """A global name that a pickle refers to, such as `torch.FloatStorage`; it is never looked up."""

    text: str


@dataclass(frozen=True)
class Persistent:
    """A persistent id: the pickle's reference to data outside it."""

    key: Any


@dataclass
class Call:
    """A function call in the pickle, recorded and not executed, with the state that the pickle gives the result."""

    function: Any
    arguments: Any
    state: Any = None


_MARK = object()
_PUSH = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_symbols(data: bytes, admit: Callable[[str], bool], where: str) -> Any:
    """Reads the object that a pickle describes.

    Args:
        data: the pickle.
        admit: returns whether a global name may occur.
        where: the file, for messages.

    Returns:
        The object; calls and names in it are `Call` and `Name`.

    Raises:
        DplError: the pickle refers to a name that is not admitted, uses another opcode, or is broken.
    """
    try:
        return _run(data, admit, where)
    except DplError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())[:120] or type(error).__name__
        raise DplError(f"{where}: is broken, or no TorchScript archive ({why}); get it anew") from None


def _run(data: bytes, admit: Callable[[str], bool], where: str) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(data):
        name: str = opcode.name
        value: Any = argument
        if name in _PUSH:
            stack.append(value)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack.append(tuple(reversed([stack.pop() for _ in range(_TUPLES[name])])))
        elif name == "GLOBAL":
            text = value.replace(" ", ".")
            if not admit(text):
                raise DplError(f"{where}: refers to {text!r}, which no weights need, and is not read; nothing of it was run")
            stack.append(Name(text))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            stack.append(Call(stack.pop(), arguments))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[value] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif name == "BINPERSID":
            stack.append(Persistent(stack.pop()))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state = state
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("TUPLE", "SETITEMS", "APPENDS"):
            _collect(name, stack)
        elif name == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise ValueError(f"the opcode {name} is not TorchScript's")
    raise ValueError("its end is missing")


def _collect(name: str, stack: list[Any]) -> None:
    """Pops the items down to the last mark into a new tuple, or into the dict or list below the mark."""
    items: list[Any] = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    items.reverse()
    if name == "TUPLE":
        stack.append(tuple(items))
    elif name == "SETITEMS":
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    else:
        stack[-1].extend(items)
