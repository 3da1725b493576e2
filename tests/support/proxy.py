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
from tests.support.waiting import PATIENCE, until


@contextmanager
def shipped_proxy(folder: Path, endpoint: str, port: int) -> Iterator[Path]:
    """At https://localhost:`port`, in front of the devkit at `endpoint`: its certificate."""
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if nginx is None:
        # Build machines have it (`.ci/run` installs it); who has not is told by `scripts/test.sh`.
        pytest.skip("nginx is not installed (on Debian and Ubuntu: apt-get install nginx-light)")
    tls = folder / "tls"
    made = subprocess.run([REPO / "scripts" / "make-cert.sh", tls], check=False, capture_output=True, timeout=PATIENCE)
    assert made.returncode == 0, made.stderr
    (folder / "nginx.conf").write_text(_configuration(folder, tls, endpoint, port))
    command = [nginx, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    checked = subprocess.run([*command, "-t"], check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert checked.returncode == 0, checked.stderr
    with (folder / "nginx.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        _wait_for(port, process)
        yield tls / "devkit.crt"
    finally:
        process.terminate()
        process.wait(PATIENCE)


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
    def listens() -> bool:
        assert process.poll() is None, "nginx ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        except OSError:
            return False
        return True

    until(listens)
