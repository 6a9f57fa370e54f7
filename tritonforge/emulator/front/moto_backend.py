"""The services beside SageMaker: S3, IAM, STS, autoscaling, logs, alarms and the rest, by moto in this process.

Requests of users and those of the emulator itself (`MotoBackend.client`) take the same path to moto's WSGI application,
so that the journal records all of them. moto keeps one state for the whole process and is not thread-safe, so a service
answers one request at a time, and a process can run one emulator.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from tritonforge.emulator.front import service_errors
from tritonforge.emulator.front.http_request import HttpRequest, parse_route
from tritonforge.emulator.interfaces import Response
from tritonforge.errors import LaunchError, MissingExtraError

__all__ = ["IAM", "MotoBackend", "RequestRecorder", "has_unknown_subresource", "is_unrouted", "simulate_policy"]

#: The keys that sign the emulator's own requests; signatures are not verified.
_KEYS: Final = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}

#: A message to a topic may be delivered over HTTP to a listener that asks this emulator before it answers.
_UNLOCKED: Final = "sns"

#: Settings of the user's own that these requests must not follow: a profile, and variants of AWS's addresses.
_IGNORED: Final = ("profile", "config_file", "credentials_file", "use_dualstack_endpoint", "use_fips_endpoint")

#: What moto takes the access key of a request for that is not 20 characters long (BaseResponse.get_access_key).
_OTHER_KEYS: Final = "AKIAEXAMPLE"

_taken = threading.Lock()


class RequestRecorder(Protocol):
    """Records requests before they are answered: `request_journal.Journal`."""

    def record(
        self, incoming: HttpRequest, service: str
    ) -> contextlib.AbstractContextManager[Callable[[Response], None]]:
        """Return a context manager for one request, which yields a function that takes the response."""
        ...


class MotoBackend:
    """moto in this process: its services, and clients for them.

    Raises MissingExtraError if moto is not installed, LaunchError if an emulator already runs in this process.
    """

    def __init__(self) -> None:
        try:
            from moto.core import DEFAULT_ACCOUNT_ID

            application = _create_application()
        except ImportError as error:
            raise MissingExtraError("moto", extra="emulator") from error
        if not _taken.acquire(blocking=False):
            raise LaunchError("an emulator already runs in this process: stop it, or start this one in its own process")
        self.account: str = DEFAULT_ACCOUNT_ID
        self.recorder: RequestRecorder | None = None
        self._application = application
        self._locks: dict[str, threading.RLock] = {}
        self._clients: dict[tuple[str, str], Any] = {}
        self._guard = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Clear the state of moto."""
        from moto.moto_api._internal.models import moto_api_backend

        moto_api_backend.reset()

    def sign_in(self, role_arn: str, *, session: str, region: str) -> None:
        """Let GetCallerIdentity answer with a session of a role, for any key that does not have AWS's form.

        AWS's SDK takes its ``get_execution_role()`` from there. AssumeRole chooses keys itself, so moto's own state is
        set.
        """
        from moto.sts.models import sts_backends
        from moto.utilities.utils import get_partition

        backend = sts_backends[self.account][get_partition(region)]
        assumed = backend.assume_role(region, session, role_arn, "", 3600, "")
        assumed.access_key_id = _OTHER_KEYS

    def close(self) -> None:
        """Clear the state of moto, and let another emulator start in this process."""
        self.clear()
        _taken.release()

    def answer(self, incoming: HttpRequest) -> Response:
        """Return moto's response to a request, and record the request. Safe for use by many threads.

        Raises NotImplementedError for an operation or a service that moto does not have.
        """
        service = parse_route(incoming.method, incoming.path, incoming.query, incoming.headers).service or "s3"
        if service == "s3" and has_unknown_subresource(incoming):
            raise NotImplementedError(f"moto does not know the subresource of {incoming.query}")
        incoming.body()  # read before the lock is taken, as the client may be slow
        with self._lock(service):
            if self.recorder is None:
                return self.call(incoming)
            with self.recorder.record(incoming, service) as keep:
                response = self.call(incoming)
                keep(response)
                return response

    def call(self, incoming: HttpRequest) -> Response:
        """Return moto's response without recording the request. Raises as `answer`."""
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], failure: Any = None) -> Callable[[bytes], None]:
            started[:] = [int(status.split(" ", 1)[0]), tuple(headers)]
            return lambda piece: None

        pieces = self._application(incoming.build_environ(), start_response)
        try:
            body = b"".join(pieces)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
        response = Response(started[0], started[1], body)
        if is_unrouted(response):
            raise NotImplementedError(f"moto has no rule for {incoming.method} {incoming.path}")
        return response

    def client(self, service: str, region: str) -> Any:
        """Return a botocore client of a service whose requests stay in this process. Safe for use by many threads."""
        with self._guard:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._create_client(service, region)
            return self._clients[service, region]

    def _create_client(self, service: str, region: str) -> Any:
        from botocore.config import Config

        once = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
        made = _create_session().create_client(
            service, region_name=region, endpoint_url="http://127.0.0.1", config=once, **_KEYS
        )
        made.meta.events.register("before-send", self._send)
        return made

    def _send(self, request: Any, **_: Any) -> Any:
        """Answer a request of botocore's own: what a ``before-send`` handler returns replaces the network."""
        from botocore.awsrequest import AWSResponse

        body = request.body or b""
        content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else body.read()
        url = urlsplit(request.url)
        headers: Mapping[str, str] = {
            **{
                name: value.decode() if isinstance(value, bytes) else str(value)
                for name, value in request.headers.items()
            },
            "Host": url.netloc,
            "Content-Length": str(len(content)),
        }
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        answered = self.answer(HttpRequest(request.method, target, headers, io.BytesIO(content), 80))
        raw = _RawBody(answered.body)
        return AWSResponse(request.url, answered.status, _to_botocore_headers(answered), raw)

    @contextlib.contextmanager
    def _lock(self, service: str) -> Iterator[None]:
        if service == _UNLOCKED:
            yield
            return
        with self._guard:
            lock = self._locks.setdefault("" if self.recorder else service, threading.RLock())
        with lock:
            yield


