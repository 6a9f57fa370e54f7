"""The import of TensorFlow, with a module in its place that notes how it was imported."""

import subprocess
import sys
from pathlib import Path

import pytest

MODULE = "import gc, sys\nSEEN = gc.isenabled(), sys.modules['keras']\n"
IMPORT = """
import gc
from tritonforge.tf_memory import import_tensorflow
print(import_tensorflow().SEEN, gc.isenabled(), gc.get_freeze_count() > 0)
"""


@pytest.mark.process
def test_tensorflow_is_imported_without_keras_and_garbage_collection(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(MODULE)
    (tmp_path / "keras.py").write_text("raise AssertionError")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{IMPORT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "(False, None) True True\n", done.stderr
