"""The server of `dpl demo`: loads a run once, and answers requests until Ctrl-C."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dpl.config import RunLoading
from dpl.demo.listening import address, is_loopback, listen
from dpl.utils.errors import DplError

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

NEEDED = ("starlette", "uvicorn")
_AS_MADE = RunLoading()


def serve(
    run: Path,
    host: str = "127.0.0.1",
    port: int = 7860,
    loading: RunLoading = _AS_MADE,
    say: Callable[[str], None] = print,
    warn: Callable[[str], None] = print,
) -> None:
    """Serves the demo of a run until it is stopped.

    Args:
        run: the run folder.
        host: a name or an address of this machine.
        port: 0 to 65535; 0: any free port.
        loading: how the backbone is loaded.
        say: receives the URL.
        warn: receives notes and warnings for the user.

    Raises:
        DplError: before anything is served, a package is missing, the run cannot be loaded, or `host` and `port` cannot be used.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        extra = "pip install 'differentiable-prompt-learning[demo]'"
        raise DplError(f"dpl demo needs the package {missing[0]}, which is not installed: {extra}")
    # Late: optional packages, and the model.
    from dpl.demo.app import make_app
    from dpl.demo.demo import Demo, examples
    from dpl.runs import class_features, load_run

    with listen(host, port) as listening:
        model = load_run(run, loading.backbone, **loading.load_options(), say=warn)
        demo = Demo(run.resolve().name, model, class_features(run, model), examples(run))
        alone = is_loopback(listening)
        app = make_app(demo, frozenset({"localhost", "127.0.0.1", "::1", host.lower()}) if alone else None)
        if not alone:
            warn(f"warning: with --host {host} everyone who can reach this machine can use the demo; there is no password")
        say(f"{address(listening)}  (Ctrl-C stops it)")
        server(app).run(sockets=[listening])


def server(app: "Starlette") -> "uvicorn.Server":
    """Makes the server of an application. It ends within seconds of Ctrl-C, even during an answer.

    Args:
        app: the application of `make_app`.
    """
    import uvicorn  # late: an optional package

    from dpl.demo.connection import MOST_HEADER_BYTES, Connection, keep_cancellations_out_of_the_log

    keep_cancellations_out_of_the_log()
    # Without uvicorn's log configuration, Python's default handler still prints errors.
    config = uvicorn.Config(
        app,
        http=Connection,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)
