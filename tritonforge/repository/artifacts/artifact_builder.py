"""What `tritonforge.repository.build.build` makes version directories with: each where it is quickest and safe.

Functions of the definition and what needs a framework run in a child process; files are copied here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonforge.errors import ArtifactError
from tritonforge.model_files.signature import DALI, GRAPHDEF, Signature
from tritonforge.repository.artifacts.artifact_content import FetchS3, kind, make
from tritonforge.repository.artifacts.child_process import make_in_child
from tritonforge.repository.artifacts.download import Moved, unwatched
from tritonforge.repository.artifacts.fingerprint import fingerprint
from tritonforge.repository.artifacts.signature_check import check, complete
from tritonforge.repository.definition.loading import Definitions
from tritonforge.repository.definition.models import Model
from tritonforge.repository.definition.sources import S3, File

__all__ = ["ArtifactMaker"]


@dataclass(frozen=True, slots=True)
class ArtifactMaker:
    """Makes, fingerprints and completes; ``fetch_s3`` gets objects from S3 and is needed for those alone."""

    fetch_s3: FetchS3 | None = None

    def fingerprint(self, model: Model, version: int, *, base: Path) -> str:
        """The digest of everything that the version's file depends on, without a framework."""
        return fingerprint(model, base=base, version=version)

    def make(
        self,
        definitions: Definitions,
        model: Model,
        version: int,
        *,
        destination: Path,
        say: Callable[[str], None],
        moved: Moved = unwatched,
    ) -> Any:
        """Make one version directory; what its file takes and gives as plain JSON, None where it is not read."""
        source = model.versions[version]
        # TensorFlow reads a GraphDef, and DALI runs a pipeline once.
        if isinstance(source, S3) or (isinstance(source, File) and kind(model) not in (GRAPHDEF, DALI)):
            found = make(
                model,
                destination,
                base=definitions.folder,
                report=say,
                version=version,
                fetch_s3=self.fetch_s3,
                moved=moved,
            )
        else:
            found = make_in_child(definitions.path, model.name, destination, report=say, moved=moved, version=version)
        return None if found is None else found.to_json()

    def complete(self, model: Model, signature: Any) -> Model:
        """The model with what it leaves out; raises ArtifactError with each point where it contradicts its file."""
        if signature is None:
            return model
        found = Signature.from_json(signature)
        differences = check(model, found)
        if differences:
            raise ArtifactError("\n".join(differences))
        return complete(model, found)
