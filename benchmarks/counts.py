"""Operations and bytes of a step, counted from the shapes: what the measured times have to be compared with.

A multiply-add is two operations. Counted are matrix products and the patch convolution; frozen weights have no gradient, so a
backward costs a linear layer what its forward does. Fused attention runs 2 products over its query-key pairs forward and 5
backward, where it computes the scores again; pairs that a causal mask hides are counted, as PyTorch's `FlopCounterMode` does.
All layers are counted alike, though the first has no gradient to give to its input in naive and ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.clips import OPENING, BranchShape, ClipShape, sentence_lengths
from benchmarks.subjects import PAPERS, Case, Subject
from dpl.explain.cost import layer_flops, patch_flops


@dataclass(frozen=True)
class Load:
    """What one pass gives every layer of a branch to do."""

    tokens: int
    """Rows through the MLP."""
    projected: int
    """Rows through the query, key, value and out projections each."""
    pairs: int
    """Queries times keys of the fused attention, summed over samples."""
    prompts: int = 0
    """Rows through the key and value projections only."""
    mixed_pairs: int = 0
    """Queries times prompts outside the fused attention."""
    learns: bool = True
    """Whether the prompts get gradients."""
    weighted: int = 0
    """Rows that a weight with a gradient is multiplied with, so that autograd keeps them."""


@dataclass(frozen=True)
class Work:
    """One step: operations, the bytes that autograd keeps at its peak, and tokens in the text branch of one pass."""

    flops: int
    kept_bytes: int
    text_tokens: int


def step_work(subject: Subject, case: Case, shape: ClipShape, element: int = 4) -> Work:
    """Of a step of `subject`; `element` is the size in bytes of what the layers compute in."""
    flops, kept, texts = 0, 0, text_load(subject, case, shape)
    for images, is_alpha_step in zip(case.batches, (case.stage == "search", False), strict=False):
        loads = [(shape.image, image_load(subject, case, shape, images)), (shape.text, texts)]
        loads = [(branch, _of_pass(load, is_alpha_step)) for branch, load in loads]
        flops += sum(_flops(branch, load) for branch, load in loads) + _ends_flops(shape, images, case.classes)
        kept = max(kept, sum(_kept_bytes(branch, load, element) for branch, load in loads))
        if subject in PAPERS and case.stage == "train":
            plain = image_load("plain", case, shape, images)
            flops += shape.image.layers * _forward_flops(shape.image, plain) + _patch_flops(shape, images)
    return Work(flops, kept, texts.tokens)


def weight_bytes(branch: BranchShape, element: int = 4) -> int:
    """Bytes of a branch's layers: what a pass has to read once forward and once backward."""
    return element * branch.layers * (4 * branch.width**2 + 2 * branch.width * branch.mlp)


def image_load(subject: Subject, case: Case, shape: ClipShape, images: int) -> Load:
    """Of `images` images."""
    return _load(subject, case, [(images, shape.patches + 1, shape.patches + 1)])


def text_load(subject: Subject, case: Case, shape: ClipShape) -> Load:
    """Of the sentences of all classes."""
    lengths = sentence_lengths(case.classes)
    if subject in PAPERS:
        return _load(subject, case, [(case.classes, shape.positions, shape.positions)])
    if subject == "plain":
        return _load(subject, case, [(case.classes, max(lengths), max(lengths))])
    before = OPENING if subject == "ours" else 0
    own = [(1, length - OPENING, length - OPENING + before) for length in lengths]
    return _load(subject, case, [(1, OPENING, OPENING), *own])


def _load(subject: Subject, case: Case, sequences: Sequence[tuple[int, int, int]]) -> Load:
    """Of (samples, queries, keys) triples, with the prompts of the case in a subject that has them."""
    tokens = sum(samples * queries for samples, queries, _ in sequences)
    pairs = sum(samples * queries * keys for samples, queries, keys in sequences)
    if subject in ("plain", "ideal"):
        return Load(tokens, tokens, pairs)
    samples = sum(samples for samples, _, _ in sequences) if subject in PAPERS else 1  # prompts are projected for each
    if case.stage == "train":
        return Load(tokens, tokens, pairs + tokens * case.longest, prompts=samples * case.longest)
    options, rows = len(case.options), sum(case.options)
    if subject == "ours":
        return Load(tokens, tokens, pairs, prompts=rows, mixed_pairs=tokens * rows)
    return Load(tokens, options * tokens, options * pairs + tokens * rows, prompts=samples * rows, weighted=options * tokens)


def _of_pass(load: Load, is_alpha_step: bool) -> Load:
    """In the alpha step no prompt learns; in the other no weight does."""
    return replace(load, learns=not is_alpha_step, weighted=load.weighted if is_alpha_step else 0)


def _flops(branch: BranchShape, load: Load) -> int:
    return branch.layers * (_forward_flops(branch, load) + _backward_flops(branch, load))


def _forward_flops(branch: BranchShape, load: Load) -> int:
    """Of one layer."""
    return _layer_flops(branch, load, load.prompts, load.pairs + load.mixed_pairs)


def _backward_flops(branch: BranchShape, load: Load) -> int:
    """Of one layer. The mixture: scores again, g V_P, e V_P, gradient of the queries; of prompt keys and values if they learn."""
    linear = _layer_flops(branch, load, load.prompts if load.learns else 0, pairs=0)
    return linear + branch.width * (10 * load.pairs + (12 if load.learns else 8) * load.mixed_pairs)


def _layer_flops(branch: BranchShape, load: Load, prompts: int, pairs: int) -> int:
    asked = load.projected + prompts
    return layer_flops(branch.width, branch.mlp, asking=load.projected, asked=asked, mlp=load.tokens, pairs=pairs)


def _ends_flops(shape: ClipShape, images: int, classes: int) -> int:
    """Patches forward; both projections and the logits forward and backward."""
    projections = images * shape.image.width + classes * shape.text.width
    logits = 3 * 2 * images * classes * shape.projection
    return _patch_flops(shape, images) + 2 * 2 * projections * shape.projection + logits


def _patch_flops(shape: ClipShape, images: int) -> int:
    return images * patch_flops(shape.patches, shape.patch, shape.image.width)


def _kept_bytes(branch: BranchShape, load: Load, element: int) -> int:
    """What autograd keeps of a pass: inputs of both norms (fp32); queries, keys, values, outputs; the GELU's input.

    The frozen linear layers keep nothing. The first layer is left out: part of it needs no gradient.
    """
    norms = 4 * branch.width * (load.projected + load.prompts + load.tokens)
    attention = element * branch.width * (4 * load.projected + 2 * load.prompts + load.weighted)
    gelu = element * branch.mlp * load.tokens
    return (branch.layers - 1) * (norms + attention + gelu)
