"""The handlers of a package (``code/inference.py``): their Python environment, their import, and the Context they get.

The environment is a virtual environment of the running Python. The image's packages are links to those that are
installed here, so that handlers cannot import anything that the image lacks; what ``code/requirements.txt`` names is
installed by pip from the configured index, as the image does at every start.

Source: aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/serve.py
`ServiceManager._setup_gunicorn`; python_service.py `_import_handlers`, `_make_handler`, `default_handler`; tfs_utils.py
`parse_request`, `make_tfs_uri`; tensorflowServing.js `make_tfs_uri`, `parse_custom_attributes` (images of TensorFlow
Serving 2.20).
"""

from __future__ import annotations

import csv
import importlib.util
import re
import subprocess
import sys
import threading
import traceback
import venv
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from tritonforge.errors import LaunchError
from tritonforge.serving.listener import Request
from tritonforge.triton.tfs_container import DISTRIBUTIONS, find_distribution

if TYPE_CHECKING:
    import requests

__all__ = [
    "CUSTOM_ATTRIBUTES", "PACKAGE_PATH", "Context", "Handler", "RequestBody", "build_context", "build_model_path",
    "create_environment", "install_requirements", "load_handler", "parse_attributes", "post_unchanged",
]  # fmt: skip

#: The folder below the environment's that holds a link to tritonforge, and nothing else: PYTHONPATH of the worker.
PACKAGE_PATH: Final = "tritonforge-path"

_IMAGE_PACKAGES: Final = "image-packages"
_ENVIRONMENT: Final = "python"


