"""The life of an attachment: what it changes on a model, what it leaves alone, and how it ends."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedModel

from dpl.backbones.branch import Branch
from dpl.prompts.inject import Attachment, attach
from dpl.prompts.modules import FixedPrompts, PromptMixture
from dpl.utils.errors import DplError

Features = Callable[[CLIPModel], list[Tensor]]


def fixed(layout: list[int], width: int, seed: int = 0) -> FixedPrompts:
    return FixedPrompts(layout, width, std=1.0, generator=torch.Generator().manual_seed(seed)).double()


def mixture(depth: int, width: int, seed: int = 0) -> PromptMixture:
    return PromptMixture(depth, (0, 1, 3), width, std=1.0, generator=torch.Generator().manual_seed(seed)).double()


def attach_both(clip: CLIPModel, seed: int = 0) -> list[Attachment]:
    """A layout on the image branch, a mixture on the text branch."""
    image = attach(Branch("image", clip.vision_model), fixed([2, 0, 1], 32, seed))
    return [image, attach(Branch("text", clip.text_model), mixture(2, 24, seed))]


@pytest.fixture
def features(draw_pixels, draw_ids) -> Features:
    """Image and text features of fixed inputs."""

    def run(clip: CLIPModel) -> list[Tensor]:
        output = clip(pixel_values=draw_pixels(2), input_ids=draw_ids(3))
        return [output.image_embeds, output.text_embeds]

    return run


def same(ours: list[Tensor], theirs: list[Tensor]) -> list[bool]:
    """To the bit, tensor by tensor."""
    return [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)]


def traces(clip: CLIPModel) -> list[tuple[str, list[str], int]]:
    """Everything that hangs on the modules, by name, and the identity of their configs."""
    return [(name, sorted(vars(module)), id(vars(module).get("config"))) for name, module in clip.named_modules()]


def test_the_state_dict_and_the_parameters_are_unchanged_while_attached(clip):
    before = {name: weight.clone() for name, weight in clip.state_dict().items()}
    parameters = [name for name, _ in clip.named_parameters()]
    attach_both(clip)
    after = clip.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert [name for name, _ in clip.named_parameters()] == parameters


def test_detach_leaves_the_model_as_it_was(clip, features):
    before, plain = traces(clip), features(clip)
    attachments = attach_both(clip)
    assert same(features(clip), plain) == [False, False]
    for attachment in attachments:
        attachment.detach()
    assert traces(clip) == before
    assert same(features(clip), plain) == [True, True]


def test_detaching_twice_is_harmless_and_prompts_can_be_attached_again(clip, features):
    first = attach_both(clip)
    prompted = features(clip)
    for attachment in (*first, *first):
        attachment.detach()
    attach_both(clip)
    assert same(features(clip), prompted) == [True, True]


def test_an_old_attachment_does_not_switch_off_a_new_one(clip, features):
    old, _ = attach_both(clip)
    prompted = features(clip)
    old.detach()
    attach(Branch("image", clip.vision_model), fixed([2, 0, 1], 32))
    old.detach()
    with old.disabled():
        pass
    assert same(features(clip), prompted) == [True, True]


def test_an_attachment_of_a_layout_of_zeros_does_not_switch_off_a_new_one(clip, features):
    zeros = attach(Branch("image", clip.vision_model), fixed([0, 0, 0], 32))
    try:
        attach(Branch("image", clip.vision_model), fixed([2, 0, 1], 32))
    except DplError:
        return  # refusing the second one is as good
    prompted = features(clip)
    zeros.detach()
    assert same(features(clip), prompted) == [True, True]


def test_disabled_is_the_plain_model_to_the_bit_and_comes_back(clip, features):
    plain = features(clip)
    image, text = attach_both(clip)
    prompted = features(clip)
    with image.disabled():
        assert same(features(clip), [plain[0], prompted[1]]) == [True, True]
        with text.disabled():
            assert same(features(clip), plain) == [True, True]
    assert same(features(clip), prompted) == [True, True]
    with pytest.raises(ZeroDivisionError), image.disabled(), text.disabled():
        _ = 1 / 0
    assert same(features(clip), prompted) == [True, True]


def test_prompts_in_one_branch_leave_the_other_to_the_bit(clip, features):
    plain = features(clip)
    image = attach(Branch("image", clip.vision_model), fixed([0, 1, 0], 32))
    assert same(features(clip), plain) == [False, True]
    image.detach()
    attach(Branch("text", clip.text_model), mixture(2, 24))
    assert same(features(clip), plain) == [True, False]


@pytest.fixture(params=["own configs", "one config"])
def two(request: pytest.FixtureRequest, make_clip: Callable[..., CLIPModel]) -> Iterator[tuple[CLIPModel, CLIPModel]]:
    """Two models; in the second case all their modules look at the same config objects."""
    first, second = make_clip(seed=0), make_clip(seed=1)
    if request.param == "one config":
        for ours, theirs in zip(first.modules(), second.modules(), strict=True):
            if "config" in vars(ours):
                vars(theirs)["config"] = vars(ours)["config"]
        assert first.text_model.config is second.text_model.config
    yield first, second


def test_two_prompted_models_do_not_interfere(two, features):
    first, second = two
    plain, other_plain = features(first), features(second)
    attachments = attach_both(first, seed=0)
    prompted = features(first)
    assert same(features(second), other_plain) == [True, True]
    others = attach_both(second, seed=5)
    other_prompted = features(second)
    assert same(other_prompted, other_plain) == [False, False]
    assert same(features(first), prompted) == [True, True]
    with others[0].disabled():
        assert same(features(first), prompted) == [True, True]
    for attachment in attachments:
        attachment.detach()
    assert same(features(first), plain) == [True, True]
    assert same(features(second), other_prompted) == [True, True]


def test_models_built_from_one_config_object_do_not_interfere(clip, features):
    twin = CLIPModel(clip.config).eval().double()
    twin.load_state_dict(clip.state_dict())
    plain = features(twin)
    attach_both(clip)
    assert same(features(twin), plain) == [True, True]
    assert same(features(clip), plain) == [False, False]


def test_attaching_twice_is_refused_and_changes_nothing(clip, features):
    attach_both(clip)
    prompted, before = features(clip), traces(clip)
    with pytest.raises(DplError, match="image branch has prompts already"):
        attach(Branch("image", clip.vision_model), fixed([0, 0, 1], 32, seed=3))
    with pytest.raises(DplError, match="text branch has prompts already"):
        attach(Branch("text", clip.text_model), fixed([0, 0], 24))
    assert traces(clip) == before
    assert same(features(clip), prompted) == [True, True]


@pytest.mark.parametrize(
    "layout, width, message", [([1, 1], 32, "2 layers .* 3"), ([1] * 4, 32, "4 layers .* 3"), ([0, 1, 0], 24, "width 24 .* 32")]
)
def test_prompts_that_do_not_fit_are_refused_and_change_nothing(clip, layout, width, message):
    before = traces(clip)
    with pytest.raises(DplError, match=message):
        attach(Branch("image", clip.vision_model), fixed(layout, width))
    assert traces(clip) == before


def test_a_model_without_clip_layers_is_refused():
    with pytest.raises(DplError, match="Linear"):
        Branch("image", nn.Linear(3, 3))


def test_a_branch_knows_its_depth_and_width(clip):
    image, text = Branch("image", clip.vision_model), Branch("text", clip.text_model)
    assert (image.depth, image.width, text.depth, text.width) == (3, 32, 2, 24)


class Pair(nn.Module):
    """A model and its prompts in one module, as a caller would copy them."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip.requires_grad_(False)
        self.image, self.text = fixed([2, 0, 1], 32), mixture(2, 24)
        attach(Branch("image", clip.vision_model), self.image)
        attach(Branch("text", clip.text_model), self.text)


