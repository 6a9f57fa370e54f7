"""Tests of `tritonforge.model_files.dali_pipeline` against DALI itself."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tritonforge
from tritonforge.errors import ArtifactError
from tritonforge.model_files import dali_pipeline
from tritonforge.model_files.signature import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = '''
from nvidia.dali import fn, types
from nvidia.dali.pipeline import Pipeline


def pipeline(decoder, copy=False):
    """A secret word of the source: marzipan."""
    pipe = Pipeline(batch_size=4, num_threads=2, device_id=None, prefetch_queue_depth=1)
    with pipe:
        encoded = fn.external_source(name="ENCODED", device="cpu", dtype=types.UINT8, ndim=1)
        images = fn.decoders.image(encoded, device=decoder, output_type=types.RGB)
        images = fn.resize(images, resize_x=20, resize_y=16)
        scale = fn.external_source(name="SCALE", device="cpu", dtype=types.FLOAT, ndim=0)
        if copy:
            scale = scale.gpu()
        floats = fn.crop_mirror_normalize(images, dtype=types.FLOAT, output_layout="HWC", mean=[127.5], std=[64.0])
        pipe.set_outputs(floats * scale, images)
    return pipe
'''

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def pipeline() -> Callable[..., Any]:
    """The function `pipeline` of SOURCE."""
    namespace: dict[str, Any] = {}
    exec(compile(SOURCE, "/some/where/preprocess.py", "exec"), namespace)
    return namespace["pipeline"]  # type: ignore[no-any-return]  # exec gives no types


@pytest.fixture(scope="module")
def written(pipeline: Callable[..., Any]) -> bytes:
    """A pipeline written for the GPU on this machine, which has none."""
    return bytes(pipeline("mixed", copy=True).serialize())


def run(data: bytes) -> list[Any]:
    """The outputs of a serialised pipeline for two PNG pictures of different sizes."""
    from nvidia.dali.pipeline import Pipeline
    from PIL import Image

    generator = np.random.default_rng(7)
    encoded = []
    for height, width in ((30, 44), (17, 9)):
        buffer = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(buffer, "PNG")
        encoded.append(np.frombuffer(buffer.getvalue(), np.uint8))
    pipe = Pipeline.deserialize(data, batch_size=2, num_threads=1)
    pipe.build()
    pipe.feed_input("ENCODED", encoded)
    pipe.feed_input("SCALE", [np.float32(1.0), np.float32(3.0)])
    return [output.as_array() for output in pipe.run()]


def test_moved_to_the_cpu_it_computes_what_the_cpu_pipeline_computes(
    written: bytes, pipeline: Callable[..., Any]
) -> None:
    """A mixed pipeline with a GPU copy, moved here, runs and equals the one written for the CPU, bit by bit."""
    assert dali_pipeline.needs_gpu(written)
    moved = dali_pipeline.move_to_cpu(written)
    assert not dali_pipeline.needs_gpu(moved)
    for here, there in zip(run(moved), run(bytes(pipeline("cpu").serialize())), strict=True):
        np.testing.assert_array_equal(here, there)


def test_moving_twice_changes_nothing(written: bytes) -> None:
    """A pipeline that is on the CPU is left byte for byte."""
    moved = dali_pipeline.move_to_cpu(written)
    assert dali_pipeline.move_to_cpu(moved) == moved


def test_a_stripped_pipeline_runs_and_is_the_same_computation(pipeline: Callable[..., Any]) -> None:
    """Stripping keeps every argument that matters."""
    data = bytes(pipeline("cpu").serialize())
    stripped = dali_pipeline.strip_source(data)
    assert len(stripped) < len(data)
    for here, there in zip(run(stripped), run(data), strict=True):
        np.testing.assert_array_equal(here, there)


def test_stripped_and_moved_equals_moved_and_stripped(written: bytes) -> None:
    """The two operations do not depend on their order."""
    assert dali_pipeline.move_to_cpu(dali_pipeline.strip_source(written)) == dali_pipeline.strip_source(
        dali_pipeline.move_to_cpu(written)
    )


def test_a_pipeline_written_for_the_gpu_names_a_gpu(written: bytes) -> None:
    """What was written without a GPU says CPU-only; stripped it says GPU 0, and moved to the CPU it says CPU-only."""
    assert dali_pipeline.parse(written).device_id == dali_pipeline.CPU_ONLY
    assert dali_pipeline.parse(dali_pipeline.strip_source(written)).device_id == 0
    assert dali_pipeline.parse(dali_pipeline.move_to_cpu(written)).device_id == dali_pipeline.CPU_ONLY


@pytest.mark.parametrize(
    "trace", [b"/some/where", b"preprocess.py", b"marzipan", b"fn.external_source", b"nvidia.dali"]
)
def test_no_trace_of_the_source_is_left(written: bytes, trace: bytes) -> None:
    """Neither path nor code nor module names stay in the file."""
    assert trace not in dali_pipeline.strip_source(written)
    if trace == b"preprocess.py":
        assert trace in written


def test_builds_in_two_folders_are_byte_equal(tmp_path: Path) -> None:
    """Two processes that write the same pipeline from sources in two folders give the same bytes."""
    builds = []
    for folder in ("one", "two/deeper"):
        home = tmp_path / folder
        home.mkdir(parents=True)
        (home / "preprocess.py").write_text(SOURCE)
        program = (
            "import sys, preprocess; from tritonforge.model_files import dali_pipeline;"
            "sys.stdout.buffer.write(dali_pipeline.strip_source(preprocess.pipeline('mixed').serialize()))"
        )
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(home), str(Path(tritonforge.__file__).parents[1]))),
        }
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=home, env=environment, capture_output=True, check=True
        )
        builds.append(done.stdout)
    assert builds[0]
    assert builds[0] == builds[1]


def test_the_signature_says_what_the_pipeline_declares(written: bytes) -> None:
    """Inputs by name with type and rank, outputs in their order; what is left open is None."""
    declared = dali_pipeline.read_signature(written)
    assert declared.inputs == (TensorSpec("ENCODED", "TYPE_UINT8", (-1, -1)), TensorSpec("SCALE", "TYPE_FP32", (-1,)))
    assert [(tensor.data_type, tensor.shape) for tensor in declared.outputs] == [(None, None), (None, None)]


def test_the_signature_reads_declared_outputs_and_layouts() -> None:
    """output_dtype, output_ndim and an input's layout are read from the file."""
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    pipe = Pipeline(batch_size=1, num_threads=1, device_id=None, output_dtype=[types.INT16], output_ndim=[3])
    with pipe:
        images = fn.external_source(name="IMAGES", device="cpu", layout="HWC")
        pipe.set_outputs(fn.cast(images, dtype=types.INT16))
    declared = dali_pipeline.read_signature(pipe.serialize())
    assert declared.inputs == (TensorSpec("IMAGES", None, (-1, -1, -1, -1)),)
    assert [(tensor.data_type, tensor.shape) for tensor in declared.outputs] == [("TYPE_INT16", (-1, -1, -1, -1))]


