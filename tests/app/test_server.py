"""The server: on this machine alone unless told otherwise, hands out nothing, leaves nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from avser.app.server import everything_under_one_root, is_loopback, serve
from avser.errors import CheckpointError, ConfigError

pytest.importorskip("gradio")


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_who_can_reach_a_host(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


def test_another_host_is_warned_about(tmp_path: Path) -> None:
    warnings: list[str] = []
    with pytest.raises(CheckpointError):
        serve([tmp_path], host="0.0.0.0", port=0, warn=warnings.append)
    assert "reached from other machines" in warnings[0]
    warnings.clear()
    with pytest.raises(CheckpointError):
        serve([tmp_path], port=0, warn=warnings.append)
    assert warnings == []


def test_a_port_that_is_taken_is_known_before_models_are_loaded(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="take another port"):
            serve([tmp_path], port=taken.getsockname()[1])


def test_without_gradio_it_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigError, match=r"avser\[serve\]"):
        serve([tmp_path], port=0)


def test_everything_lies_under_one_root_that_goes(monkeypatch) -> None:
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    before = tempfile.gettempdir()
    with everything_under_one_root() as root:
        assert Path(tempfile.mkdtemp()).is_relative_to(root.folder)
        assert os.environ["GRADIO_TEMP_DIR"] == str(root.incoming)
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not root.folder.exists()
    assert tempfile.gettempdir() == before
    assert "GRADIO_TEMP_DIR" not in os.environ


def status_of(address: str, **options) -> int:
    try:
        with urlopen(Request(address, **options), timeout=60) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def test_no_file_of_the_server_is_handed_out_and_nothing_is_fetched(served) -> None:
    (root,) = served.scratch.glob("avser-serve-*")
    secret = root / "taken" / "secret.txt"
    secret.write_text("x")
    try:
        for path in (
            "/etc/passwd",
            secret,
            served.log,
            Path(__file__),
            root / "incoming" / ".." / "taken" / "secret.txt",
        ):
            for route in ("file=", "gradio_api/file="):
                assert status_of(f"{served.address}/{route}{path}") in (403, 404), path
    finally:
        secret.unlink()
    for path in (f"file={served.address}/theme.css", "file=HTTPS://example.org", "proxy=http://example.org"):
        assert status_of(f"{served.address}/gradio_api/{path}") == 404
    for path in ("docs", "redoc", "openapi.json", "monitoring", "gradio_api/mcp/sse"):
        assert status_of(f"{served.address}/{path}") in (403, 404), path


def test_the_page_allows_no_address_but_its_own_and_offers_no_interface(served) -> None:
    with urlopen(served.address, timeout=60) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy
    with urlopen(f"{served.address}/gradio_api/info", timeout=60) as answer:
        assert b'"named_endpoints":{},"unnamed_endpoints":{}' in answer.read().replace(b" ", b"")


@pytest.mark.parametrize("name", ["../../evil.mp4", "/etc/evil.mp4", "..\\..\\evil.mp4", "a/b.mp4"])
def test_a_name_that_climbs_stays_where_uploads_arrive(served, name: str) -> None:
    body = (
        f'--cut\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
        "Content-Type: video/mp4\r\n\r\nevil\r\n--cut--\r\n"
    ).encode()
    before = set(served.files())
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    status_of(f"{served.address}/gradio_api/upload", data=body, headers=headers, method="POST")
    (root,) = served.scratch.glob("avser-serve-*")
    for path in set(served.files()) - before:
        assert path.is_relative_to(root / "incoming")
        path.unlink()


def test_stopped_it_leaves_nothing_behind(start_server, tiny_ablation) -> None:
    served = start_server(tiny_ablation / "audio")
    (root,) = served.scratch.glob("avser-serve-*")
    (root / "taken" / "something").write_text("x")
    served.stop()
    assert served.files() == []
    assert not root.exists()
    assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_right_after_the_address_finds_a_server_that_can_be_stopped(name: str, tiny_ablation, tmp_path):
    told = (
        "import signal, sys; from pathlib import Path; from avser.app.server import serve\n"
        f"serve([Path(sys.argv[1])], port=0, say=lambda address: signal.raise_signal(signal.{name}))\n"
        "print('stopped')"
    )
    command = [sys.executable, "-c", told, str(tiny_ablation / "audio")]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=240)  # one that runs on fails
    assert done.stdout.endswith("stopped\n"), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("avser-serve-*"))
