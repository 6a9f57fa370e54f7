"""How fast and how small `tritonforge package` is, beside `tar czf` on the same files: whole processes, alternating.

Rows as in `wire`. The weights of 400 MB are normally distributed FP32, in which no compressor finds more than the
exponents; the SavedModels are those of `repos/resnet50`. Sizes are in MB where a row says so. The resident memory is
the highest that the process had, with a small repository and with a large one.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tritonforge.files import hash_file
from tritonforge.repository.build_tree import BuildManifest, FileEntry, hash_tree

Row = dict[str, Any]

ROOT = Path(__file__).parents[2]
WEIGHTS = 400_000_000
PAIRS = 3
CONFIG = """\
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: 1000 }
output { name: "y" data_type: TYPE_FP32 dims: 1000 }
"""


def run() -> list[Row]:
    """About two minutes on two cores, most of them `tar czf`'s."""
    sys.path.insert(0, str(ROOT))
    from tests.benchmarks.serving import build

    with tempfile.TemporaryDirectory() as folder:
        above = Path(folder)
        noise, small = (_weights(above / name, size) for name, size in (("noise", WEIGHTS), ("small", 40_000)))
        rows = _rows("400 MB of FP32 noise", noise, above, target=15)
        rows += _rows("two SavedModels of ResNet-50", build("resnet50"), above, target=None)
        peaks = [_ours(repository, above)[1] for repository in (noise, small)]
    return [
        *rows,
        {
            "name": "resident memory of `package` (MB): 400 MB of weights / 40 kB",
            "ours_ms": peaks[0] / 1e6,
            "other_ms": peaks[1] / 1e6,
            "ratio": peaks[0] / 1e6,
            "target": "< 100 MB",
            "ok": peaks[0] < 100e6,
        },
    ]


def _rows(name: str, repository: Path, folder: Path, *, target: int | None) -> list[Row]:
    """The rows of speed and of size for one repository."""
    pairs = [(_ours(repository, folder)[0], _tars(repository, folder)) for _ in range(PAIRS)]
    ours, tars = ((folder / archive).stat().st_size for archive in ("ours.tar.gz", "tars.tar.gz"))
    ratio = statistics.median(theirs / mine for mine, theirs in pairs)
    return [
        {
            "name": f"package {name}, whole process / tar czf",
            "ours_ms": statistics.median(mine for mine, _ in pairs) * 1e3,
            "other_ms": statistics.median(theirs for _, theirs in pairs) * 1e3,
            "ratio": ratio,
            "target": f">= {target}" if target is not None else "",
            "ok": target is None or ratio >= target,
        },
        {
            "name": f"size of {name} (MB): package / tar czf",
            "ours_ms": ours / 1e6,
            "other_ms": tars / 1e6,
            "ratio": ours / tars,
            "target": "<= 1.01",
            "ok": ours <= 1.01 * tars,
        },
    ]


def _weights(repository: Path, size: int) -> Path:
    """A repository with one model of a size in bytes, and the record that a build leaves."""
    (repository / "model" / "1").mkdir(parents=True)
    (repository / "model" / "config.pbtxt").write_text(CONFIG)
    weights = np.random.default_rng(0).standard_normal(size // 4, dtype=np.float32)
    weights.tofile(repository / "model" / "1" / "model.onnx")
    files = {}
    for path in ("model/1/model.onnx", "model/config.pbtxt"):
        status = (repository / path).stat()
        files[path] = FileEntry(status.st_size, status.st_mtime_ns, hash_file(repository / path))
    time.sleep(0.01)  # a tick of the file system's clock
    BuildManifest(hash_tree(files), files).write(repository)
    return repository


def _ours(repository: Path, folder: Path) -> tuple[float, int]:
    """Seconds of one `tritonforge package`, and the bytes of memory that it had at most."""
    target = folder / "ours.tar.gz"
    target.unlink(missing_ok=True)
    program = str(Path(sys.executable).with_name("tritonforge"))
    arguments = [program, "package", str(repository), "-o", str(target), "--image", "24.09"]
    peak = 0
    began = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(0.01)
        taken = time.perf_counter() - began
    assert process.returncode == 0
    return taken, peak


def _peak(pid: int) -> int:
    """The highest resident memory of a running process; not its rusage, which begins with its parent's."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _tars(repository: Path, folder: Path) -> float:
    """Seconds of one `tar czf`."""
    target = folder / "tars.tar.gz"
    target.unlink(missing_ok=True)
    tar = shutil.which("tar")
    assert tar is not None
    began = time.perf_counter()
    subprocess.run([tar, "czf", target, "-C", repository, "."], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    for row in run():
        mark = "ok" if row["ok"] else "MISSED"
        print(  # noqa: T201 - a benchmark that is run by hand prints its table
            f"{row['name']:66} {row['ours_ms']:9.1f} {row['other_ms']:9.1f} {row['ratio']:8.3f}"
            f" {row['target']:8} {mark}"
        )
