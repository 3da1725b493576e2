"""What setup.cfg cannot say: the templates travel inside the package, so that `devkit new` finds them installed."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

TEMPLATES = Path(__file__).parent / "templates"
# By its path: the package cannot be imported before it is installed.
LEFT_OUT = runpy.run_path(str(Path(__file__).parent / "devkit_api" / "left_out.py"))["not_of_a_template"]


class BuildWithTemplates(build_py):
    """Copies `templates` into the package that is built; an editable install reads them where they are."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "devkit_api" / "templates"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(TEMPLATES, target, ignore=LEFT_OUT)


setup(cmdclass={"build_py": BuildWithTemplates})
