"""A device that is none: PyTorch's own place for backends from outside, written in Python, computing on the CPU.

Like Apple's and some of Intel's it has no float64. It refuses that, and tensors of two devices in one operation, as real devices
do. It cannot tell which operations a real device lacks, nor how exactly that computes, and it draws on the CPU.

Registering it is for good, so it has a process of its own: `python -m tests.stand_in COMMANDS`, a JSON list of lists of words
for `dpl`, prints what `run` says of each.
"""

import json
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "standin"
CPU = torch.device("cpu")
# Operations that take CPU tensors beside those of a device: copies, and indices.
MIXED = {torch.ops.aten.copy_, torch.ops.aten._to_copy, torch.ops.aten.index, torch.ops.aten.index_put_}


class OnDevice(Tensor):
    """A tensor of the device, `held` on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        if held.dtype == torch.float64:
            raise TypeError(f"{NAME} has no float64")
        make: Any = Tensor._make_wrapper_subclass
        place = {"storage_offset": held.storage_offset(), "dtype": held.dtype, "device": f"{NAME}:0"}
        made = make(cls, held.size(), strides=held.stride(), **place)
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"{self.held!r} on {NAME}"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.tolist:  # PyTorch itself refuses it for subclasses
            return args[0].cpu().tolist()
        if func is Tensor.numpy:
            raise TypeError(f"a tensor of {NAME} is no array; copy it to the CPU first")
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """`func` by the CPU's kernel; its results are on the device, unless `kwargs` names another."""
    flat, spec = pytree.tree_flatten((args, kwargs))
    device = kwargs.get("device")
    here = device is None or torch.device(device).type == NAME
    tensors = [value for value in flat if isinstance(value, Tensor)]
    if func.overloadpacket not in MIXED:
        for other in tensors:
            if not isinstance(other, OnDevice) and other.dim():
                raise RuntimeError(f"{func}: all tensors are to be on the same device, found {NAME} and {other.device}")
    if isinstance(kwargs.get("generator"), torch.Generator):
        raise RuntimeError(f"{func}: a generator of the CPU, for {NAME}")
    known = {id(value.held if isinstance(value, OnDevice) else value): value for value in tensors}
    flat = [value.held if isinstance(value, OnDevice) else CPU if isinstance(value, torch.device) else value for value in flat]
    own_args, own_kwargs = pytree.tree_unflatten(flat, spec)

    def placed(value: Any) -> Any:
        if not isinstance(value, Tensor) or id(value) in known:
            return known.get(id(value), value)
        return OnDevice(value) if here else value

    return pytree.tree_map(placed, func(*own_args, **own_kwargs))


class _Module:
    """`torch.standin`."""

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16]

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """Draws are the CPU's."""


_FACTORIES = ("empty.memory_format", "empty_strided", "arange", "arange.start", "arange.start_step")
_libraries: list[torch.library.Library] = []  # what they register goes with them


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    return compute(torch.ops.aten.copy_.default, (target, source), {})


def register() -> None:
    """Makes the device, once per process."""
    _setup_privateuseone_for_python_backend(rename=NAME, backend_module=_Module())
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # Module.to: new parameters, not new data in old ones
    factories, rest = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    for name in _FACTORIES:
        packet, _, overload = name.partition(".")
        func = getattr(getattr(torch.ops.aten, packet), overload or "default")
        factories.impl(name, lambda *args, _func=func, **kwargs: compute(_func, args, kwargs), "PrivateUse1")
    factories.impl("_copy_from", _copy_from, "PrivateUse1")  # by torch.tensor, around `OnDevice`
    rest.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")  # it has no autocast
    _libraries.extend((factories, rest))


def run(words: list[str]) -> dict[str, Any]:
    """One command of `dpl`: its exit status (1 for an exception, whose traceback is in "err") and what it printed."""
    from dpl.cli.main import main

    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        try:
            status = main(words)
        except Exception:
            traceback.print_exc()
            status = 1
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    from dpl.backbones import devices

    torch.set_num_threads(1)
    register()
    devices.KINDS[NAME] = lambda: 1
    print(json.dumps([run(words) for words in json.loads(sys.argv[1])]))
