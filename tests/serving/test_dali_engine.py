"""The DALI engine without a server: who caused an error, and what it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.model_zoo import dali_pipeline
from tests.support.tensor_client import images, jpeg
from tritonforge.serving.backends.dali.engine import Engine
from tritonforge.serving.backends.requests import BackendRequest, RequestError

pytestmark = pytest.mark.framework


def engine(serialized: bytes, *, decodes_images: bool = True) -> Engine:
    """An engine with one output."""
    return Engine(serialized, ("PIXELS",), batch_size=16, num_threads=1, device_id=None, decodes_images=decodes_images)


def question(*files: bytes) -> BackendRequest:
    """A request with these files as its batch."""
    return BackendRequest({"IMAGE": images(*files)}, ("PIXELS",), len(files))


def halves() -> bytes:
    """A pipeline that refuses samples longer than four bytes, and joins the others."""
    from nvidia.dali import Pipeline, fn, types

    pipeline = Pipeline(batch_size=16, num_threads=1, device_id=None)
    with pipeline:
        given = fn.external_source(name="IMAGE", device="cpu", dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(fn.slice(given, 0, 4, axes=[0], out_of_bounds_policy="error"))
    return pipeline.serialize()


@pytest.fixture(scope="module")
def decoder() -> Engine:
    """A decoding pipeline."""
    return engine(dali_pipeline("cpu"))


def test_good_requests_of_one_batch_keep_their_answers(decoder: Engine) -> None:
    """Each request gets the pixels that it gets alone, whoever its neighbours are."""
    files = [jpeg(seed) for seed in range(4)]
    alone: list[Any] = [decoder.run([question(file)])[0] for file in files]
    asked = [question(files[0], files[1]), question(b"no image"), question(files[2]), question(b""), question(files[3])]
    answers: list[Any] = decoder.run(asked)
    assert [isinstance(answer, RequestError) for answer in answers] == [False, True, False, True, False]
    np.testing.assert_array_equal(answers[0]["PIXELS"], np.concatenate([answer["PIXELS"] for answer in alone[:2]]))
    np.testing.assert_array_equal(answers[2]["PIXELS"], alone[2]["PIXELS"])
    np.testing.assert_array_equal(answers[4]["PIXELS"], alone[3]["PIXELS"])


def test_damage_that_does_not_show_is_found_by_halving(decoder: Engine) -> None:
    """Bytes that begin and end as a JPEG does: nothing looks wrong, and the bad request is found all the same."""
    answers: list[Any] = decoder.run([question(jpeg(seed)) for seed in range(5)] + [question(b"\xff\xd8\xff\xd9")])
    assert [isinstance(answer, RequestError) for answer in answers] == [False] * 5 + [True]
    assert "input 'IMAGE': DALI cannot process it: " in str(answers[5])
    assert "#" not in str(answers[5])


def test_a_suspect_that_dali_decodes_is_not_blamed(decoder: Engine) -> None:
    """A sample that merely looks odd is answered, and the error names the one that fails."""
    odd = b"P6 2 2 255\n" + bytes(range(12))
    assert not isinstance(decoder.run([question(odd)])[0], RequestError)
    answers = decoder.run([question(odd, b"\xff\xd8\xff\xd9")])
    assert "sample 2 of 2" in str(answers[0])


def test_bytes_that_are_no_images_are_not_called_bad_images() -> None:
    """A pipeline without an image decoder gives DALI's own reason, in one line."""
    slicing = engine(halves(), decodes_images=False)
    answers: list[Any] = slicing.run([question(b"abcdef"), question(b"abc"), question(b"ghijkl")])
    assert bytes(answers[0]["PIXELS"][0]) == b"abcd"
    assert bytes(answers[2]["PIXELS"][0]) == b"ghij"
    assert str(answers[1]).startswith("input 'IMAGE': DALI cannot process it: ")
    assert "image" not in str(answers[1])
    assert "\n" not in str(answers[1])


def test_a_batch_that_is_too_large_is_an_error_and_no_crash(decoder: Engine) -> None:
    """Seventeen samples for a pipeline of sixteen; the pipeline continues."""
    assert isinstance(decoder.run([question(*[jpeg()] * 17)])[0], RequestError)
    assert not isinstance(decoder.run([question(jpeg())])[0], RequestError)
