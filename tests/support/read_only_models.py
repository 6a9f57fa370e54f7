"""A Python model with a stub of its own in a file system of its own, as KServe mounts its download.

    unshare --user --map-root-user --mount python -m tests.support.read_only_models FOLDER ro|rw

Prints the server's sentences, one a line; none where the model loads.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.python_models import IDENTITY
from tests.support.server_oracle import Oracle, write

CONFIG = (
    'backend: "python" input { name: "in_A" data_type: TYPE_FP32 dims: [1] } '
    'output { name: "out_A" data_type: TYPE_FP32 dims: [1] }'
)


def main() -> None:
    """Mount, write the model, make the mount read-only where asked, and start the server on it."""
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    oracle = Oracle(folder, real=("python",))
    repository = folder / "mounted"
    repository.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(repository)], check=True)
    model = repository / "m"
    write({"m/config.pbtxt": CONFIG, "m/1/model.py": IDENTITY}, repository, fresh=False)
    stub = next(folder.glob("**/backends/python/triton_python_backend_stub"))
    shutil.copyfile(stub, model / stub.name)
    (model / stub.name).chmod(0o644)
    subprocess.run(["mount", "-o", f"remount,{mode}", str(repository)], check=True)
    heard = oracle.listen(repository)
    sys.stdout.write("\n".join(heard.sentences))


if __name__ == "__main__":
    main()
