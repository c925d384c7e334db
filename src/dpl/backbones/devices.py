"""Resolves the device and the precision of a backbone, and describes the choices made for "auto"."""

import re
from collections.abc import Callable

import torch

from dpl.backbones.choices import Precision, PrecisionChoice
from dpl.utils.errors import DplError

# Number of devices of each kind that PyTorch finds. "auto" takes cuda or cpu: the other kinds were tested on a stand-in only.
KINDS: dict[str, Callable[[], int]] = {
    "cpu": lambda: 1,
    "cuda": lambda: torch.cuda.device_count() if torch.cuda.is_available() else 0,
    "xpu": lambda: torch.xpu.device_count() if torch.xpu.is_available() else 0,
    "mps": lambda: int(torch.backends.mps.is_available()),
}
FLOAT64_KINDS = ("cpu", "cuda")
"""Kinds that always support float64: MPS never does, XPU on some GPUs only."""


def find_device(name: str) -> torch.device:
    """Resolves the name of a device and checks that it works.

    Args:
        name: "auto" (cuda if there is one, else cpu), or a kind with or without a number, such as cuda:1.

    Raises:
        DplError: dpl does not support this device, or PyTorch does not find it.
    """
    if name == "auto":
        return torch.device("cuda" if KINDS["cuda"]() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in KINDS or (":" in name and not re.fullmatch(r"\d{1,2}", number)):
        kinds = ", ".join(KINDS)
        raise DplError(f"device {name}: dpl computes on {kinds}, with a number where there are several (cuda:1), or auto")
    count = KINDS[kind]()
    if count == 0:
        raise DplError(f"device {name}: PyTorch {torch.__version__} finds no {kind} here; use auto or cpu")
    if number and int(number) >= count:
        raise DplError(f"device {name}: there {'is' if count == 1 else 'are'} only {count} of {kind}, counted from 0")
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:
        raise DplError(f"device {name}: cannot be used ({_first_line(error)}); use auto or cpu") from None
    return torch.device(name)


def find_precision(choice: PrecisionChoice, device: torch.device, width: int) -> Precision:
    """Resolves a choice of precision.

    Args:
        choice: fp32, bf16, or auto: bf16 where it was measured to be faster.
        device: the device of the backbone.
        width: width of the image branch.

    Raises:
        DplError: bf16 is requested by name, and the device does not support it.
    """
    if choice == "auto":
        return "bf16" if _is_faster_in_bf16(device, width) else "fp32"
    if choice == "bf16" and not _computes_in_bf16(device):
        raise DplError(f"precision bf16: the device {device} does not compute in it; use fp32 or auto")
    return choice


def choice_line(device: str, precision: PrecisionChoice, used: torch.device, used_precision: Precision) -> str | None:
    """Describes in one line the choices made for "auto".

    Args:
        device: the requested device.
        precision: the requested precision.
        used: the backbone's device.
        used_precision: the backbone's precision.

    Returns:
        The line; None if neither device nor precision was "auto".
    """
    if "auto" not in (device, precision):
        return None
    chosen = " and ".join(["device"] * (device == "auto") + ["precision"] * (precision == "auto"))
    line = f"computes on {used} in {used_precision} ({chosen} by auto)"
    if precision == "auto" and used_precision == "bf16":
        line += "; bf16 is faster here, and moves logits a little (0.04 on ViT-B/16): --precision fp32 does not"
    others = [kind for kind in KINDS if kind not in ("cpu", "cuda") and KINDS[kind]()]
    if device == "auto" and used.type == "cpu" and others:
        line += f"; there is {others[0]} too: --device {others[0]}"
    return line


def missing_operation(error: NotImplementedError) -> str | None:
    """Describes in one line which operation a device lacks and what to do.

    Args:
        error: an error raised by PyTorch.

    Returns:
        The line; None if the error has another cause.
    """
    text = str(error)
    found = re.search(r"The operator '(\S+)' is not currently implemented for the (\w+) device", text)
    found = found or re.search(r"Could not run '(\S+)' with arguments from the '(\w+)' backend", text)
    if found is None:
        return None
    operation, kind = found.groups()
    fallback = ", or set PYTORCH_ENABLE_MPS_FALLBACK=1, and the CPU does that one" if kind == "MPS" else ""
    return f"device {kind.lower()}: PyTorch {torch.__version__} lacks {operation} there; use --device cpu{fallback}"


def _is_faster_in_bf16(device: torch.device, width: int) -> bool:
    """Returns whether bf16 was measured to be faster: ViT-B/16 (width 768) gains, `tiny` (128) loses (docs/performance.md)."""
    if width < 512:
        return False
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def _computes_in_bf16(device: torch.device) -> bool:
    """Tries a linear layer under autocast, as in a backbone."""
    weight = torch.ones(2, 2, dtype=torch.bfloat16)
    try:
        with torch.autocast(device.type, torch.bfloat16):
            return torch.nn.functional.linear(torch.ones(2, 2, device=device), weight.to(device)).dtype == torch.bfloat16
    except (RuntimeError, AssertionError):
        return False


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
