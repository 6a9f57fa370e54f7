"""The handlers of a package: ``code/inference.py``, imported as the container imports it.

Source: aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/python_service.py `_import_handlers`,
`_make_handler`, `default_handler` (images of TensorFlow Serving 2.20).
"""

from __future__ import annotations

import importlib.util
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tritonforge.errors import LaunchError
from tritonforge.serving.tfs.contract import Context
from tritonforge.triton.tfs_container import find_distribution

if TYPE_CHECKING:
    import requests

__all__ = ["Body", "Handler", "default", "load"]

#: Takes the request's stream and its Context, and gives the body and the content type of the answer.
Handler: TypeAlias = Callable[[Any, Context], Any]

_local = threading.local()


class Body:
    """A request's body as a handler sees it: it can be read once, and neither sought nor told a position.

    It has what gunicorn's `Body` has (gunicorn/http/body.py), so that code which needs more fails here too.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def read(self, size: int | None = None) -> bytes:
        """The next ``size`` bytes, or all that are left."""
        end = len(self._body) if size is None or size < 0 else self._position + size
        whole = self._position == 0 and end >= len(self._body)  # the usual case needs no copy
        piece = self._body if whole else self._body[self._position : end]
        self._position = min(end, len(self._body))
        return piece

    def readline(self, size: int | None = None) -> bytes:
        """The next line with its end, at most ``size`` bytes of it."""
        found = self._body.find(b"\n", self._position)
        length = (len(self._body) if found < 0 else found + 1) - self._position
        return self.read(length if size is None or size < 0 else min(size, length))

    def readlines(self, size: int | None = None) -> list[bytes]:
        """The lines that are left."""
        return list(self)

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line


def load(inference: Path) -> Handler:
    """The handler of an ``inference.py``: its ``handler``, else its ``input_handler`` and ``output_handler`` as one.

    Raises:
        LaunchError: it cannot be imported, or has no handlers; the container does not start then.
    """
    spec = importlib.util.spec_from_file_location("inference", inference)
    assert spec is not None
    assert spec.loader is not None
    # As in the container, the module is not put into sys.modules.
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    # Whatever a user's program raises is told in one line, with the place.
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise LaunchError(_not_imported(inference, error)) from error
    if hasattr(module, "handler"):
        made: Handler = module.handler
        return made
    if hasattr(module, "input_handler") and hasattr(module, "output_handler"):
        return _paired(module.input_handler, module.output_handler)
    raise LaunchError(
        f"{inference}: Handlers are not implemented correctly in user script: define handler(data, context), or "
        "input_handler(data, context) and output_handler(response, context)"
    )


def default(data: Body, context: Context) -> Any:
    """The handler of a package that has code, but no ``inference.py``: the body is posted as it is."""
    return _checked(_post(context, data.read().decode("utf-8"))).content, context.accept_header


def _paired(input_handler: Callable[..., Any], output_handler: Callable[..., Any]) -> Handler:
    def handler(data: Body, context: Context) -> Any:
        return output_handler(_checked(_post(context, input_handler(data, context))), context)

    return handler


def _post(context: Context, data: Any) -> requests.Response:
    """TensorFlow Serving's answer; each thread keeps a connection of its own."""
    import requests

    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.trust_env = False  # a proxy is not to see what goes to this machine itself
    answer: requests.Response = _local.session.post(context.rest_uri, data=data, timeout=context.timeout)
    return answer


def _checked(response: requests.Response) -> requests.Response:
    """A good answer; any other is raised with its status, before an output_handler sees it."""
    import falcon

    if response.status_code != 200:
        raise falcon.HTTPError(
            falcon.code_to_http_status(response.status_code),
            description=response.content.decode("utf-8", "replace"),
        )
    return response


def _not_imported(inference: Path, error: BaseException) -> str:
    place = str(inference)
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == place]
    if isinstance(error, SyntaxError) and error.filename == place:
        place = f"{inference}:{error.lineno}"
    elif frames:
        place = f"{inference}:{frames[-1].lineno}"
    said = f"{place}: it cannot be imported: {type(error).__name__}: {error}"
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return said
    distribution = find_distribution(error.name.partition(".")[0])
    if distribution is not None:
        return f"{said}; the container has it, here run: pip install {distribution}"
    return f"{said}; put it into {inference.with_name('lib')}, or name it in {inference.with_name('requirements.txt')}"