@pytest.mark.parametrize("used", [False, True])
def test_a_deep_copy_is_prompted_and_independent(clip, features, used):
    pair = Pair(clip)
    prompted = features(pair.clip)
    if used:
        torch.stack([part.sum() for part in features(pair.clip)]).sum().backward()
    twin = copy.deepcopy(pair)
    assert same(features(twin.clip), prompted) == [True, True]

    optimizer = torch.optim.SGD([*twin.image.parameters(), *twin.text.parameters()], lr=1.0)
    optimizer.zero_grad()
    torch.stack([part[:, 0].sum() for part in features(twin.clip)]).sum().backward()
    optimizer.step()
    assert same(features(twin.clip), prompted) == [False, False]
    assert same(features(pair.clip), prompted) == [True, True]
    if not used:
        assert all(parameter.grad is None for parameter in pair.parameters())

    with torch.no_grad():
        for parameter in (*pair.image.parameters(), *pair.text.parameters()):
            parameter.add_(1)
    trained = features(twin.clip)
    assert same(features(pair.clip), prompted) == [False, False]
    assert same(features(twin.clip), trained) == [True, True]


def test_a_deep_copy_stays_prompted_after_the_original_is_detached(clip, features):
    attachments = attach_both(clip)
    prompted, twin = features(clip), copy.deepcopy(clip)
    for attachment in attachments:
        attachment.detach()
    assert same(features(twin), prompted) == [True, True]
    assert same(features(clip), prompted) == [False, False]


def test_an_attachment_copied_with_its_model_detaches_the_copy_only(clip, features):
    plain, attachments = features(clip), attach_both(clip)
    prompted = features(clip)
    twin, copies = copy.deepcopy((clip, attachments))
    for attachment in copies:
        attachment.detach()
    assert same(features(twin), plain) == [True, True]
    assert same(features(clip), prompted) == [True, True]


def test_a_prompted_model_saves_as_the_plain_model(clip, features, tmp_path):
    plain = features(clip)
    clip.save_pretrained(tmp_path / "plain")
    attach_both(clip)
    clip.save_pretrained(tmp_path / "prompted")
    again = CLIPModel.from_pretrained(tmp_path / "prompted").eval()
    for ours, theirs in zip(features(again), plain, strict=True):  # not to the bit: loaded weights lie unaligned in memory
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "prompted" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


def test_a_branch_saved_alone_while_prompted_loads_as_the_plain_branch(clip, draw_ids, tmp_path):
    if not isinstance(clip.text_model, PreTrainedModel):
        pytest.skip("this version of transformers cannot save a branch alone")
    plain = clip.text_model(input_ids=draw_ids(2)).pooler_output
    attach(Branch("text", clip.text_model), mixture(2, 24))
    clip.text_model.save_pretrained(tmp_path)
    again = type(clip.text_model).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(input_ids=draw_ids(2)).pooler_output, plain, rtol=0, atol=1e-12)


def test_prompts_trained_after_attaching_are_the_ones_used(clip, features):
    prompts = fixed([1, 1, 1], 32)
    attach(Branch("image", clip.vision_model), prompts)
    before = features(clip)
    *_, last = prompts.parameters()
    with torch.no_grad():
        last.add_(1)
    assert same(features(clip), before) == [False, True]
