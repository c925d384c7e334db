import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpl.backbones.loading import Backbone, load_backbone
from dpl.backbones.sources import Folder, open_source
from dpl.utils.errors import DplError
from tests.hub import Hub, serving, use

NAME = "some/clip"
OTHERS = ("flax_model.msgpack", "tf_model.h5", "rust_model.ot", "open_clip_model.safetensors", "README.md", ".gitattributes")


@pytest.fixture
def repository(checkpoint: Path, tmp_path: Path) -> Path:
    """The main branch: safetensors, and much that nobody needs."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "main"))
    for name in OTHERS:
        (folder / name).write_bytes(b"x" * 1000)
    return folder


@pytest.fixture
def hub(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    served = Hub({NAME: {"main": repository}})
    with serving(served) as address:
        use(monkeypatch, address, tmp_path / "cache")
        yield served


def pickled(folder: Path) -> Path:
    """The folder with its safetensors replaced by pytorch_model.bin."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def same(one: Backbone, other: Backbone) -> bool:
    return one.identity == other.identity


def test_exactly_the_files_of_the_plan_are_fetched_and_once(hub: Hub, repository: Path, checkpoint: Path):
    backbone = load_backbone(NAME)
    wanted = ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")
    assert hub.sent == {name: (repository / name).stat().st_size for name in wanted}
    assert same(backbone, load_backbone(str(checkpoint))) and backbone.commit == hub.commit(NAME, "main")
    load_backbone(NAME)
    assert hub.sent == {name: (repository / name).stat().st_size for name in wanted}


def test_the_config_is_read_before_any_weight_is_fetched(hub: Hub, repository: Path):
    (repository / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(DplError, match=r"some/clip: is a 'siglip' checkpoint \(a SigLIP\), not a CLIP"):
        load_backbone(NAME)
    assert set(hub.sent) == {"config.json"}


def test_a_repository_with_pickles_only_is_read_and_the_hubs_conversion_is_named(hub: Hub, repository: Path, checkpoint: Path):
    hub.conversion = "refs/pr/10"
    hub.repositories[NAME]["refs/pr/10"] = checkpoint
    pickled(repository)
    backbone = load_backbone(NAME)
    assert hub.sent["pytorch_model.bin"] == (repository / "pytorch_model.bin").stat().st_size
    assert not set(OTHERS) & set(hub.sent)
    (note,) = backbone.notes
    assert "pytorch_model.bin, a pickle, is read as weights alone" in note and "--revision refs/pr/10" in note
    with pytest.raises(DplError, match=r"has pickled weights only .*--revision refs/pr/10 is the hub's conversion"):
        load_backbone(NAME, allow_pickle=False)
    converted = load_backbone(f"{NAME}@refs/pr/10", allow_pickle=False)
    assert same(converted, backbone) and converted.commit == hub.commit(NAME, "refs/pr/10") != backbone.commit
    assert same(load_backbone(NAME, revision="refs/pr/10"), backbone) and converted.name == NAME


def test_a_commit_can_be_asked_for_and_open_clips_prefix_is_no_part_of_the_name(hub: Hub):
    backbone = load_backbone(f"hf-hub:{NAME}", revision=hub.commit(NAME, "main"))
    assert backbone.name == NAME and backbone.commit == hub.commit(NAME, "main")


def test_what_the_cache_holds_is_used_offline_and_without_a_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    online = load_backbone(NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    variants: tuple[dict[str, Any], ...] = ({}, {"revision": online.commit}, {"download": False})
    for options in variants:
        offline = load_backbone(NAME, **options)
        assert same(offline, online) and offline.commit == online.commit
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    requests = len(hub.requests)
    load_backbone(NAME, download=False)
    assert len(hub.requests) == requests
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    assert same(load_backbone(NAME), online)


def test_a_cache_without_the_weights_says_so(hub: Hub, repository: Path, monkeypatch: pytest.MonkeyPatch):
    (repository / "config.json").replace(repository / "kept.json")
    (repository / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(DplError):
        load_backbone(NAME)
    cached = next((repository.parent / "cache").rglob("config.json"))
    cached.resolve().write_bytes((repository / "kept.json").read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DplError, match="the Hugging Face cache has its config but no weights; fetch them once"):
        load_backbone(NAME)


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (
            401,
            {"X-Error-Code": "GatedRepo"},
            r"its authors ask for consent: accept the licence at http\S+/some/clip, .*TOKEN",
        ),
        (403, {"X-Error-Code": "GatedRepo"}, "its authors ask for consent"),
        (401, {"X-Error-Code": "RepoNotFound"}, "no such repository, or it is private: check the id; .*HF_TOKEN"),
        (401, {}, "no such repository, or it is private"),
        (404, {"X-Error-Code": "RepoNotFound"}, "no such repository, or it is private"),
        (429, {}, "limits the number of requests: wait"),
    ],
)
def test_what_the_hub_refuses_is_said_in_a_line(hub: Hub, status: int, headers: dict[str, str], message: str):
    hub.refusals[NAME] = (status, headers)
    with pytest.raises(DplError, match=f"^backbone {NAME}: .*{message}") as refused:
        load_backbone(NAME)
    assert "\n" not in str(refused.value)


def test_a_revision_that_is_not_there_is_named(hub: Hub):
    with pytest.raises(DplError, match="backbone some/clip@v9: the repository has no such revision"):
        load_backbone(NAME, revision="v9")
    with pytest.raises(DplError, match="has another revision than --revision v8"):
        load_backbone(f"{NAME}@v9", revision="v8")


def test_a_repository_that_is_no_checkpoint_is_refused(hub: Hub, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    hub.repositories["some/data"] = {"main": tmp_path / "empty"}
    with pytest.raises(DplError, match=r"has neither config.json nor open_clip_config.json"):
        load_backbone("some/data")


def test_downloads_can_be_followed(hub: Hub):
    seen: list[tuple[str, int, int]] = []
    load_backbone(NAME, on_fetch=lambda *step: seen.append(step))
    assert {name for name, _, _ in seen} >= {"model.safetensors", "config.json"}
    assert all(0 <= done <= total for _, done, total in seen)


def test_offline_and_not_cached_is_a_whole_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DplError, match="some/model: is not in the Hugging Face cache, and HF_HUB_OFFLINE is set; unset it once"):
        load_backbone("some/model")


@pytest.mark.parametrize(
    "name", ["no-such", "./no/such", "/no/such", "~/no", "a/b/c", "", "weights/ViT-B-16.pt", "x/y.safetensors", "a\0/b"]
)
def test_what_is_no_id_is_never_sent_to_the_hub(hub: Hub, name: str):
    with pytest.raises(DplError, match="is neither tiny, nor a folder or file on this machine, nor a Hugging Face id"):
        open_source(name)
    assert not hub.requests


def test_a_file_or_folder_that_exists_is_never_taken_for_an_id(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("some").mkdir()
    Path(NAME).touch()
    assert open_source(NAME) == Path(NAME)
    Path("some/folder").mkdir()
    assert isinstance(open_source("some/folder"), Folder)
    with pytest.raises(DplError, match="is on this machine and has no revisions"):
        open_source("some/folder", revision="main")
    assert not hub.requests
