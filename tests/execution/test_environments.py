"""Modules that need packages the devkit does not have: environments of their own, built offline from wheels."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devkit_api.execution.environments import store
from devkit_api.execution.environments.requirements import RequirementsRefused, read
from devkit_api.execution.environments.store import Environments
from devkit_api.runs.failures import conclude
from tests.execution.conftest import Bench

BODY = """
import sys
from peptide_masses import VERSION
import hla_compass
return self.success(results={"version": VERSION, "prefix": sys.prefix, "sdk": hla_compass.__file__})
"""


def _wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    _write_wheel(folder / f"{name}-{version}-py3-none-any.whl", files, f"{info}/RECORD")


def _write_wheel(path: Path, files: dict[str, bytes], record: str) -> None:
    lines = []
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(content)}")
            wheel.writestr(name, content)
        wheel.writestr(record, "\n".join([*lines, f"{record},,"]) + "\n")


def _repack(folder: Path, name: str, done: set[str]) -> None:
    """Wheels of an installed package and of all it needs, from the files it was installed as."""
    if (key := canonicalize_name(name)) in done:
        return
    done.add(key)
    found = importlib.metadata.distribution(name)
    wanted = [file for file in found.files or () if ".." not in file.parts and file.suffix != ".pyc"]
    files = {str(file): Path(str(file.locate())).read_bytes() for file in wanted if Path(str(file.locate())).is_file()}
    info = next(name for name in files if name.endswith(".dist-info/METADATA")).split("/")[0]
    files.pop(f"{info}/RECORD", None)
    stem = f"{re.sub(r'[-.]+', '_', found.name)}-{found.version}"
    _write_wheel(folder / f"{stem}-py3-none-any.whl", files, f"{info}/RECORD")
    for text in found.requires or ():
        item = Requirement(text)
        if item.marker is None or item.marker.evaluate({"extra": ""}):
            _repack(folder, item.name, done)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index for offline installs: the SDK and all it needs, and a package nobody has."""
    folder = tmp_path_factory.mktemp("wheels")
    _repack(folder, "hla-compass", set())
    _wheel(folder, "peptide_masses", "1.0", {"peptide_masses.py": b"VERSION = '1.0'\n"})
    return folder


def _asking(wheels: Path, *lines: str) -> dict[str, str]:
    return {"backend/requirements.txt": "\n".join(["--no-index", f"--find-links {wheels}", *lines]) + "\n"}


