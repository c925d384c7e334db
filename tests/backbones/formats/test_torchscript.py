"""TorchScript archives are read as data: whatever one holds, nothing of it runs."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpl.backbones.formats import convert_file, is_torchscript, read_tensors
from dpl.utils.errors import DplError

from .plain_clip import Shape, halve, plain_clip


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of the archive, its entries changed; None leaves an entry out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = change(entry.filename.partition("/")[2], old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data, entry.compress_type)
    return target


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.mark,)


def test_tensors_equal_those_of_the_module_to_the_bit_and_in_their_dtypes(archive: Path, shape: Shape):
    found = read_tensors(archive)
    expected = halve(plain_clip(shape, archive=True)).state_dict()
    assert found.keys() == {*expected, "attn_mask"}
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in expected.items())


def test_archives_are_told_from_the_files_of_torch_save(archive: Path, tmp_path: Path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("text")
    names = [archive, tmp_path / "weights.pt", tmp_path / "text.pt", tmp_path / "none.pt", tmp_path]
    assert [is_torchscript(path) for path in names] == [True, False, False, False, False]


def test_no_pickle_still_reads_archives_and_old_versions_of_torch_do(archive: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    assert read_tensors(archive, allow_pickle=False).keys() == read_tensors(archive).keys()


def test_nothing_is_compiled_or_unpickled(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("code of the archive is touched")

    for name in ("torch.jit.load", "torch.load", "pickle.loads", "pickle.load", "pickle.Unpickler", "torch._C.import_ir_module"):
        monkeypatch.setattr(name, refuse)
    broken = rewrite(archive, tmp_path / "x.pt", lambda name, data: b"raise SystemExit" if name.startswith("code/") else data)
    assert read_tensors(broken).keys() == read_tensors(archive).keys()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_archive_runs_nothing(protocol: int, archive: Path, tmp_path: Path):
    mark = tmp_path / "ran"
    payload = pickle.dumps({"weight": Evil(mark)}, protocol)
    pickle.loads(payload)
    assert mark.exists()  # the payload works where it is unpickled
    mark.unlink()
    evil = rewrite(archive, tmp_path / "evil.pt", lambda name, data: payload if name.endswith(".pkl") else data)
    with pytest.raises(
        DplError, match=r"evil.pt: (refers to '.*', which no weights need|is broken, or no TorchScript archive \(the opcode)"
    ):
        convert_file(evil)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "torch.load", "torch.hub.load", "torch._utils._rebuild_qtensor"])
def test_no_other_function_is_named(name: str, archive: Path, tmp_path: Path):
    module, _, function = name.rpartition(".")
    call = b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"X\x04\x00\x00\x00true\x85R."
    evil = rewrite(archive, tmp_path / "evil.pt", lambda entry, data: call if entry == "data.pkl" else data)
    with pytest.raises(DplError, match=f"refers to '{name}', which no weights need, .* nothing of it was run"):
        read_tensors(evil)


def edit_pickle(old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    def change(name: str, data: bytes) -> bytes:
        assert name != "data.pkl" or old in data
        return data.replace(old, new, 1) if name == "data.pkl" else data

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, data: None if name == "data/0" else data, "data/0 is missing"),
        (lambda name, data: data[:-4] if name == "data/0" else data, "data/0 has [0-9]+ bytes, not"),
        (lambda name, data: data[:-100] if name == "data.pkl" else data, "is broken"),
        (lambda name, data: b"" if name == "data.pkl" else data, "is broken"),
        (lambda name, data: b"big" if name == "byteorder" else data, "big-endian"),
        (lambda name, data: None if name == "data.pkl" else data, "it has 0 data.pkl"),
        (edit_pickle(b"torch\nHalfStorage", b"torch\nEvilStorage"), "refers to 'torch.EvilStorage'"),
        (edit_pickle(b"torch\nHalfStorage", b"torch\nFloatStorage"), "bytes, not .* x 4"),
    ],
)
def test_a_broken_archive_is_one_clear_line(change: Callable, message: str, archive: Path, tmp_path: Path):
    with pytest.raises(DplError, match=f"broken.pt: .*{message}") as caught:
        read_tensors(rewrite(archive, tmp_path / "broken.pt", change))
    assert "\n" not in str(caught.value)


def tensor_pickle(numel: int, offset: int, size: str, stride: str) -> bytes:
    """A module with one tensor, as a pickle in the oldest, textual opcodes that the reader takes."""
    push = b"".join
    ints = {key: push(b"J" + int(n).to_bytes(4, "little", signed=True) for n in key.split()) for key in (size, stride)}
    text = [b"X" + len(word).to_bytes(4, "little") + word for word in (b"storage", b"0", b"cpu", b"weight")]
    storage = (
        b"(" + text[0] + b"ctorch\nFloatStorage\n" + text[1] + text[2] + b"J" + numel.to_bytes(4, "little", signed=True) + b"tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"J" + offset.to_bytes(4, "little", signed=True)
    tensor += b"(" + ints[size] + b"t(" + ints[stride] + b"t\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02c__torch__\nM\n)\x81}(" + text[3] + tensor + b"ub."


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ((6, 0, "2 3", "3 1"), None),
        ((6, 1, "2 2", "2 1"), None),
        ((6, 1, "2 3", "3 1"), "reaches beyond its bytes"),
        ((6, -1, "2 3", "3 1"), "impossible shape"),
        ((6, 0, "2 3", "3"), "impossible shape"),
        ((6, 0, "6", "-1"), "impossible shape"),
        ((6, 0, "-6", "1"), "impossible shape"),
        ((6, 0, "100000 100000", "0 0"), "reaches beyond its bytes"),  # 40 GB once it is copied
        ((7, 0, "2 3", "3 1"), "24 bytes, not 7 x 4"),
        ((2**31 - 1, 0, "2 3", "3 1"), "24 bytes, not 2147483647 x 4"),
    ],
)
def test_tensors_stay_within_their_bytes(tensor: tuple[int, int, str, str], message: str | None, tmp_path: Path):
    numbers = torch.arange(6.0)
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name, data in (("data.pkl", tensor_pickle(*tensor)), ("data/0", numbers.numpy().tobytes()), ("constants.pkl", b"")):
            archive.writestr(f"x/{name}", data)
    if message is None:
        sizes = [int(n) for n in tensor[2].split()]
        strides = [int(n) for n in tensor[3].split()]
        assert torch.equal(read_tensors(tmp_path / "x.pt")["weight"], numbers.as_strided(sizes, strides, tensor[1]))
    else:
        with pytest.raises(DplError, match=message):
            read_tensors(tmp_path / "x.pt")


def test_a_tree_without_end_is_refused(archive: Path, tmp_path: Path):
    """Sixty modules, each of which names the next one twice: 2 ** 60 paths in a small file; and one that holds itself."""
    module, key = b"c__torch__\nM\n)\x81", b"X\x01\x00\x00\x00"
    doubling = b"\x80\x02" + module + b"q\x00"
    for index in range(60):
        doubling += module + b"}(" + key + b"ah" + bytes([index]) + key + b"bh" + bytes([index]) + b"ubq" + bytes([index + 1])
    circle = b"\x80\x02" + module + b"q\x00}(" + key + b"ah\x00ub."
    for data in (doubling + b".", circle):
        evil = rewrite(archive, tmp_path / "evil.pt", lambda name, old, new=data: new if name == "data.pkl" else old)
        with pytest.raises(DplError, match="does not end|is broken"):
            read_tensors(evil)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_archive_is_read_or_refused_in_one_line(data: st.DataObject, archive: Path, tmp_path: Path):
    with zipfile.ZipFile(archive) as old:
        (name,) = (name for name in old.namelist() if name.endswith("/data.pkl"))
        pickled = bytearray(old.read(name))
    for _ in range(data.draw(st.integers(1, 4))):
        pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as new:
        new.writestr("x/data.pkl", bytes(pickled))
        new.writestr("x/constants.pkl", b"")
    try:
        read_tensors(tmp_path / "x.pt")
    except DplError as error:
        assert "\n" not in str(error)


def test_an_entry_shorter_than_it_says_leaves_no_memory_unwritten(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name, data in (("data.pkl", tensor_pickle(6, 0, "6", "1")), ("constants.pkl", b""), ("data/0", b"12345678")):
            archive.writestr(f"x/{name}", data)
        archive.getinfo("x/data/0").file_size = 24
    with pytest.raises(DplError, match="cannot be read"):
        read_tensors(tmp_path / "x.pt")


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_is_cut_off_or_damaged_is_refused(place: float, archive: Path, tmp_path: Path):
    whole = archive.read_bytes()
    at = int(place * len(whole))
    (tmp_path / "cut.pt").write_bytes(whole[:at])
    with pytest.raises(DplError, match=r"cut.pt: .*get it anew"):
        convert_file(tmp_path / "cut.pt")
    with zipfile.ZipFile(archive) as opened:  # a bit flips in the token embeddings
        largest = max(opened.infolist(), key=lambda entry: entry.file_size)
        start = largest.header_offset + 1000
    (tmp_path / "bad.pt").write_bytes(whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1 :])
    with pytest.raises(DplError, match=r"bad.pt: .*CRC"):
        convert_file(tmp_path / "bad.pt")
