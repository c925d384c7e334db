"""`dpl convert` writes a folder that dpl and transformers load, or nothing at all."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel

from dpl.backbones.formats import clip_tokenizer, convert_file, convert_to_folder, write_checkpoint
from dpl.backbones.loading import load_backbone
from dpl.cli.main import main
from dpl.utils.errors import DplError
from dpl.utils.memory import peak_memory, reset_peak_memory

from .conftest import open_clip_config, save_torchscript
from .plain_clip import PlainClip, Shape, draw_inputs, halve, plain_clip


def test_the_folder_computes_what_the_file_does(archive: Path, shape: Shape, tmp_path: Path):
    assert convert_to_folder(archive, tmp_path / "clip") == ()
    backbone = load_backbone(str(tmp_path / "clip"))
    plain = halve(plain_clip(shape)).float()
    image, text = draw_inputs(shape)
    with torch.no_grad():
        logits = backbone.clip(input_ids=text, pixel_values=image.float()).logits_per_image
        torch.testing.assert_close(logits, plain(image.float(), text), rtol=0, atol=1e-5)
    assert backbone.tokenize(["a photo of a cat."]) == [[49406, 320, 1125, 539, 320, 2368, 269, 49407]]
    assert backbone.image_size == 12 and backbone.preprocessing.mean[0] == pytest.approx(0.48145466)
    weights: dict[str, Tensor] = load_file(tmp_path / "clip" / "model.safetensors")
    source = convert_file(archive).weights
    assert weights.keys() == source.keys()
    assert all(torch.equal(weights[name], source[name]) and weights[name].dtype == source[name].dtype for name in source)


def test_a_folder_of_open_clip(tmp_path: Path):
    shape = Shape(width=48, heads=3, quick=False)
    (tmp_path / "source").mkdir()
    save_file(plain_clip(shape).state_dict(), tmp_path / "source" / "open_clip_model.safetensors")
    (tmp_path / "source" / "open_clip_pytorch_model.bin").write_bytes(b"not read where safetensors are")
    config = open_clip_config(shape, resize_mode="squash", interpolation="bilinear")
    (tmp_path / "source" / "open_clip_config.json").write_text(json.dumps(config))
    assert convert_to_folder(tmp_path / "source", tmp_path / "out") == ()
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["vision_config"]["num_attention_heads"] == 3 and written["vision_config"]["hidden_act"] == "gelu"
    preprocessor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert preprocessor["size"] == {"height": 12, "width": 12} and preprocessor["image_std"] == [0.3, 0.2, 0.1]
    loaded: Any = CLIPModel.from_pretrained(tmp_path / "out", local_files_only=True, output_loading_info=True)
    assert not loaded[1]["missing_keys"] and not loaded[1]["unexpected_keys"]
    assert AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True).model_max_length == shape.context


def test_nothing_is_overwritten_and_no_half_of_a_folder_stays(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine").mkdir()
    for target in (tmp_path / "mine", archive):
        with pytest.raises(DplError, match="exists already and is not overwritten"):
            convert_to_folder(archive, target)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dpl.backbones.formats.convert.save_file", full)
    with pytest.raises(DplError, match="out: cannot be written .No space left on device."):
        write_checkpoint(convert_file(archive), clip_tokenizer(), tmp_path / "out")
    monkeypatch.setattr("dpl.backbones.formats.convert.save_file", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(convert_file(archive), clip_tokenizer(), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_folders_that_cannot_be_converted_say_why(checkpoint: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "open_clip_config.json").write_text("{}")
    for source, message in (
        (checkpoint, f"in the Hugging Face form already; use it as --backbone {checkpoint}"),
        (tmp_path / "empty", "has no open_clip_config.json"),
        (tmp_path / "half", "neither open_clip_model.safetensors nor open_clip_pytorch_model.bin"),
        (tmp_path / "none", "no such file"),
    ):
        with pytest.raises(DplError, match=message):
            convert_to_folder(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(archive: Path, weights: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def run(*words: str | Path) -> tuple[int, str, str]:
        status = main(["convert", *map(str, words)])
        output = capsys.readouterr()
        return status, output.out, output.err

    assert run(archive, tmp_path / "a", "--no-pickle") == (0, f"{tmp_path / 'a'}\n", "")
    torch.save(weights, tmp_path / "w.pt")
    status, output, errors = run(tmp_path / "w.pt", tmp_path / "b")
    assert (status, output) == (0, f"{tmp_path / 'b'}\n") and errors.count("\n") == 2 and "assumed is gelu" in errors
    status, output, errors = run(tmp_path / "w.pt", tmp_path / "c", "--activation", "quick_gelu")
    assert json.loads((tmp_path / "c" / "config.json").read_text())["text_config"]["hidden_act"] == "quick_gelu"
    status, output, errors = run(tmp_path / "w.pt", tmp_path / "d", "--no-pickle")
    assert (status, output) == (2, "") and errors.startswith("dpl: ") and errors.count("\n") == 1 and "--no-pickle" in errors
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "a").iterdir()} == {0o666 & ~umask()}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o777 & ~umask()
    assert not (tmp_path / "d").exists()


def umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


CPU = torch.device("cpu")
B16 = Shape(width=768, layers=12, heads=12, patch=16, grid=14, text_width=512, text_layers=12, text_heads=8, context=77, dim=512)


@pytest.fixture(scope="module")
def b16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ViT-B/16 in half precision, as OpenAI's archive and as a state dict."""
    folder = tmp_path_factory.mktemp("b16")
    with torch.random.fork_rng():
        clip = halve(PlainClip(B16, archive=True))
    for weight in clip.parameters():
        weight.data.fill_(0.5)  # of any value, but in memory
    torch.save(clip.state_dict(), folder / "state.pt")
    save_torchscript(clip, B16, folder / "archive.pt", "script")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "copies"), [("archive.pt", 1), ("state.pt", 0)])
def test_vit_b_16_at_true_size_is_copied_once(name: str, copies: int, b16: Path, tmp_path: Path):
    size = (b16 / name).stat().st_size
    reset_peak_memory(CPU)
    before = peak_memory(CPU) or 0
    checkpoint = convert_file(b16 / name)
    assert (peak_memory(CPU) or 0) - before < copies * size + 40 * 2**20  # a state dict is mapped, not read
    storages = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in checkpoint.weights.values()}
    assert sum(storages.values()) == pytest.approx(size, rel=0.01) or name == "state.pt"
    vision, text = checkpoint.config["vision_config"], checkpoint.config["text_config"]
    assert (vision["num_attention_heads"], vision["image_size"], vision["patch_size"]) == (12, 224, 16)
    assert (text["num_attention_heads"], text["max_position_embeddings"], text["num_hidden_layers"]) == (8, 77, 12)
    write_checkpoint(checkpoint, clip_tokenizer(), tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").stat().st_size == pytest.approx(size, rel=0.01)
