"""Serves the page: on this machine alone unless told otherwise, asking nothing of the web, leaving nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from avser.app.admission import MB, Limits
from avser.app.uploads import UploadRoot
from avser.errors import ConfigError

MAX_WAITING = 16
GRACE_S = 3  # for open connections, when the server is stopped
CONTENT_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    ]
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
}


def serve(
    runs: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    limits: Limits | None = None,
    max_waiting: int = MAX_WAITING,
    say: Callable[[str], None] = print,
    warn: Callable[[str], None] = print,
) -> None:
    """Answer in the browser with the models of some runs, until interrupted.

    Args:
        runs: run folders, or folders of runs "audio", "video" and "fused"; several are shown side by side.
        port: 0 takes any that is free.
        limits: of size and length; those of `Limits` by default.
        max_waiting: how many people may wait for their turn.
        say: is told the address. warn: is told what to beware of.

    Raises:
        ConfigError: gradio is not installed, the port is taken, or a limit makes no sense.
        CheckpointError: a run cannot be loaded.
    """
    limits = limits or Limits()
    if max_waiting < 1:
        raise ConfigError(f"--max-waiting {max_waiting}: must be at least 1")
    if not is_loopback(host):
        warn(
            f"{host} is reached from other machines: everyone there may use the models, and sends recordings of people "
            "over the network unencrypted. Put a proxy with HTTPS and a password in front, or use 127.0.0.1. "
            "Browsers give a page the camera only on this machine or over HTTPS."
        )
    with handling({signal.SIGTERM: _stop}), bound(host, port) as listening, everything_under_one_root() as root:
        server = make_server(build_app(runs, root, limits, max_waiting=max_waiting))
        shown = f"[{host}]" if ":" in host else host
        # From here on a signal is the server's: an exception in the middle of its start would leave it half made.
        with handling(dict.fromkeys((signal.SIGTERM, signal.SIGINT), server.handle_exit)):
            say(f"http://{shown}:{listening.getsockname()[1]}  (stop with Ctrl+C)")
            server.run(sockets=[listening])


def _stop(number: int, frame: Any) -> None:
    """Unlike what the system does by default, let everything be tidied up."""
    sys.exit(128 + number)


@contextlib.contextmanager
def handling(handlers: dict[signal.Signals, Callable[[int, Any], Any]]) -> Iterator[None]:
    """These handlers of signals meanwhile; only the main thread may have any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach the host."""
    with contextlib.suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, so that a port that is taken is known before any model is loaded.

    Raises:
        ConfigError: it is taken, or the host is none of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--host {host} --port {port}: cannot be used ({error}); take another port (0 for any that is free), or "
            "an address of this machine"
        ) from error
    with listening:
        yield listening


@contextlib.contextmanager
def everything_under_one_root() -> Iterator[UploadRoot]:
    """All files that are written meanwhile, by whatever library, lie under one folder, which is gone afterwards."""
    root = UploadRoot()
    scratch = root.folder / "scratch"
    scratch.mkdir()
    settings = {
        "GRADIO_TEMP_DIR": str(root.incoming),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    before, tempdir = {name: os.environ.get(name) for name in settings}, tempfile.tempdir
    os.environ.update(settings)
    tempfile.tempdir = str(scratch)
    try:
        yield root
    finally:
        tempfile.tempdir = tempdir
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        root.close()


def build_app(runs: Sequence[Path], root: UploadRoot, limits: Limits, *, max_waiting: int = MAX_WAITING) -> Any:
    """The web application; call it inside `everything_under_one_root`.

    Raises:
        ConfigError: gradio is not installed. CheckpointError: a run cannot be loaded.
    """
    try:
        import gradio as gr
        from fastapi import FastAPI
    except ImportError as error:
        raise ConfigError("the page needs gradio: pip install 'avser[serve]'") from error
    from avser.app.answer import load_served
    from avser.app.page import build_page, page_theme

    blocks = build_page(load_served(runs), limits, root, max_waiting=max_waiting)
    no_docs: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    app = gr.mount_gradio_app(
        FastAPI(**no_docs),
        blocks,
        path="",
        app_kwargs=no_docs,
        allowed_paths=[],
        show_error=False,
        max_file_size=int(limits.max_mb * MB) + 1,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        footer_links=[],
        run_history=False,
        theme=page_theme(),
        css=_part("page.css"),
        head=f"<script>{_part('page.js')}</script>",
    )
    return Guarded(app)


class Guarded:
    """Puts the headers on every answer that keep the page to itself, and fetches nothing for anybody."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and _asks_for_elsewhere(scope["path"]):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        await self.app(scope, receive, send_guarded)


def _asks_for_elsewhere(path: str) -> bool:
    """The framework has routes that fetch any address on the web and hand it on; the page needs none of them."""
    return "proxy=" in path or any(f"file={scheme}" in path.lower() for scheme in ("http:", "https:"))


def make_server(app: Any) -> Any:
    """The HTTP server, quiet but for warnings."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S, ws="none")
    )


def _part(name: str) -> str:
    return resources.files("avser.app").joinpath(name).read_text(encoding="utf-8")
