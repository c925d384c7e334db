"""Which device and precision are chosen, what is said of it, and what is refused."""

import pytest
import torch

from dpl.backbones import devices
from dpl.backbones.devices import choice_line, find_device, find_precision, missing_operation
from dpl.cli.main import COMMANDS, main
from dpl.utils.errors import DplError

CPU = torch.device("cpu")
HERE = {kind: count() for kind, count in devices.KINDS.items()}


@pytest.fixture
def there(monkeypatch):
    """`there(xpu=2)`: as if PyTorch found so many of a kind, and none of the others but the CPU."""

    def pretend(**counts: int) -> None:
        kinds = {kind: lambda kind=kind: {"cpu": 1, **counts}.get(kind, 0) for kind in devices.KINDS}
        monkeypatch.setattr(devices, "KINDS", kinds)

    return pretend


@pytest.mark.parametrize("counts, chosen", [({}, "cpu"), ({"cuda": 2, "mps": 1}, "cuda"), ({"mps": 1, "xpu": 1}, "cpu")])
def test_auto_takes_cuda_and_else_the_cpu(there, counts, chosen):
    there(**counts)
    assert find_device("auto") == torch.device(chosen)


def test_the_cpu_by_name():
    assert find_device("cpu") == CPU


@pytest.mark.parametrize("name", ["meta", "warp", "", "cuda:", "cuda:-1", "cuda:x", "cpu:0:0", "auto:1", "CPU", "privateuseone"])
def test_what_is_no_device_is_refused_with_those_there_are(name):
    with pytest.raises(DplError) as caught:
        find_device(name)
    assert str(caught.value) == (
        f"device {name}: dpl computes on cpu, cuda, xpu, mps, with a number where there are several (cuda:1), or auto"
    )


@pytest.mark.parametrize("kind", [kind for kind, count in HERE.items() if count == 0])
def test_a_device_that_is_not_here_is_refused(kind):
    with pytest.raises(DplError, match=rf"device {kind}: PyTorch \S+ finds no {kind} here; use auto or cpu"):
        find_device(kind)
    with pytest.raises(DplError, match=rf"device {kind}:3: PyTorch \S+ finds no {kind} here"):
        find_device(f"{kind}:3")


def test_a_number_too_high_is_refused(there):
    there(cuda=2)
    with pytest.raises(DplError, match="device cuda:7: there are only 2 of cuda, counted from 0"):
        find_device("cuda:7")
    with pytest.raises(DplError, match="device cpu:1: there is only 1 of cpu"):
        find_device("cpu:1")


@pytest.mark.skipif(HERE["xpu"] > 0, reason="has an XPU")
def test_a_device_that_fails_at_its_first_tensor_is_refused_in_one_line(there):
    there(xpu=1)
    with pytest.raises(DplError, match="device xpu: cannot be used") as caught:
        find_device("xpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("width, fast, chosen", [(768, True, "bf16"), (768, False, "fp32"), (128, True, "fp32")])
def test_auto_is_bf16_where_it_is_faster(monkeypatch, width, fast, chosen):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    assert find_precision("auto", CPU, width) == chosen


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_auto_is_fp32_where_nothing_was_measured(kind):
    assert find_precision("auto", torch.device(kind), 768) == "fp32"


def test_a_precision_by_name_is_taken():
    assert find_precision("fp32", CPU, 768) == "fp32"
    assert find_precision("bf16", CPU, 128) == "bf16"


def test_bf16_on_a_device_that_fails_at_it_is_refused():
    with pytest.raises(DplError, match="precision bf16: the device mps does not compute in it; use fp32 or auto"):
        find_precision("bf16", torch.device("mps"), 768)


def test_nothing_is_said_where_nothing_was_left_to_auto():
    assert choice_line("cpu", "fp32", CPU, "fp32") is None


@pytest.mark.parametrize(
    "device, precision, used, said",
    [
        ("auto", "auto", "fp32", "computes on cpu in fp32 (device and precision by auto)"),
        ("auto", "bf16", "bf16", "computes on cpu in bf16 (device by auto)"),
        ("cpu", "auto", "fp32", "computes on cpu in fp32 (precision by auto)"),
    ],
)
def test_what_auto_chose_is_said(there, device, precision, used, said):
    there()
    assert choice_line(device, precision, CPU, used) == said


def test_where_auto_chose_bf16_the_price_is_said(there):
    there()
    line = choice_line("cpu", "auto", CPU, "bf16")
    assert line and "0.04 on ViT-B/16" in line and "--precision fp32" in line


def test_a_gpu_that_auto_leaves_alone_is_named(there):
    there(mps=1)
    line = choice_line("auto", "fp32", CPU, "fp32")
    assert line and line.endswith("there is mps too: --device mps")


# As PyTorch 2.13 words it, on a Mac.
MPS = (
    "The operator 'aten::_lu_with_info' is not currently implemented for the MPS device. If you want this op to be considered"
    " for addition please comment on an issue. As a temporary fix, you can set `PYTORCH_ENABLE_MPS_FALLBACK=1`"
)


def test_an_operation_that_a_device_lacks_is_named_with_a_way_out():
    line = missing_operation(NotImplementedError(MPS))
    assert line == (
        f"device mps: PyTorch {torch.__version__} lacks aten::_lu_with_info there; use --device cpu,"
        " or set PYTORCH_ENABLE_MPS_FALLBACK=1, and the CPU does that one"
    )


@pytest.mark.skipif(HERE["mps"] > 0, reason="has an MPS device")
def test_an_operation_without_a_kernel_is_named_as_pytorch_itself_words_it():
    with pytest.raises(NotImplementedError) as caught:
        torch.empty(1, device="mps")
    line = missing_operation(caught.value)
    assert line and line.startswith(
        f"device mps: PyTorch {torch.__version__} lacks aten::empty.memory_format there; use --device"
    )


def test_other_errors_are_not_about_a_device():
    assert missing_operation(NotImplementedError("abstract")) is None


def test_the_command_line_says_it_in_one_line(monkeypatch, capsys):
    def lacking(rest: object) -> None:
        raise NotImplementedError(MPS)

    monkeypatch.setitem(COMMANDS, "methods", lacking)
    assert main(["methods"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("dpl: device mps: ") and said.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch):
    def unfinished(rest: object) -> None:
        raise NotImplementedError("abstract")

    monkeypatch.setitem(COMMANDS, "methods", unfinished)
    with pytest.raises(NotImplementedError, match="abstract"):
        main(["methods"])


def test_a_wrong_device_ends_a_command_with_status_2(images, tmp_path, capsys):
    assert main(["fit", str(images), "--device", "meta", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("dpl: device meta: dpl computes on")
    assert not (tmp_path / "run").exists()
