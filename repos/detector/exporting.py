"""A trained network becomes a model repository: the definition's models with its weights, built as every other one."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from definition import declared
from earlier import SETTINGS, WEIGHTS, arrays_of

from tritonforge import File
from tritonforge.repository.artifacts import ArtifactMaker, make
from tritonforge.repository.build import RECORD, build
from tritonforge.repository.definition.loading import Definitions
from tritonforge.repository.definition.models import Model

__all__ = ["export"]


def export(network: Any, *, categories: Sequence[int], labels: Sequence[str], side: int, folder: Path) -> None:
    """Write the repository into a folder: `detect` and its steps, `detector_image_bytes`, and what to go on from.

    ``categories`` are the classes' numbers in the training data, ``labels`` their names.
    """
    with tempfile.TemporaryDirectory(prefix="detector-") as work:
        weights = Path(work, "weights.npz")
        np.savez(weights, **arrays_of(network))
        settings = {"categories": list(categories), "labels": list(labels), "image_size": side}
        kept: dict[str, File | bytes] = {
            Path(WEIGHTS).name: File(path=str(weights)),
            Path(SETTINGS).name: json.dumps(settings).encode(),
        }
        models = declared(labels, side, weights=str(weights), kept=kept)
        definitions = Definitions(Path(__file__).with_name("definition.py"), models)
        built = Path(work, "repository")
        build(definitions, built, maker=_Here(), progress=_Quiet())
        shutil.copytree(built, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(RECORD))


class _Here(ArtifactMaker):
    """Makes model files in this process, which has TensorFlow at hand and ends soon."""

    def make(
        self,
        definitions: Definitions,
        model: Model,
        version: int,
        *,
        destination: Path,
        say: Callable[[str], None],
        moved: Callable[[int, int | None], None],
    ) -> Any:
        """Make one version directory."""
        found = make(model, destination, base=definitions.folder, report=say, version=version)
        return None if found is None else found.to_json()


class _Quiet:
    """Tells nobody."""

    def begin(self, what: str) -> None:
        """A piece of work begins."""

    def say(self, sentence: str) -> None:
        """A sentence."""

    def moved(self, done: int, total: int | None) -> None:
        """Bytes are moved."""
