"""CLIP's tokenizer, against a plain byte pair encoder that reads the same merges."""

import gzip
import hashlib
import unicodedata
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import dpl.backbones.formats as formats
from dpl.backbones.formats import clip_tokenizer

FOLDER = Path(formats.__file__).parent / "clip_bpe"
MERGES = gzip.decompress((FOLDER / "merges.txt.gz").read_bytes())
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return clip_tokenizer()


@cache
def byte_symbols() -> dict[int, str]:
    """A printable character per byte: the printable ones of Latin-1 stand for themselves, the others follow from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


@cache
def ranks_and_ids() -> tuple[dict[tuple[str, ...], int], dict[str, int]]:
    symbols = list(byte_symbols().values())
    pairs = [tuple(line.split(" ")) for line in MERGES.decode().strip("\n").split("\n")]
    words = symbols + [f"{symbol}</w>" for symbol in symbols] + ["".join(pair) for pair in pairs]
    return {pair: rank for rank, pair in enumerate(pairs)}, {word: index for index, word in enumerate(words)}


def pieces(text: str) -> list[str]:
    """Runs of letters, single digits, runs of other marks, and English contractions; white space parts them."""
    found: list[str] = []
    last = ""
    index = 0
    while index < len(text):
        ending = next((end for end in CONTRACTIONS if text.startswith(end, index)), None)
        category = unicodedata.category(text[index])[0]
        kind = "space" if text[index].isspace() else category if category in "LN" else "mark"
        if ending and last != "mark":  # inside a run of marks an apostrophe is one of them
            found.append(ending)
            index, last = index + len(ending), ""
            continue
        if kind == last and kind in ("L", "mark"):
            found[-1] += text[index]
        elif kind != "space":
            found.append(text[index])
        index, last = index + 1, kind
    return found


def encode(text: str) -> list[int]:
    ranks, ids = ranks_and_ids()
    tokens = [49406]
    for piece in pieces(unicodedata.normalize("NFC", text).lower()):
        word = [byte_symbols()[byte] for byte in piece.encode()]
        word[-1] += "</w>"
        while len(word) > 1:
            rank, at = min((ranks.get(pair, len(ranks)), at) for at, pair in enumerate(zip(word, word[1:], strict=False)))
            if rank == len(ranks):
                break
            pair, merged, index = (word[at], word[at + 1]), [], 0
            while index < len(word):  # every place where the pair is, from the left
                step = 2 if tuple(word[index : index + 2]) == pair else 1
                merged.append("".join(word[index : index + step]))
                index += step
            word = merged
        tokens += [ids[symbol] for symbol in word]
    return [*tokens, 49407]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of a cat.", [49406, 320, 1125, 539, 320, 2368, 269, 49407]),
        ("A  Photo\tof a CAT.", [49406, 320, 1125, 539, 320, 2368, 269, 49407]),
        ("a diagram", [49406, 320, 22697, 49407]),
        ("a photo of a dog", [49406, 320, 1125, 539, 320, 1929, 49407]),
        ("", [49406, 49407]),
    ],
)
def test_known_ids(text: str, ids: list[int], tokenizer: PreTrainedTokenizerBase):
    assert tokenizer(text)["input_ids"] == ids == encode(text)


def test_special_tokens_and_lengths_are_clips(tokenizer: PreTrainedTokenizerBase):
    assert len(tokenizer) == tokenizer.vocab_size == 49408 and tokenizer.model_max_length == 77
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id) == (
        49406,
        49407,
        49407,
        49407,
    )
    batch = tokenizer(["a cat", "a photo of a cat." * 40], padding="max_length", truncation=True)["input_ids"]
    assert [len(row) for row in batch] == [77, 77] and batch[0][3:] == [49407] * 74 and batch[1][-1] == 49407
    assert tokenizer("a cat<|endoftext|>")["input_ids"] == [49406, 320, 2368, 49407, 49407]
    assert clip_tokenizer(32).model_max_length == 32


def test_the_merges_are_openais():
    lines = MERGES.decode().split("\n")
    assert len(lines) == 48894 + 1 and lines[:2] == ["i n", "t h"] and lines[-2:] == ["jeky ll</w>", ""]
    assert hashlib.sha256(MERGES).hexdigest() == SHA256
    assert "Copyright (c) 2021 OpenAI" in (FOLDER / "LICENSE").read_text() and "MIT License" in (FOLDER / "LICENSE").read_text()


SHA256 = "d308b7377a8ceaa9707a21614fe8c831b9196e197b7aeb69833359362907af02"  # of lines 2 to 48,895 of bpe_simple_vocab_16e6.txt

# Letters of scripts that Python and Rust lower alike; both leave the final sigma, the dotted capital I and few others apart.
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZäöüßéèçñøåÄÖÜÉłžαβγδΑΒΓжщяЖЩЯאבةمनमस日本語한국가"
MARKS = "0123456789½²!\"#$%&()*+,-./:;=?@[]^_`{}~'’“”–—…€£☃😀👍🏽 \t\n"


@given(st.text(LETTERS + MARKS, max_size=60))
def test_any_text_is_encoded_as_by_the_plain_encoder(tokenizer: PreTrainedTokenizerBase, text: str):
    assert tokenizer(text, verbose=False)["input_ids"] == encode(text)


@given(
    st.lists(st.sampled_from(["it's", "they'll", "don't", "O'Brien", "'", "''s", "café", "cafe\u0301", "ViT-B/16", "3.14", "<|"]))
)
def test_sentences_are_encoded_as_by_the_plain_encoder(tokenizer: PreTrainedTokenizerBase, words: list[str]):
    assert tokenizer(" ".join(words), verbose=False)["input_ids"] == encode(" ".join(words))


def test_entities_stay_as_they_are_unlike_in_openais_own_tokenizer(tokenizer: PreTrainedTokenizerBase):
    assert tokenizer("black &amp; white")["input_ids"] != tokenizer("black & white")["input_ids"]


def test_it_survives_a_folder(tokenizer: PreTrainedTokenizerBase, tmp_path: Path):
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = "A café's 12 photos… of <|endoftext|> 日本 😀"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"] and again.model_max_length == 77
    assert (again.bos_token_id, again.eos_token_id, again.pad_token_id) == (49406, 49407, 49407)