@pytest.fixture
async def make_with_environments(make_bench: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    async def make(**settings: Any) -> Bench:
        bench: Bench = await make_bench(environments=Environments(tmp_path / "environments", 30), **settings)
        return bench

    return make


async def test_module_gets_what_it_needs_built_once_and_used_again(
    make_with_environments: Callable[..., Any], wheels: Path
) -> None:
    bench: Bench = await make_with_environments()
    module = bench.module("needy", BODY, files=_asking(wheels, "hla-compass==6.0.2", "peptide-masses==1.0"))
    first = await bench.run(module)
    assert first.results["version"] == "1.0"
    assert first.results["prefix"] != sys.prefix
    assert first.results["sdk"].startswith(first.results["prefix"])
    assert "which needs peptide-masses==1.0" in first.text
    assert "peptide-masses==1.0" in first.text.split("which needs", 1)[1].split("\n", 1)[1], "the installer's own lines"
    assert first.outcome.metrics.environment_seconds
    assert any("which needs peptide-masses==1.0" in line for line in first.built)
    again = await bench.run(module)
    assert again.results == first.results
    assert "Building an environment" not in again.text


async def test_without_uv_pip_builds_the_same(
    make_with_environments: Callable[..., Any], wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_uv", lambda: None)
    bench: Bench = await make_with_environments()
    module = bench.module("needy", BODY, files=_asking(wheels, "hla-compass==6.0.2", "peptide-masses==1.0"))
    first = await bench.run(module)
    assert first.results["version"] == "1.0"
    assert first.results["sdk"].startswith(first.results["prefix"])
    assert "Successfully installed" in first.text, "pip's own lines"
    greedy = bench.module("greedy", BODY, files=_asking(wheels, "peptide-masses==9.9"))
    verdict = conclude((await bench.run(greedy)).outcome)
    assert verdict.error is not None
    assert verdict.error.code == "RUN_ENVIRONMENT_FAILED"
    assert "No matching distribution found for peptide-masses==9.9" in verdict.error.message


async def test_what_cannot_be_resolved_fails_the_run_with_the_resolvers_words(
    make_with_environments: Callable[..., Any], wheels: Path
) -> None:
    bench: Bench = await make_with_environments()
    module = bench.module("greedy", BODY, files=_asking(wheels, "peptide-masses==9.9"))
    for _ in range(2):
        result = await bench.run(module)
        verdict = conclude(result.outcome)
        assert verdict.error is not None
        assert (verdict.status, verdict.error.code) == ("failed", "RUN_ENVIRONMENT_FAILED")
        assert "peptide-masses==9.9" in verdict.error.message
        assert not [path for path in (bench.root.parent / "environments").iterdir() if path.is_dir()]


async def test_satisfied_requirements_need_no_environment(make_with_environments: Callable[..., Any]) -> None:
    bench: Bench = await make_with_environments()
    module = bench.module(
        "content", "import sys; return self.success(results={'prefix': sys.prefix})",
        files={"backend/requirements.txt": "hla-compass==6.0.2  # the SDK\nnope; python_version < '3'\nattrs>=20\n"},
    )  # fmt: skip
    assert (await bench.run(module)).results == {"prefix": sys.prefix}


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("pyproject.toml", '[project]\nname = "x"\nrequires-python = ">=4.0"\n', "needs Python >=4.0"),
        ("backend/requirements.txt", "-r /etc/passwd\n", "is not a requirement"),
        ("backend/requirements.txt", "-e .\n", "is not a requirement"),
        ("backend/requirements.txt", "./wheel.whl\n", "is not a requirement"),
        ("backend/requirements.txt", "--pre -e ./here\n", "is not a requirement"),
        ("backend/requirements.txt", "--no-index -r /etc/passwd\n", "is not a requirement"),
        ("backend/requirements.txt", "--index-url http://h.example/${PIP_PASSWORD}\n", "is not a requirement"),
        ("backend/requirements.txt", "x @ https://h.example/${PIP_PASSWORD}.whl\n", "names no wheel"),
        ("backend/requirements.txt", "x @ file:///srv/x-1.0-py3-none-any.whl\n", "names no wheel"),
        ("backend/requirements.txt", "x @ git+https://h.example/x.whl\n", "names no wheel"),
        ("backend/requirements.txt", "x @ https://h.example/x-1.0.tar.gz\n", "names no wheel"),
    ],
)
def test_what_cannot_be_given_is_refused_with_a_reason(tmp_path: Path, path: str, text: str, said: str) -> None:
    (tmp_path / "backend").mkdir()
    (tmp_path / path).write_text(text)
    with pytest.raises(RequirementsRefused, match=re.escape(said)):
        read(tmp_path)


def test_the_installer_is_told_what_was_understood_and_nothing_else(tmp_path: Path) -> None:
    """A line the installer would read otherwise than we do could have it print any file of the devkit's user."""
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend/requirements.txt").write_text(
        "# said \\\n-r /etc/passwd\nhla-compass==6.0.2 \\\n    --hash=sha256:0f \\\n  --hash=sha256:1e  # both\n"
        "--only-binary=:none:\n--index-url=https://h.example/simple\n--pre\n"
        "x @ https://h.example/x-1.0-py3-none-any.whl#sha256=0f ; python_version > '3'\n"
    )
    found = read(tmp_path)
    assert found is not None
    assert found.text.splitlines() == [
        "hla-compass==6.0.2 --hash=sha256:0f --hash=sha256:1e",
        "--index-url https://h.example/simple",
        "--pre",
        'x @ https://h.example/x-1.0-py3-none-any.whl#sha256=0f ; python_version > "3"',
    ]


async def test_files_of_the_module_are_no_settings_of_the_installer(
    make_with_environments: Callable[..., Any], wheels: Path, tmp_path: Path
) -> None:
    """It installs as the devkit's user: `target` would put a module's code anywhere, the devkit's own folder too."""
    bench: Bench = await make_with_environments()
    settings = f'target = "{tmp_path / "elsewhere"}"\n'
    files = _asking(wheels, "hla-compass==6.0.2", "peptide-masses>=1.0")
    files |= {"backend/uv.toml": f"[pip]\n{settings}", "pyproject.toml": f"[tool.uv.pip]\n{settings}"}
    files |= {"backend/venv.py": "raise SystemExit('the module runs')", "backend/pip.py": "raise SystemExit('it runs')"}
    assert (await bench.run(bench.module("settled", BODY, files=files))).results["version"] == "1.0"
    assert not (tmp_path / "elsewhere").exists()


async def test_unfinished_and_aged_environments_are_removed_at_start(tmp_path: Path) -> None:
    root = tmp_path / "environments"
    for name, age in (("fresh", 1), ("aged", 31), ("unfinished", None)):
        (root / name / "bin").mkdir(parents=True)
        if age is not None:
            done = root / name / "complete"
            done.touch()
            os.utime(done, (done.stat().st_atime, done.stat().st_mtime - age * 86_400))
    await Environments(root, 30).open()
    assert [path.name for path in root.iterdir()] == ["fresh"]
