"""Builds wheels whose hot path is compiled by mypyc: the same sources, as C. Off by default, see CONTRIBUTING.md."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ["CompileHook"]


class CompileHook(BuildHookInterface[Any]):
    """``modules`` in pyproject.toml: the files to compile."""

    _made: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put the results into the wheel, beside the sources that they go before."""
        if version == "editable":  # what is imported is the checkout
            return
        # Only a build that compiles has these.
        from mypyc.build import mypycify
        from setuptools import Distribution

        self._made = tempfile.TemporaryDirectory()
        made = self._made.name
        os.chdir(self.root)
        # Silent: of what they import, some needs packages that are optional, and not here.
        flags = ["--config-file=pyproject.toml", f"--cache-dir={made}/cache", "--follow-imports=silent"]
        extensions = mypycify(
            [*flags, *self.config["modules"]], opt_level="3", debug_level="0", target_dir=made, group_name="zerver"
        )
        build = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        build.build_lib, build.build_temp = f"{made}/lib", f"{made}/tmp"
        build.ensure_finalized()
        build.run()
        for folder, _, names in os.walk(build.build_lib):
            for name in names:
                path = os.path.join(folder, name)
                build_data["force_include"][path] = os.path.relpath(path, build.build_lib)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is written."""
        if self._made is not None:
            self._made.cleanup()
