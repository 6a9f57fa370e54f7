"""What a job leaves: the model and the output data, packed and put at their addresses. An edge."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tritonforge.training.job.folders import Folders, plain_files
from tritonforge.training.job.job import TrainingJob
from tritonforge.transform.places import Place

__all__ = ["Pack", "upload"]

#: Writes a folder's content as a .tar.gz.
Pack = Callable[[Path, Path], object]


def upload(job: TrainingJob, folders: Folders, place: Place, pack: Pack) -> tuple[str | None, str | None]:
    """Put the model and the output data at their addresses, None where there is none.

    Raises OSError, and TritonForgeError: of ``place``, or of ``pack``.
    """
    artifact = output = None
    if any(folders.model.iterdir()):
        artifact = job.artifact_uri
        if job.output.compression_type == "NONE":
            for path, file in plain_files(folders.model):
                copied = folders.scratch / "file"
                shutil.copyfile(file, copied, follow_symlinks=False)
                place.put(copied, artifact + path)
        else:
            _packed(folders.model, folders.scratch / "model.tar.gz", artifact, place, pack)
    if any(folders.output_data.iterdir()):
        output = f"{job.output_folder}/output.tar.gz"
        _packed(folders.output_data, folders.scratch / "output.tar.gz", output, place, pack)
    return artifact, output


def _packed(folder: Path, archive: Path, uri: str, place: Place, pack: Pack) -> None:
    pack(folder, archive)
    place.put(archive, uri)
    archive.unlink(missing_ok=True)
