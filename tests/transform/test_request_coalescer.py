"""Several records in one request: what each gets is what it would have got alone."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.folder_transforms import FRAMES, Folder, Model
from tritonforge.errors import DecodeError
from tritonforge.inference.wire import decode_request, encode_response, sagemaker_header_length, sagemaker_headers
from tritonforge.transform import RAW, Reply, RequestCoalescer

TEXT = RequestCoalescer(name="EXAMPLE", datatype="BYTES", max_batch=8)
IMAGES = RequestCoalescer(name="IMAGE", datatype="UINT8", max_batch=4)


def jpeg(number: int) -> bytes:
    """A JPEG of its own size."""
    buffer = io.BytesIO()
    Image.new("RGB", (8 + number, 8), (number, 2 * number, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


class Triton(Model):
    """Answers raw requests and batches as Triton does; ``twist`` adds what a batch does to a model's numbers."""

    def __init__(self, name: str, *, twist: float = 0.0, bad: bytes = b"\0none", **options: Any) -> None:
        super().__init__(**options)
        self.name = name
        self.twist = twist
        self.bad = bad
        self.batches: list[int] = []

    def invoke(self, body: Any, headers: Any, *, timeout: float) -> Reply:
        """Answer a batch, and note how large it was."""
        data = bytes(body)
        length = sagemaker_header_length(headers["Content-Type"], size=len(data))
        request = decode_request(data, header_length=length)
        if request.raw is not None:
            records = [bytes(request.raw)]
        else:
            array = request.inputs[self.name]
            records = [bytes(row[0]) if array.dtype == object else row.tobytes() for row in array]
        self.batches.append(len(records))
        super().invoke(data, headers, timeout=timeout)
        if any(self.bad in record for record in records):
            return Reply(400, {}, b'{"error":"one of them is not an image"}')
        # The padding of an image ends with zeros, which a decoder does not look at.
        sums = [float(sum(record.rstrip(b"\0"))) + self.twist * (len(records) > 1) for record in records]
        outputs = {
            "sum": np.array(sums, np.float32).reshape(-1, 1),
            "text": np.array([[record[:3]] for record in records], dtype=object),
        }
        payload = encode_response(outputs, model_name="m")
        return Reply(200, {"content-type": sagemaker_headers(payload)["Content-Type"]}, payload.body)


def run(folder: Folder, model: Triton, gathering: RequestCoalescer | None, **fields: Any) -> Any:
    """A job over raw records."""
    options = {"coalescer": gathering, "always_coalesce": fields.pop("always", False)}
    return folder.run(model, content_type=RAW, max_concurrent_transforms=2, retries=0, options=options, **fields)


@pytest.mark.parametrize(("gathering", "most"), [(TEXT, 8), (IMAGES, 4)])
def test_gathered_answers_are_those_of_records_alone(folder: Folder, gathering: RequestCoalescer, most: int) -> None:
    """Byte by byte; and there are fewer requests, none of more records than the model takes."""
    folder.write({f"{number:02}": jpeg(number) for number in range(60)})
    alone = Triton(gathering.name, delay=0.002)
    assert run(folder, alone, None).state == "Completed"
    expected = folder.outputs()
    together = Triton(gathering.name, delay=0.002)
    outcome = run(folder, together, gathering)
    assert (outcome.state, outcome.records, outcome.notes) == ("Completed", 60, ())
    assert folder.outputs() == expected
    assert len(together.batches) < 45 < len(alone.batches) == 60
    assert max(together.batches) <= most
    assert max(together.batches) > 1


def test_records_of_one_object_are_gathered_too(folder: Folder) -> None:
    """And stay in order."""
    folder.write({"a": b"".join(FRAMES["TFRecord"](b"%03d" % number) for number in range(100))})
    fields = {"split_type": "TFRecord", "batch_strategy": "SingleRecord", "assemble_with": "Line"}
    assert run(folder, Triton("EXAMPLE"), None, **fields).state == "Completed"
    expected = folder.outputs()
    together = Triton("EXAMPLE", delay=0.002)
    assert run(folder, together, TEXT, **fields).state == "Completed"
    assert folder.outputs() == expected
    assert len(together.batches) < 80


def test_a_bad_record_is_found_among_those_it_went_with(folder: Folder) -> None:
    """The request of all fails; each is then asked alone, and only the bad one's object has no output."""
    folder.write({f"{number:02}": b"bad" if number == 13 else b"%d" % number for number in range(40)})
    outcome = run(folder, Triton("EXAMPLE", bad=b"bad", delay=0.002), TEXT)
    assert [failure.uri for failure in outcome.failures] == [str(folder.source / "13")]
    assert len(folder.outputs()) == 39


@pytest.mark.slow
def test_a_model_whose_numbers_depend_on_the_batch_is_asked_one_by_one(folder: Folder) -> None:
    """One comparison finds it; the outputs are those of records alone, and a note says why it is slower."""
    folder.write({f"{number:02}": b"%d" % number for number in range(60)})
    assert run(folder, Triton("EXAMPLE"), None).state == "Completed"
    expected = folder.outputs()
    twisted = Triton("EXAMPLE", twist=1.0, delay=0.002)
    outcome = run(folder, twisted, TEXT)
    assert folder.outputs() == expected
    assert any("depend on what else is in the batch" in note for note in outcome.notes)
    assert sum(1 for batch in twisted.batches if batch > 1) <= 2
    always = Triton("EXAMPLE", twist=1.0, delay=0.002)
    assert run(folder, always, TEXT, always=True).notes == ()
    assert folder.outputs() != expected


@pytest.mark.parametrize("content_type", ["application/json", None, "application/x-image"])
def test_only_raw_records_are_gathered(folder: Folder, content_type: str | None) -> None:
    """A request in JSON is the user's own."""
    folder.write({f"{number}": b"%d" % number for number in range(20)})
    model = Model(delay=0.002)
    folder.run(model, content_type=content_type, max_concurrent_transforms=2, options={"coalescer": TEXT})
    assert len(model.bodies) == 20


def test_what_is_no_image_is_not_padded() -> None:
    """Zeros at its end would be part of it; text elements need no padding."""
    assert not IMAGES.can_add(b"plain text", [])
    assert IMAGES.can_add(jpeg(1), [jpeg(2)])
    assert TEXT.can_add(b"plain text", [b"more"])


def test_a_batch_is_not_mostly_padding() -> None:
    """A large image among small ones goes alone, and a full batch takes no more."""
    small, large = jpeg(1), b"\xff\xd8\xff" + bytes(10**6)
    assert not IMAGES.can_add(large, [small, small, small])
    assert IMAGES.can_add(large, [large])
    assert not IMAGES.can_add(small, [small] * 4)
    assert not TEXT.can_add(bytes(9 << 20), [bytes(9 << 20)])


def test_an_answer_without_a_row_for_each_record_is_an_error() -> None:
    """A model that answers a batch as one cannot be gathered for."""
    payload = encode_response({"x": np.zeros(3)}, model_name="m")
    headers = {"content-type": sagemaker_headers(payload)["Content-Type"]}
    with pytest.raises(DecodeError, match=re.escape("the shape [3] for a batch of 2")):
        TEXT.split_response(payload.body, headers, 2)