def create_environment(folder: Path, *, with_pip: bool) -> Path:
    """Create the environment in ``folder`` and return its Python.

    ``with_pip`` says whether `install_requirements` is to follow.

    Raises:
        LaunchError: the environment cannot be created.
    """
    packages = folder / _IMAGE_PACKAGES
    packages.mkdir()
    for name in sorted(DISTRIBUTIONS):
        _link_distribution(name, packages)
    own = folder / PACKAGE_PATH
    own.mkdir()
    package = Path(__file__).parents[2]
    (own / package.name).symlink_to(package)
    environment = folder / _ENVIRONMENT
    try:
        # A pip that is installed here can work on another environment, which saves the seconds of ensurepip.
        venv.EnvBuilder(symlinks=True, with_pip=with_pip and not _has_pip()).create(environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LaunchError(f"cannot create a Python environment for the handlers: {error}") from error
    site_packages = next((environment / "lib").glob("python*/site-packages"))
    (site_packages / "image_packages.pth").write_text(f"{packages}\n", encoding="utf-8")
    return environment / "bin" / "python"


def install_requirements(
    python: Path,
    requirements: Path,
    *,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    preexec: Callable[[], None] | None = None,
) -> None:
    """Install a requirements file into the environment of ``python``, which `create_environment` made.

    pip reads its own configuration and ``PIP_*`` of ``environment``; ``on_line`` is given its output. ``preexec`` runs
    in pip's process before it starts.

    Raises:
        LaunchError: pip failed; the message has its last error.
    """
    command = [sys.executable, "-m", "pip", "--python", str(python)] if _has_pip() else [str(python), "-m", "pip"]
    process: subprocess.Popen[str]
    with subprocess.Popen(  # noqa: S603 - pip, on the file of the package that is being served
        [*command, "install", "--no-input", "--disable-pip-version-check", "--requirement", str(requirements)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
        env={**environment, "PYTHONPATH": "", "PYTHONUNBUFFERED": "1"},
        preexec_fn=preexec,
    ) as process:
        assert process.stdout is not None
        last = ""
        try:
            for line in process.stdout:
                on_line(line.rstrip())
                if line.startswith("ERROR: "):
                    last = line.removeprefix("ERROR: ").strip()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        reason = last or f"pip ended with status {process.returncode}"
        raise LaunchError(f"{requirements}: failed to install required packages: {reason}")


def _has_pip() -> bool:
    """Return True if the running Python has a pip that supports ``--python`` (22.3)."""
    if importlib.util.find_spec("pip") is None:
        return False
    major, minor = (int(part) for part in metadata.version("pip").split(".")[:2])
    return (major, minor) >= (22, 3)


def _link_distribution(name: str, target: Path) -> None:
    """Link every file of an installed distribution below ``target``, whole packages by one link."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return  # the error of its import states how to install it
    linked: set[str] = set()
    for path in _list_recorded_paths(distribution):
        top = path.partition("/")[0]
        if top in linked or top in ("..", "__pycache__") or top.startswith("__editable__"):
            continue  # linked as a whole, or scripts and the like, which are not imported
        _link(Path(str(distribution.locate_file(""))), PurePosixPath(path).parts, target)
        if (target / top).is_symlink():
            linked.add(top)


def _list_recorded_paths(distribution: metadata.Distribution) -> Iterable[str]:
    """Return the paths of a distribution's files, which `Distribution.files` makes objects of one by one."""
    record = distribution.read_text("RECORD")
    if record is None:
        return map(str, distribution.files or ())
    return (row[0] for row in csv.reader(record.splitlines()) if row)


def _link(root: Path, parts: tuple[str, ...], target: Path) -> None:
    """Link the first directory of a path that is a package, or the file itself.

    A directory without ``__init__.py``, such as ``google``, is shared by several distributions, so it is made anew.
    """
    source, link = root, target
    for part in parts:
        source, link = source / part, link / part
        if link.is_symlink():
            return
        if source.is_file() or (source / "__init__.py").is_file() or source.suffix == ".dist-info":
            link.symlink_to(source)
            return
        if not source.is_dir():
            return  # a file that was removed after it was installed
        link.mkdir(exist_ok=True)


CUSTOM_ATTRIBUTES: Final = "x-amzn-sagemaker-custom-attributes"

_ATTRIBUTE: Final = re.compile(r"(tfs-[a-z\-]+=[^,]+)")
_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_VERSION: Final = re.compile(r"[0-9]+")
_METHODS: Final = ("predict", "classify", "regress")
_JSON: Final = "application/json"


class Context(NamedTuple):
    """The second argument of a handler, field by field as in the 2.20 container.

    ``model_name``, ``model_version`` and ``method`` are those of the custom attributes, or None. ``rest_uri`` is the
    address to post the prediction request to, ``channel`` a gRPC channel to the same server (None where it has no
    gRPC), ``content_length`` in bytes, ``timeout`` in seconds.
    """

    model_name: str | None
    model_version: str | None
    method: str | None
    rest_uri: str
    grpc_port: str
    channel: Any
    custom_attributes: str | None
    request_content_type: str
    accept_header: str
    content_length: int | None
    timeout: int


def parse_attributes(header: str | None) -> dict[str, str]:
    """Return the ``tfs-...=...`` pairs of a Custom-Attributes header."""
    pairs = (tuple(pair.split("=", 1)) for pair in _ATTRIBUTE.findall(header or ""))
    return dict(pairs)


def build_model_path(header: str | None, default_model: str, *, with_method: bool = True) -> str:
    """Return the path of TensorFlow Serving's REST API for a request with this Custom-Attributes header.

    Raises:
        ValueError: the container refuses an attribute; it answers 400 with this sentence.
    """
    pairs = parse_attributes(header)
    name = pairs.get("tfs-model-name")
    version = pairs.get("tfs-model-version")
    method = pairs.get("tfs-method", "predict")
    if name is not None and not _MODEL_NAME.fullmatch(name):
        raise ValueError("invalid tfs-model-name")
    if version is not None and not _VERSION.fullmatch(version):
        raise ValueError("invalid tfs-model-version: must be a positive integer")
    if method not in _METHODS:
        raise ValueError("invalid tfs-method: must be one of predict|classify|regress")
    path = f"/v1/models/{name or default_model}"
    if version is not None:
        path += f"/versions/{version}"
    return f"{path}:{method}" if with_method else path


def build_context(
    request: Request,
    *,
    default_model: str,
    rest_address: str,
    grpc_port: str,
    channel: Any,
    timeout: int,
) -> Context:
    """Return the Context of a request; ``rest_address`` is that of TensorFlow Serving, ``http://host:port``.

    Raises:
        ValueError: as `build_model_path`.
    """
    headers: Mapping[str, str] = request.headers
    header = headers.get(CUSTOM_ATTRIBUTES)
    pairs = parse_attributes(header)
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    return Context(
        model_name=pairs.get("tfs-model-name"),
        model_version=pairs.get("tfs-model-version"),
        method=pairs.get("tfs-method"),
        rest_uri=rest_address + build_model_path(header, default_model),
        grpc_port=grpc_port,
        channel=channel,
        custom_attributes=header,
        request_content_type=headers.get("content-type") or _JSON,
        accept_header=headers.get("accept") or _JSON,
        content_length=None if chunked or "content-length" not in headers else int(headers["content-length"]),
        timeout=timeout,
    )


#: Takes the request's stream and its Context, and gives the body and the content type of the answer.
Handler: TypeAlias = Callable[[Any, Context], Any]

_local = threading.local()


class RequestBody:
    """A request's body for a handler: it can be read once, and has no position.

    It has what gunicorn's `RequestBody` has (gunicorn/http/body.py), so that code which needs more fails here too.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def read(self, size: int | None = None) -> bytes:
        """Return the next ``size`` bytes, or all that are left."""
        end = len(self._body) if size is None or size < 0 else self._position + size
        whole = self._position == 0 and end >= len(self._body)  # the usual case needs no copy
        piece = self._body if whole else self._body[self._position : end]
        self._position = min(end, len(self._body))
        return piece

    def readline(self, size: int | None = None) -> bytes:
        """Return the next line with its end, at most ``size`` bytes of it."""
        end = self._body.find(b"\n", self._position)
        length = (len(self._body) if end < 0 else end + 1) - self._position
        return self.read(length if size is None or size < 0 else min(size, length))

    def readlines(self, size: int | None = None) -> list[bytes]:
        """Return the lines that are left."""
        return list(self)

    def __iter__(self) -> RequestBody:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line


def load_handler(inference: Path) -> Handler:
    """Return the ``handler`` of an ``inference.py``, else its ``input_handler`` and ``output_handler`` as one.

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
    # Whatever a user's program raises is reported in one line, with the place.
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        raise LaunchError(_explain_import_error(inference, error)) from error
    if hasattr(module, "handler"):
        handler: Handler = module.handler
        return handler
    if hasattr(module, "input_handler") and hasattr(module, "output_handler"):
        return _pair_handlers(module.input_handler, module.output_handler)
    raise LaunchError(
        f"{inference}: Handlers are not implemented correctly in user script: define handler(data, context), or "
        "input_handler(data, context) and output_handler(response, context)"
    )


def post_unchanged(data: RequestBody, context: Context) -> Any:
    """Post the body unchanged: the handler of a package that has code, but no ``inference.py``."""
    return _check_status(_post(context, data.read().decode("utf-8"))).content, context.accept_header


def _pair_handlers(input_handler: Callable[..., Any], output_handler: Callable[..., Any]) -> Handler:
    def handler(data: RequestBody, context: Context) -> Any:
        return output_handler(_check_status(_post(context, input_handler(data, context))), context)

    return handler


def _post(context: Context, data: Any) -> requests.Response:
    """Post to TensorFlow Serving; each thread keeps a connection of its own."""
    import requests

    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.trust_env = False  # no proxy for requests to this machine itself
    answer: requests.Response = _local.session.post(context.rest_uri, data=data, timeout=context.timeout)
    return answer


def _check_status(response: requests.Response) -> requests.Response:
    """Return a successful answer; raise any other with its status, before an output_handler gets it."""
    import falcon

    if response.status_code != 200:
        raise falcon.HTTPError(
            falcon.code_to_http_status(response.status_code),
            description=response.content.decode("utf-8", "replace"),
        )
    return response


def _explain_import_error(inference: Path, error: BaseException) -> str:
    place = str(inference)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == place]
    if isinstance(error, SyntaxError) and error.filename == place:
        place = f"{inference}:{error.lineno}"
    elif frames:
        place = f"{inference}:{frames[-1].lineno}"
    message = f"{place}: it cannot be imported: {type(error).__name__}: {error}"
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return message
    distribution = find_distribution(error.name.partition(".")[0])
    if distribution is not None:
        return f"{message}; the container has it, here run: pip install {distribution}"
    return (
        f"{message}; put it into {inference.with_name('lib')}, or name it in {inference.with_name('requirements.txt')}"
    )
