"""Builds CLIP's tokenizer from the merges that OpenAI published; files in the other formats contain no tokenizer."""

import gzip
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer, PreTrainedTokenizerBase

VOCABULARY, BOS, EOS = 49408, 49406, 49407
_MERGES = Path(__file__).parent / "clip_bpe" / "merges.txt.gz"
_START, _END = "<|startoftext|>", "<|endoftext|>"


def clip_tokenizer(context_length: int = 77) -> PreTrainedTokenizerBase:
    """Builds the tokenizer of openai/clip-vit-base-patch16.

    As in transformers, text is normalised to NFC and lower case. OpenAI's own tokenizer first repairs text with ftfy and replaces
    HTML entities, so it gives other tokens for `caf&eacute;` or mojibake.

    Args:
        context_length: largest number of tokens of the model.
    """
    merges = [tuple(line.split()) for line in gzip.decompress(_MERGES.read_bytes()).decode().splitlines()]
    letters = sorted(ByteLevel.alphabet())  # one character per byte
    words = [*letters, *(letter + "</w>" for letter in letters), *(left + right for left, right in merges), _START, _END]
    vocabulary = {word: index for index, word in enumerate(words)}
    return byte_pair_tokenizer(vocabulary, merges, context_length)


def byte_pair_tokenizer(
    vocabulary: dict[str, int], merges: list[tuple[str, ...]], context_length: int
) -> PreTrainedTokenizerBase:
    """Builds a tokenizer of CLIP's type from a vocabulary and its merges, as in vocab.json and merges.txt.

    Args:
        vocabulary: token ids by token.
        merges: pairs of tokens, the most frequent first.
        context_length: largest number of tokens of the model.
    """
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=context_length)  # type: ignore[arg-type]
