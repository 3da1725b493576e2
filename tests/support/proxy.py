"""nginx with the shipped configuration, as a process."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.process import REPO


@contextmanager
def shipped_proxy(folder: Path, endpoint: str) -> Iterator[tuple[str, Path]]:
    """On a free port, in front of the devkit at `endpoint`: its address and certificate."""
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed (on Debian and Ubuntu: apt-get install nginx-light)")
    tls = folder / "tls"
    made = subprocess.run([REPO / "scripts" / "make-cert.sh", tls], check=False, capture_output=True, timeout=60)
    assert made.returncode == 0, made.stderr
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "nginx.conf").write_text(_configuration(folder, tls, endpoint, port))
    command = [nginx, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    checked = subprocess.run([*command, "-t"], check=False, capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stderr
    with (folder / "nginx.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        _wait_for(port, process)
        yield f"https://localhost:{port}", tls / "devkit.crt"
    finally:
        process.terminate()
        process.wait(30)


def _configuration(folder: Path, tls: Path, endpoint: str, port: int) -> str:
    """The shipped one with places and ports of this machine, and nothing else changed."""
    config = (REPO / "conf" / "nginx.conf").read_text()
    changes = {
        " /tmp/": f" {folder}/", "/etc/nginx/tls/": f"{tls}/", "listen 8443 ": f"listen {port} ",
        "server devkit:4100 ": f"server {endpoint.removeprefix('http://')} ",
        "worker_processes auto": "worker_processes 1",
    }  # fmt: skip
    for old, new in changes.items():
        assert old in config
        config = config.replace(old, new)
    return "user root;\n" + config if os.getuid() == 0 else config


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "nginx ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    raise AssertionError("nginx does not listen")
