"""Compile tritonforge/serving/loopback.c into the wheel, where there is a C compiler.

A wheel built without one, or with TRITONFORGE_PURE_WHEEL=1, is for any platform; `tritonforge.serving.loopback` then
compiles the library when a server first needs it, or refuses in one sentence. The wheel of a local build has the tag of
this machine (linux_x86_64), which package indexes refuse: `make package` gives it the manylinux tag that it satisfies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "tritonforge/serving/libtritonforge_loopback.so"


class LoopbackBuildHook(BuildHookInterface):
    """Adds the compiled library to a wheel, also to an editable one."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the library beside its source; a failure leaves a wheel without it."""
        if os.environ.get("TRITONFORGE_PURE_WHEEL") == "1":
            return
        compiler = shutil.which(os.environ.get("CC", "cc"))
        platform = sysconfig.get_platform()
        library = Path(self.root, LIBRARY)
        library.unlink(missing_ok=True)
        if compiler is None or not platform.startswith("linux"):
            self.app.display_warning(f"{LIBRARY}: not compiled (no C compiler for Linux)")
            return
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(library.with_name("loopback.c"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the C compiler
        if done.returncode:
            self.app.display_warning(f"{LIBRARY}: not compiled: {done.stderr.strip()}")
            return
        build_data["artifacts"].append(f"/{LIBRARY}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform.replace('-', '_').replace('.', '_')}"