def test_the_type_numbers_are_those_of_the_installed_dali() -> None:
    """The table of element types and the CPU-only device number agree with DALI's own."""
    from nvidia.dali import types

    names = {"FLOAT16": "FP16", "FLOAT": "FP32", "FLOAT64": "FP64"}
    for name, member in types.DALIDataType.__members__.items():
        expected = f"TYPE_{names.get(name, name)}" if 0 <= int(member) <= 11 else None
        assert dali_pipeline.DATA_TYPES.get(int(member)) == expected
    assert types.CPU_ONLY_DEVICE_ID == dali_pipeline.CPU_ONLY


def test_unknown_fields_survive(written: bytes) -> None:
    """A field of a newer DALI, at the end of the message, is carried through both operations."""
    newer = written + bytes([0xA2, 0x06, 0x05]) + b"later"  # field 100, length-delimited
    assert b"later" in dali_pipeline.strip_source(newer)
    assert b"later" in dali_pipeline.move_to_cpu(newer)


@pytest.mark.parametrize("damaged", [b"", b"\xff", b"\x10\x04", b"not a pipeline at all", b"\x10\x04*\x02\n\x00"])
def test_damaged_bytes_are_an_artifact_error(damaged: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"^this is not a serialised DALI pipeline: [^\n]+$"):
        dali_pipeline.parse(damaged)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_damage_gives_a_result_or_an_artifact_error(written: bytes, data: st.DataObject) -> None:
    """Cut or altered files never raise anything but ArtifactError."""
    cut = data.draw(st.integers(0, len(written)))
    at = data.draw(st.integers(0, len(written) - 1))
    value = data.draw(st.integers(0, 255))
    altered = bytearray(written)
    altered[at] = value
    for damaged in (written[:cut], bytes(altered)):
        with contextlib.suppress(ArtifactError):
            dali_pipeline.read_signature(damaged)
            dali_pipeline.strip_source(damaged)
            dali_pipeline.move_to_cpu(damaged)
            dali_pipeline.needs_gpu(damaged)
