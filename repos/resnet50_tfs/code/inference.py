"""Handlers: encoded images, alone or in ``tf.Example`` messages, to predictions as lines of JSON.

The container calls `input_handler` with each request, posts what it gives to TensorFlow Serving, and answers with what
`output_handler` makes of the reply. ``application/x-image`` is one image; ``application/x-tfexample`` is one Example,
or any number of them as TFRecords. Each image has its key ``image/encoded``.

Two things of AWS's post are done otherwise. A content type that is not taken is answered with 415: only falcon's HTTP
errors keep their status, every other exception becomes 500. And an Example is read by `tfexample`, in ``lib/``: the
container has no TensorFlow for Python, and none need be installed at each start.
"""

import base64
import json

import falcon
import tfexample

IMAGE = "application/x-image"
EXAMPLE = "application/x-tfexample"

#: Content types that are one image, and the key of an Example's image.
IMAGES = (IMAGE, "image/jpeg", "image/png")
KEY = "image/encoded"


def input_handler(data, context):
    """The body to post to TensorFlow Serving: ``{"instances": [{"b64": ...}, ...]}``, one instance an image.

    Raises:
        falcon.HTTPError: 415 for another content type, 400 for a body that is not what its type says.
    """
    kind = context.request_content_type.partition(";")[0].strip().lower()
    if kind not in (*IMAGES, EXAMPLE):
        raise falcon.HTTPUnsupportedMediaType(
            description=f'Unsupported content type "{context.request_content_type}": send {IMAGE} or {EXAMPLE}'
        )
    payload = data.read()
    if not payload:
        raise falcon.HTTPBadRequest(description="The request has no body")
    try:
        images = [payload] if kind in IMAGES else [tfexample.value(part, KEY) for part in tfexample.split(payload)]
    except ValueError as error:
        raise falcon.HTTPBadRequest(description=f"The body is not a valid {EXAMPLE}: {error}") from error
    return json.dumps({"instances": [{"b64": base64.b64encode(image).decode("ascii")} for image in images]})


def output_handler(response, context):
    """The answer's body and content type: a line ``{"predictions":[...]}`` for each image, in order.

    No line ends the body: batch transform puts one between answers (AssembleWith=Line).
    """
    if response.status_code != 200:
        # Images of TensorFlow Serving 2.20 answer with its status themselves; older ones pass the reply on.
        raise falcon.HTTPError(
            falcon.code_to_http_status(response.status_code), description=response.content.decode("utf-8", "replace")
        )
    predictions = json.loads(response.content)["predictions"]
    lines = [json.dumps({"predictions": [prediction]}, separators=(",", ":")) for prediction in predictions]
    return "\n".join(lines), "application/jsonlines" if "jsonlines" in context.accept_header else "application/json"
