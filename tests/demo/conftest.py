"""A demo of a small run, and a server of it in a thread."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from dpl import load_backbone, save_run
from dpl.backbones.loading import Backbone
from dpl.demo.demo import Demo
from dpl.methods.coop import CoOp, CoOpConfig
from dpl.methods.dpl import Dpl, DplConfig
from dpl.prompts.layout import PromptLayout
from dpl.runs import class_features, load_run

NAMES = ("dark blue", "green", "<script>alert()</script>")
TEMPLATES = ("a photo of a {}.", "the {} thing")


@pytest.fixture(scope="session")
def backbone(checkpoint: Path) -> Backbone:
    return load_backbone(str(checkpoint))


@pytest.fixture(scope="session")
def run(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, with prompts that make a difference."""
    folder = tmp_path_factory.mktemp("demo") / "colours & <b>more"
    save_run(folder, Dpl(backbone, NAMES, TEMPLATES, DplConfig(PromptLayout.uniform(3, 2, 2), 2.0), seed=1))
    return folder


@pytest.fixture(scope="session")
def demo(run: Path, backbone: Backbone) -> Demo:
    model = load_run(run, backbone)
    return Demo(run.name, model, class_features(run, model))


@pytest.fixture(scope="session")
def of_classes(backbone: Backbone) -> Demo:
    """The demo of a method whose parameters belong to its classes."""
    model = CoOp(backbone, NAMES, TEMPLATES, CoOpConfig(context=2, class_specific=True), seed=1).eval()
    return Demo("coop", model, model.text_features().detach())


@pytest.fixture(scope="session")
def picture(images: Path) -> Path:
    """An image file that is not square."""
    path = images.parent / "a green one.png"
    Image.open(images / "green" / "3.png").resize((60, 44)).save(path)
    return path


@pytest.fixture
def served() -> Iterator[Callable[[Demo], str]]:
    """`served(demo)`: the address of a server of it."""
    pytest.importorskip("starlette", reason="the extra demo is not installed; make test installs it")
    pytest.importorskip("uvicorn", reason="the extra demo is not installed; make test installs it")
    from dpl.demo.app import make_app
    from dpl.demo.listening import address, listen
    from dpl.demo.serve import server

    stops: list[Callable[[], None]] = []

    def serve(demo: Demo) -> str:
        listening: socket.socket = listen("127.0.0.1", 0)
        own = server(make_app(demo, frozenset({"127.0.0.1"})))
        thread = threading.Thread(target=own.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()

        def stop() -> None:
            own.should_exit = True
            thread.join(10)
            listening.close()

        stops.append(stop)
        while not own.started:
            time.sleep(0.01)
        return address(listening)

    yield serve
    for stop in stops:
        stop()
