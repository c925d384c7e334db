"""`dpl demo`: loads a run once, and answers a browser until Ctrl-C."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dpl.backbones.loading import PrecisionChoice
from dpl.demo.listening import address, is_loopback, listen
from dpl.errors import DplError

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

NEEDED = ("starlette", "uvicorn")
_CONNECTIONS = 32


def serve(
    run: Path,
    host: str = "127.0.0.1",
    port: int = 7860,
    backbone: str | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    say: Callable[[str], None] = print,
    warn: Callable[[str], None] = print,
) -> None:
    """Serves the demo of `run` and says where; returns when it is stopped.

    Raises `DplError`, before anything is served, where a package is missing, the run cannot be loaded, or `host` and `port`
    cannot be had.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        extra = "pip install 'differentiable-prompt-learning[demo]'"
        raise DplError(f"dpl demo needs the package {missing[0]}, which is not installed: {extra}")
    from dpl.demo.app import make_app
    from dpl.demo.demo import Demo, examples
    from dpl.runs import class_features, load_run

    with listen(host, port) as listening:
        model = load_run(run, backbone, device, precision)
        demo = Demo(run.resolve().name, model, class_features(run, model), examples(run))
        alone = is_loopback(listening)
        app = make_app(demo, frozenset({"localhost", "127.0.0.1", "::1", host.lower()}) if alone else None)
        if not alone:
            warn(f"warning: with --host {host} whoever reaches this machine can use the demo; there is no password")
        say(f"{address(listening)}  (Ctrl-C stops it)")
        server(app).run(sockets=[listening])


def server(app: "Starlette") -> "uvicorn.Server":
    """What serves `app`; it ends within seconds of Ctrl-C, whatever is being answered."""
    import uvicorn

    # Without uvicorn's own log, errors are still told: Python tells them where nobody else does.
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)