@functools.cache
def _create_session() -> Any:
    """Create the session of the emulators' own clients: a process reads the models of the services once."""
    import botocore.session

    return botocore.session.Session(session_vars=dict.fromkeys(_IGNORED, (None, None, None, None)))


@functools.cache
def _create_application() -> Any:
    """Create moto's WSGI application, changed to raise for an unknown service, where moto prints.

    It holds no state but the routes of its services, which take long to make: the emulators of a process share it.
    """
    from moto.backends import list_of_moto_modules
    from moto.moto_server import werkzeug_app
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    werkzeug_app.RegexConverter = _accept_line_feeds(werkzeug_app.RegexConverter)
    modules = frozenset(list_of_moto_modules())  # moto lists its folder anew for each request

    class Services(DomainDispatcherApplication):  # type: ignore[misc]  # moto is without types
        def get_backend_for_host(self, host: str | None) -> Any:
            if host is None or host in modules:
                return host
            for backend, pattern in self.backend_url_patterns:
                if pattern.match(f"http://{host}"):
                    return backend
            raise NotImplementedError(f"moto has no service at {host}")

    return Services(create_backend_app)


def _accept_line_feeds(converter: Any) -> Any:
    """Extend moto's converter of paths, for which a key of S3 ends at a line feed, to keys that have one."""
    if converter.__name__ == "_WholePaths":
        return converter

    class _WholePaths(converter):  # type: ignore[misc]  # a class of moto's, which has no types
        def __init__(self, url_map: Any, *items: Any) -> None:
            super().__init__(url_map, f"(?s:{items[0]})")

    return _WholePaths


def _to_botocore_headers(response: Response) -> Any:
    from botocore.compat import HTTPHeaders

    return HTTPHeaders.from_pairs(response.headers)


class _RawBody(io.BytesIO):
    """The body as botocore reads it from urllib3."""

    def stream(self, amount: int = 65536, **_: Any) -> Iterator[bytes]:
        while piece := self.read(amount):
            yield piece


