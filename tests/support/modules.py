"""Modules for tests, written to disk as an author would write them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from tests.support.waiting import PATIENCE


def manifest(name: str, **changes: Any) -> dict[str, Any]:
    """A small valid manifest."""
    base = {
        "schemaVersion": "1.0",
        "name": name,
        "version": "1.0.0",
        "type": "no-ui",
        "computeType": "fargate",
        "description": "A module of the tests",
        "execution": {"entrypoint": "backend.main:Probe", "supports": ["interactive", "async", "workflow"]},
        "resources": {"memory": 512, "maxRuntimeSeconds": 600},
    }
    return {**base, **changes}


def write_module(folder: Path, execute: str = 'return self.success(results={"ok": True})', **changes: Any) -> Path:
    """A module whose `execute` has this body; its name is the folder's."""
    prelude = changes.pop("prelude", "")
    backend = folder / "backend"
    backend.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest(folder.name, **changes)))
    (backend / "__init__.py").write_text("")
    (backend / "requirements.txt").write_text("hla-compass==6.0.2\n")
    (backend / "main.py").write_text(module_source(execute, prelude))
    return folder


def drop_module(modules: Path, name: str, *arguments: str, **changes: Any) -> Path:
    """`write_module` for a directory that is watched: it comes whole, as a half of it would be registered as well."""
    made = write_module(modules.with_name(f"{modules.name}-made") / name, *arguments, **changes)
    return made.rename(modules / name)


def save(file: Path, text: str, beside: Path) -> None:
    """A file that somebody watches gets this text at once, without having been empty. `beside` is not watched."""
    fresh = beside / f"fresh-{file.name}"
    fresh.write_text(text)
    fresh.replace(file)


def module_source(execute: str, prelude: str = "") -> str:
    """`main.py` of a module whose `execute` has this body."""
    source = "from hla_compass import Module\n" + dedent(prelude) + "\n\nclass Probe(Module):\n"
    return source + "    def execute(self, input_data, context):\n" + indent(dedent(execute).strip(), " " * 8) + "\n"


def scaffold(parent: Path, name: str, template: str, environment: dict[str, str]) -> Path:
    """What `hla-compass init` makes, untouched."""
    command = [str(Path(sys.executable).with_name("hla-compass")), "init", name, "--template", template, "--yes"]
    subprocess.run(command, cwd=parent, env=environment, check=True, capture_output=True, timeout=PATIENCE)
    return parent / name
