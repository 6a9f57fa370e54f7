"""Collect what `gpu_check.py` needs on a machine without a network: wheels and a repository, in parts below 64 MB.

``python tests/benchmarks/gpu/collect.py FOLDER`` needs the project's environment, a package index, and 6 GB of disk.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import sklearn
from parts import split_files

from tritonforge.repository.onnx_converter import convert_repository

ROOT: Final = Path(__file__).parents[3]

#: What runs ResNet-50 on the GPU is ONNX Runtime: the smallest set of wheels that has a CUDA runtime for it.
REQUIREMENTS: Final = (
    "onnxruntime-gpu>=1.21,<1.24",
    "nvidia-cublas-cu12",
    "nvidia-cudnn-cu12>=9",
    "nvidia-cufft-cu12",
    "nvidia-curand-cu12",
    "nvidia-cuda-runtime-cu12",
    "nvidia-cuda-nvrtc-cu12",
)


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the parts are written")
    parser.add_argument("--part-size", type=int, default=60, metavar="MB", help="default: %(default)s")
    parser.add_argument("--no-wheels", action="store_true", help="collect the repository only")
    parser.add_argument("--python", default="3.11", help="the target's Python (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder.absolute().parent) as made:
        whole = Path(made)
        if not options.no_wheels:
            download_wheels(whole, python=options.python)
        write_repository(whole / "repository.tar")
        parts = split_files(whole, options.folder, limit=options.part_size * 10**6)
    print(f"{len(parts)} parts in {options.folder}")  # noqa: T201 - a program that is run by hand


def download_wheels(folder: Path, *, python: str) -> None:
    """Put the project's wheel and all that it needs for DALI and the server into a folder."""
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("tritonforge-*.whl")
    glibc = [f"manylinux_{version}_x86_64" for version in ("2_35", "2_34", "2_28", "2_27", "2_17", "2_12", "2_5")]
    platforms = ["linux_x86_64", *glibc, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    target = ["--only-binary=:all:", "--python-version", python]
    target += [word for tag in platforms for word in ("--platform", tag)]
    command = [*pip, "download", "--dest", folder, *target, f"{wheel}[server,dali]", "pip", *REQUIREMENTS]
    subprocess.run(command, check=True)


def write_repository(path: Path) -> None:
    """Build ``repos/resnet50`` here, without a GPU, convert its network to ONNX, and add two photographs."""
    program = Path(sys.executable).with_name("tritonforge")
    with tempfile.TemporaryDirectory() as made:
        built, converted = Path(made, "built"), Path(made, "repository")
        subprocess.run([program, "build", "repos/resnet50", "-o", built], cwd=ROOT, check=True)
        shutil.rmtree(built / "resnet50_image_bytes")
        (built / ".tritonforge.json").unlink(missing_ok=True)
        convert_repository(built, converted, image="24.10")
        images = Path(made, "images")
        images.mkdir()
        for name in ("china.jpg", "flower.jpg"):
            shutil.copyfile(Path(sklearn.__file__).parent / "datasets" / "images" / name, images / name)
        with tarfile.open(path, "w") as archive:
            archive.add(converted, "repository")
            archive.add(images, "images")


if __name__ == "__main__":
    main()