#: Subresources of S3 that moto does not know: it takes ``DELETE /bucket?analytics`` for DeleteBucket, and
#: ``PUT /bucket/key?renameObject`` for PutObject. tests/emulator/test_service_errors.py compares them with
#: the service model.
UNKNOWN_SUBRESOURCES: Final = frozenset(
    [
        "abac",
        "analytics",
        "annotation",
        "intelligent-tiering",
        "metadataAnnotationTable",
        "metadataConfiguration",
        "metadataInventoryTable",
        "metadataJournalTable",
        "metadataTable",
        "metrics",
        "renameObject",
        "requestPayment",
        "session",
        "torrent",
    ]
)

#: Bodies by which werkzeug answers a path or a method that moto's application has no rule for.
_UNROUTED: Final = (b"<!doctype html>", b"Not Found")
_STATUSES: Final = (404, 405)


def has_unknown_subresource(incoming: HttpRequest) -> bool:
    """Return True if a request to S3 names a subresource that moto would overlook."""
    return not UNKNOWN_SUBRESOURCES.isdisjoint(parse_qs(incoming.query, keep_blank_values=True))


def is_unrouted(response: Response) -> bool:
    """Return True if a response is that of moto's web framework, and not of a service."""
    if response.status not in _STATUSES:
        return False
    content_type = next((value for name, value in response.headers if name.lower() == "content-type"), "")
    return content_type.startswith("text/html") and response.body.lstrip().lower().startswith(
        tuple(start.lower() for start in _UNROUTED)
    )


IAM: Final = "iam"

_ACTION: Final = "SimulatePrincipalPolicy"
_NAMESPACE: Final = "https://iam.amazonaws.com/doc/2010-05-08/"
_PRINCIPAL: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(?P<kind>user|role|group)/(?:.*/)?(?P<name>[^/]+)")
_MEMBER: Final = re.compile(r"(?P<list>\w+)\.member\.(?P<index>\d+)")


def simulate_policy(incoming: HttpRequest, moto: MotoBackend, region: str) -> Response | None:
    """Return the response to SimulatePrincipalPolicy; None for every other request."""
    form = parse_qs(incoming.body().decode("utf-8", "replace"), keep_blank_values=True)
    if form.get("Action") != [_ACTION]:
        return None
    arn = form.get("PolicySourceArn", [""])[0]
    actions = _read_members(form, "ActionNames")
    if not arn or not actions:
        return service_errors.write_error(
            incoming, 400, "ValidationError", f"{_ACTION} needs PolicySourceArn and ActionNames."
        )
    found = _PRINCIPAL.fullmatch(arn)
    if found is None:
        return service_errors.write_error(incoming, 400, "InvalidInput", f"Invalid Entity Arn: {arn}")
    if not _has_principal(moto, region, found["kind"], found["name"], arn):
        return service_errors.write_error(
            incoming, 404, "NoSuchEntity", f"{found['kind'].title()} {arn} does not exist."
        )
    resources = _read_members(form, "ResourceArns") or ["*"]
    members = "".join(_write_result(action, resource) for action in actions for resource in resources)
    text = (
        f'<{_ACTION}Response xmlns="{_NAMESPACE}"><{_ACTION}Result><IsTruncated>false</IsTruncated>'
        f"<EvaluationResults>{members}</EvaluationResults></{_ACTION}Result></{_ACTION}Response>"
    )
    return Response(200, [("Content-Type", "text/xml")], text.encode())


def _write_result(action: str, resource: str) -> str:
    return (
        f"<member><EvalActionName>{escape(action)}</EvalActionName><EvalResourceName>{escape(resource)}"
        "</EvalResourceName><EvalDecision>allowed</EvalDecision><MatchedStatements/><MissingContextValues/></member>"
    )


def _read_members(form: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """Read a list of the query protocol, in its order."""
    found = {}
    for key, values in form.items():
        member = _MEMBER.fullmatch(key)
        if member is not None and member["list"] == name:
            found[int(member["index"])] = values[0]
    return [found[index] for index in sorted(found)]


def _has_principal(moto: MotoBackend, region: str, kind: str, name: str, arn: str) -> bool:
    from botocore.exceptions import ClientError

    client = moto.client(IAM, region)
    try:
        found = getattr(client, f"get_{kind}")(**{f"{kind.title()}Name": name})[kind.title()]
    except ClientError:
        return False
    return bool(found["Arn"] == arn)
