"""Commands that make a module: `new` and `lock`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import click
from rich.markup import escape

from devkit_api.cli.show import out
from devkit_api.left_out import not_of_a_template

# In a checkout beside the package, in an installed package inside it.
_PLACES = (Path(__file__).parents[2] / "templates", Path(__file__).parents[1] / "templates")
_NAME = re.compile(r"[a-z][a-z0-9-]{1,48}[a-z0-9]")
_REQUIREMENTS, _LOCK = "requirements.txt", "requirements.lock.txt"
# One lock for every platform, from the oldest Python the SDK takes; nothing in it tells where it was made.
_COMPILE = (
    "pip", "compile", "--generate-hashes", "--universal", "--python-version", "3.11", "--no-header",
    "--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--no-strip-extras", "--no-progress", "--quiet",
)  # fmt: skip


@click.command()
@click.argument("name")
@click.option("--template", type=click.Choice(["ui", "no-ui"]), default="no-ui", show_default=True)
@click.option(
    "--into",
    "parent",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder to make it in.",
)
def new(name: str, template: str, parent: Path) -> None:
    """Make a module NAME from a template: it validates, tests and runs as it is."""
    if not _NAME.fullmatch(name) or "--" in name:
        raise click.ClickException(
            f"{name!r} is not a module name: 3 to 50 lower-case letters, digits and single hyphens, a letter first"
        )
    source, target = _template(template), parent / name
    try:
        if os.path.lexists(target):
            raise click.ClickException(f"{target} exists already; choose another name or --into another folder")
        parent.mkdir(parents=True, exist_ok=True)
        # Complete before it appears under its name: a devkit may be watching.
        with tempfile.TemporaryDirectory(dir=parent, prefix=".new-") as folder:
            made = Path(folder) / name
            shutil.copytree(source, made, ignore=not_of_a_template)
            _rename(made, name)
            made.rename(target)
    except OSError as exc:
        raise click.ClickException(f"{target} cannot be made: {exc.strerror}") from None
    out.print(f"[green]Made[/green] {escape(str(target))} from the {template} template. Next:", soft_wrap=True)
    out.print(f"  python -m devkit_api serve --modules {escape(str(parent))}", soft_wrap=True)
    out.print(f"  {escape(str(target / 'README.md'))} says how to work on it", soft_wrap=True)


def _template(kind: str) -> Path:
    for place in _PLACES:
        folder = place / f"{kind}-template"
        if (folder / "manifest.json").is_file():
            return folder
    raise click.ClickException("the templates are missing from this installation; install the devkit again")


def _rename(folder: Path, name: str) -> None:
    """The template's own name becomes `name` wherever it is written: manifest, package, tests, README."""
    manifest = (folder / "manifest.json").read_text(encoding="utf-8")
    found = re.search(r'^  "name": "([^"]+)"', manifest, re.MULTILINE)
    assert found is not None  # noqa: S101  a template without a name is no template
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        renamed = text.replace(found[1], name)
        if renamed != text:
            path.write_text(renamed, encoding="utf-8")


@click.command()
@click.argument("module", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--upgrade", is_flag=True, help="Take the newest versions; default: keep those of the present lock.")
def lock(module: Path, upgrade: bool) -> None:
    """Write backend/requirements.lock.txt of the MODULE folder: every dependency, pinned and hashed. No Docker needed.

    Packages are found where uv finds them: PyPI, or what UV_INDEX_URL, UV_FIND_LINKS and the like say.
    """
    backend = module / "backend"
    if not (backend / _REQUIREMENTS).is_file():
        raise click.ClickException(f"{module} has no backend/{_REQUIREMENTS}; name the folder of a module")
    target = backend / _LOCK
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / _LOCK
        if target.is_file():
            shutil.copyfile(target, fresh)
        command = [_uv(), *_COMPILE, *(["--upgrade"] if upgrade else []), _REQUIREMENTS, "--output-file", str(fresh)]
        # What the resolver says goes to the terminal as it is; uv prints the lock itself as well.
        done = subprocess.run(command, check=False, cwd=backend, stdout=subprocess.DEVNULL)  # noqa: S603  no shell
        if done.returncode != 0:
            raise click.ClickException("the dependencies could not be resolved; uv's own message is above")
        drift = _drift(backend / _REQUIREMENTS, fresh)
        if drift:
            raise click.ClickException("`hla-compass check` would refuse this lock: " + "; ".join(drift))
        text = fresh.read_text(encoding="utf-8")
        _replace(target, fresh)
    pinned = sum(1 for line in text.splitlines() if "==" in line and not line.startswith((" ", "#")))
    out.print(f"[green]Locked[/green] {pinned} packages in {escape(str(target))}", soft_wrap=True)


def _uv() -> str:
    from uv import find_uv_bin

    try:
        return str(find_uv_bin())
    except FileNotFoundError:
        raise click.ClickException("uv is missing from this installation; install the devkit again") from None


def _replace(target: Path, fresh: Path) -> None:
    name = None
    try:
        # A name nobody can have put a link under, so that nothing outside the module is ever written.
        fd, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(fd, "wb") as file:
            file.write(fresh.read_bytes())
            os.fchmod(fd, 0o644)
        Path(name).replace(target)
    except OSError as exc:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        raise click.ClickException(f"{target} cannot be written: {exc.strerror}") from None


def _drift(requirements: Path, lock_file: Path) -> list[str]:
    """What `hla-compass check` would find wrong with the lock."""
    from hla_compass.requirements_lock import requirements_lock_drift

    return list(requirements_lock_drift(requirements, lock_file))
