"""A trained network becomes a model repository: the definition's models with its weights, built as every other one."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from definition import declare_models
from earlier import SETTINGS, WEIGHTS, arrays_of

from tritonforge import File
from tritonforge.repository.artifact_builder import ArtifactBuilder, build_artifact
from tritonforge.repository.build_tree import MANIFEST
from tritonforge.repository.builder import build_repository
from tritonforge.repository.definition.loading import Definitions
from tritonforge.repository.definition.models import Model
from tritonforge.repository.download import ProgressCallback, no_progress

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
        models = declare_models(labels, side, weights=str(weights), kept=kept)
        definitions = Definitions(Path(__file__).with_name("definition.py"), models)
        built = Path(work, "repository")
        build_repository(definitions, built, builder=_LocalBuilder())
        shutil.copytree(built, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))


class _LocalBuilder(ArtifactBuilder):
    """Builds model files in this process, which has TensorFlow loaded and ends soon."""

    def build(
        self,
        definitions: Definitions,
        model: Model,
        version: int,
        *,
        destination: Path,
        on_progress: ProgressCallback = no_progress,
    ) -> dict[str, Any] | None:
        """Build one version directory."""
        signature = build_artifact(
            model, destination, base=definitions.folder, version=version, on_progress=on_progress
        )
        return None if signature is None else signature.to_json()
