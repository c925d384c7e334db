import json
from pathlib import Path
from typing import Any

import pytest

from dpl.backbones.plan import WeightFiles, plan_weights, tokenizer_files
from dpl.utils.errors import DplError

HF = ("config.json", "preprocessor_config.json", "tokenizer_config.json")
OPENAI = (*HF, "tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json", "flax_model.msgpack", "tf_model.h5")
SHARDS = tuple(f"pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2))
BINS = tuple(f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2))
OPEN_CLIP = ("open_clip_config.json", "open_clip_pytorch_model.bin", "open_clip_model.safetensors")


def planned(names: tuple[str, ...], index: Any = None, **options: Any) -> WeightFiles:
    return plan_weights("x/y", names, lambda name: index, **options)


@pytest.mark.parametrize(
    ("names", "files"),
    [
        ((*OPENAI, "pytorch_model.bin"), WeightFiles(("pytorch_model.bin",), is_pickle=True)),  # openai B/16, B/32, L/14-336
        ((*OPENAI, "pytorch_model.bin", "model.safetensors"), WeightFiles(("model.safetensors",))),  # openai L/14
        ((*HF, *OPEN_CLIP, "pytorch_model.bin", "model.safetensors"), WeightFiles(("model.safetensors",))),  # laion B/32
        ((*HF, "pytorch_model.bin", "pytorch_model_2.bin"), WeightFiles(("pytorch_model.bin",), is_pickle=True)),  # MetaCLIP
        ((*HF, "pytorch_model.bin", *OPEN_CLIP), WeightFiles(("pytorch_model.bin",), is_pickle=True)),  # DFN-H
        ((*HF, *SHARDS), WeightFiles(SHARDS)),  # laion bigG
        ((*HF, *SHARDS, "pytorch_model.safetensors.index.json"), WeightFiles(SHARDS)),
        ((*HF, *BINS), WeightFiles(BINS, is_pickle=True)),
        (OPEN_CLIP, WeightFiles(("open_clip_model.safetensors",), is_open_clip=True)),  # laion, datacomp, DFN B/16
        (OPEN_CLIP[:2], WeightFiles(("open_clip_pytorch_model.bin",), is_pickle=True, is_open_clip=True)),
        ((*HF, *OPEN_CLIP), WeightFiles(("open_clip_model.safetensors",), is_open_clip=True)),
    ],
)
def test_each_kind_of_repository_has_one_set_of_weights(names: tuple[str, ...], files: WeightFiles):
    assert planned(names) == files


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_an_index_names_the_shards(ending: str):
    shards = [f"part-{letter}.{ending}" for letter in "ab"]
    stem = "model" if ending == "safetensors" else "pytorch_model"
    names = (*HF, *shards, f"{stem}.{ending}.index.json")
    assert planned(names, {"weight_map": {"one": shards[1], "two": shards[0], "three": shards[0]}}).names == tuple(shards)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (
            {"weight_map": {"a": "../outside.safetensors"}},
            "names '../outside.safetensors'; it may name .safetensors files beside",
        ),
        ({"weight_map": {"a": "evil.bin"}}, "names 'evil.bin'"),
        ({"weight_map": {"a": 3}}, "names 3|weight_map"),
        ({"weight_map": {"a": "gone.safetensors"}}, "gone.safetensors, which model.safetensors.index.json names, is missing"),
        ({"weight_map": {}}, "names no file"),
        ({"weight_map": ["a"]}, "has no weight_map"),
        ([], "has no weight_map"),
        (None, "has no weight_map"),
    ],
)
def test_an_index_that_is_wrong_or_leads_elsewhere_is_refused(index: Any, message: str):
    with pytest.raises(DplError, match=message):
        planned((*HF, "model.safetensors.index.json", "evil.bin"), index)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ((*HF, SHARDS[1]), {}, r"1 of 2 shards are missing, the first is pytorch_model-00001-of-00002.safetensors"),
        ((*OPENAI, "pytorch_model.bin"), {"allow_pickle": False}, r"has pickled weights only \(.*\); --revision refs/pr/N"),
        (
            OPENAI,
            {},
            "it has only flax_model.msgpack, tf_model.h5; model.safetensors, its shards or pytorch_model.bin are",
        ),
        (HF, {}, "it has none"),
        (HF, {"is_whole": False}, "the Hugging Face cache has its config but no weights"),
        ((*HF, "open_clip_model.safetensors"), {}, "it has only open_clip_model.safetensors"),
    ],
)
def test_a_checkpoint_without_weights_to_read_is_one_line(names: tuple[str, ...], options: dict[str, Any], message: str):
    with pytest.raises(DplError, match=f"^backbone x/y: .*{message}"):
        planned(names, **options)


def test_only_the_vocabulary_that_is_needed_is_fetched():
    assert tokenizer_files(OPENAI) == ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    metaclip = (*HF, "vocab.json", "merges.txt", "added_tokens.json")
    assert tokenizer_files(metaclip) == ("vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json")


def test_the_embedded_backbone_has_a_plan():
    folder = Path(__file__).parents[2] / "src/dpl/backbones/tiny"
    names = tuple(path.name for path in folder.iterdir())
    assert planned(names) == WeightFiles(("model.safetensors",)) and json.loads((folder / "config.json").read_text())
