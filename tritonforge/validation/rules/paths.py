"""Files that a configuration names by a path of the server's machine: whether they are there. No I/O."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from tritonforge.validation.rules.context import Context

__all__ = ["Whereabouts", "locate"]

#: "elsewhere": the file may be there where the server runs, which cannot be seen from here.
Whereabouts: TypeAlias = Literal["file", "directory", "missing", "other", "elsewhere"]

#: Where SageMaker unpacks an archive.
_SAGEMAKER: Final = "/opt/ml/model/"
#: Where NVIDIA's and AWS's images keep what they bring.
_OF_IMAGES: Final = "/opt/"


def locate(context: Context, path: str) -> Whereabouts:
    """What is at a path that the server opens as it is: an absolute one, or one relative to its working directory.

    An absolute path outside the repository counts as it is on this machine, unless the repository is meant for an
    image. One that ends as a path of the repository does may be right where the repository is mounted.
    """
    tree = context.tree
    if context.target == "sagemaker" and path.startswith(_SAGEMAKER):
        kind = tree.kind(path.removeprefix(_SAGEMAKER))
        return "elsewhere" if tree.leaves(path.removeprefix(_SAGEMAKER)) and kind != "missing" else kind
    here = tree.external.get(path, "missing")
    for_this_machine = context.image is None and context.target == "triton"
    if here != "missing":
        return here if for_this_machine else "elsewhere"
    if path.startswith(_OF_IMAGES):
        return "elsewhere"
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if any(tree.kind("/".join(parts[start:])) != "missing" for start in range(len(parts))):
        return "elsewhere"
    return "missing"
