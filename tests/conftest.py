"""Shared by all tests: shapes in signatures are checked, and CLIPs small enough to build in a blink."""

import importlib.util
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch
from jaxtyping import install_import_hook
from transformers import CLIPConfig, CLIPModel, PreTrainedModel

import tests.typechecker  # noqa: F401, named by the hook
from tests.browser import chromium, open_page, pytest_terminal_summary  # noqa: F401, fixtures and a hook of all tests
from tests.checkpoints import save_checkpoint, save_images


def shaped_modules() -> list[str]:
    """The modules of dpl whose signatures have shapes, found without importing one.

    The others take what people and files give them, and tell by a DplError what is wrong with it.
    """
    spec = importlib.util.find_spec("dpl")
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    files = [file for file in root.rglob("*.py") if "jaxtyping" in file.read_text()]
    return [".".join(("dpl", *file.relative_to(root).with_suffix("").parts)) for file in files]


pytest_plugins = ["tests.reports.run_fixtures", "tests.explain.trained_fixture"]
install_import_hook(shaped_modules(), "tests.typechecker.typechecker")  # before anything imports dpl
torch.set_num_threads(1)  # the tensors are tiny: more threads only wait for each other
# `make test` tries the same few examples every time, `make test-all` many new ones. A machine's load is no deadline.
hypothesis.settings.register_profile("fast", max_examples=25, derandomize=True, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=100, deadline=None)
hypothesis.settings.load_profile("fast")
# A shell that starts the tests in the background ignores Ctrl-C for them, and so for the processes that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

EOS = 39  # the last of the tiny vocabulary


def randomise(model: PreTrainedModel, seed: int) -> None:
    """Weights of ordinary size for every parameter, biases and norms too, so that none is left out of a result."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("weight") and "norm" in name or "layrnorm" in name:
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias") or parameter.dim() < 2:
                parameter.copy_(0.2 * noise)
            elif "embedding" in name and "patch" not in name:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)


def tiny_clip(seed: int = 0, dtype: torch.dtype = torch.float64, layers: tuple[int, int] = (3, 2)) -> CLIPModel:
    """A random CLIP in eval mode: `layers` of the image (width 32, 4 heads) and the text branch (width 24, 3 heads)."""
    small = {"vocab_size": EOS + 1, "bos_token_id": EOS - 1, "eos_token_id": EOS, "max_position_embeddings": 12}
    text = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3, "num_hidden_layers": layers[1], **small}
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": layers[0]}
    vision |= {"image_size": 16, "patch_size": 8}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=20))
    randomise(clip, seed)
    torch.nn.Module.to(clip.eval(), dtype)
    return clip


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., CLIPModel]:
    """`make_clip(seed=0, dtype=torch.float64, layers=(3, 2))`: see `tiny_clip`."""
    return tiny_clip


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random tiny CLIP checkpoint; not to be changed."""
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images of three classes, 20 each; not to be changed."""
    return save_images(tmp_path_factory.mktemp("images") / "colours")
