"""SageMaker on localhost as a context manager."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

from tritonforge.emulator import client_environment, emulated_s3, hosting
from tritonforge.emulator.control import cloudwatch, dispatcher
from tritonforge.emulator.control.cloudwatch import LogWriter
from tritonforge.emulator.control.deployments import DeploymentRunner
from tritonforge.emulator.control.dispatcher import Dispatcher
from tritonforge.emulator.control.endpoints import ENDPOINT
from tritonforge.emulator.control.fleet import Containers
from tritonforge.emulator.control.job_runner import Services
from tritonforge.emulator.control.request_context import Preconditions, RequestContext
from tritonforge.emulator.control.resource_store import ResourceStore
from tritonforge.emulator.control.training_jobs import Trainer
from tritonforge.emulator.front import moto_backend, service_errors
from tritonforge.emulator.front.http_request import DEFAULT_REGION, HttpRequest, is_region, parse_route
from tritonforge.emulator.front.http_server import HttpServer
from tritonforge.emulator.front.https_proxy import CertificateAuthority, ProxyServer
from tritonforge.emulator.front.moto_backend import MotoBackend
from tritonforge.emulator.front.request_journal import Journal
from tritonforge.emulator.front.s3_front import JournaledS3, S3Front
from tritonforge.emulator.hosting import program_containers
from tritonforge.emulator.interfaces import MAX_BODY, Request, Response
from tritonforge.emulator.runtime import Runtime
from tritonforge.errors import LaunchError
from tritonforge.escaping import escape_line
from tritonforge.files import describe_error

__all__ = ["Emulator"]

#: Bytes of a request to any service but S3 and the runtime, far beyond what AWS takes.
_MAX_REQUEST: Final = 64 * 2**20

#: The log stream of messages of the platform itself about an endpoint.
_STREAM: Final = "platform"

#: The session of the role that clients with the emulator's own keys are in, as in a SageMaker notebook.
_SESSION: Final = "tritonforge"


class Emulator:
    """A SageMaker on this machine, which runs as soon as the constructor returns; leave the ``with`` block to end it.

    Not emulated: signatures are not verified and IAM policies not evaluated; there is one account, moto's. Metrics do
    not drive autoscaling: a scalable target and its policies are stored, and DesiredInstanceCount changes by
    UpdateEndpointWeightsAndCapacities only. Instances share one container. Instance types, VPC, KMS and
    GenerateInferenceId are stored and described, but have no effect. EnableNetworkIsolation has none either:
    tritonserver shares this machine's network, and the programs of algorithms never have a network. Log lines, metric
    data, messages in queues and incomplete multipart uploads are lost at a restart, also with ``state``.

    Args:
        port: the port on 127.0.0.1; 0 chooses a free one.
        proxy_port: the port of an HTTPS proxy for AWS's host names; 0 chooses a free one, None starts no proxy. With
            `proxy_environment`, requests to every address of AWS are answered here, also from code that hard-codes
            them.
        state: a folder that keeps the control plane, S3, IAM and alarms over a restart. Endpoints then start their
            containers again, transform jobs continue, and training jobs start again from their checkpoints.
        speed: the divisor of every wait. At 1.0 a creation takes 3 s, or as long as its container needs; at 60 a minute
            of a DeploymentConfig takes one second.
        images: what custom images are, by URI: a release (``"24.09"``, ``"26.05+tensorflow"``), for TensorFlow Serving
            packages ``"tensorflow-inference"``, for an algorithm the program folder with the executables `train` and
            `serve` (``"repos/detector"``).
        limits: the account's quotas of instances by type, such as ``{"ml.g5.xlarge": 1}``; other types have none.
        region: the region of `environment`, of the role and of the bucket.
        allowed_hosts: names by which containers reach this machine (``host.docker.internal``, or with a port
            ``emulator:4566``). Requests for any host except these, 127.0.0.1 and ``localhost`` are rejected, and so are
            those of web pages, which could run code here.
        log: a function that takes one sentence for each event, never a header or a body.
        containers: a replacement of the module `hosting`, with its ``start``.
        trainer: a replacement of `run_training_job`.
        clock: the source of the times of SageMaker's resources, in seconds since 1970.

    Raises:
        DefinitionError: an image is declared as a folder without an executable train, serve or process.
        MissingExtraError: moto, or what a container needs, is not installed.
        LaunchError: the port is taken, or another emulator runs in this process.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        proxy_port: int | None = None,
        state: Path | str | None = None,
        speed: float = 1.0,
        images: Mapping[str, str | os.PathLike[str]] | None = None,
        limits: Mapping[str, int] | None = None,
        region: str = DEFAULT_REGION,
        allowed_hosts: Sequence[str] = (),
        log: Callable[[str], None] = lambda sentence: None,
        containers: Containers | None = None,
        trainer: Trainer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._images = program_containers.resolve_programs(images or {})
        self._log = log = _escape_log(log)
        self._speed = speed
        self._limits = dict(limits or {})
        self.region = region
        self._runtimes: dict[str, Runtime] = {}
        self._guard = threading.Lock()
        self._stopped = False
        with contextlib.ExitStack() as undo:
            self._moto = MotoBackend()
            undo.callback(self._moto.close)
            folder = None if state is None else Path(state).absolute()
            if folder is not None:
                emulated_s3.make_state_folder(folder)
                journal = Journal(folder / "neighbours")
                undo.callback(journal.close)
                journal.replay(self._moto)
                self._moto.recorder = journal
            self._s3 = JournaledS3(self._moto)
            self._storage = S3Front(self._moto, allowed_hosts=allowed_hosts)
            self._files = emulated_s3.make_container_folder(folder)
            undo.callback(shutil.rmtree, self._files, ignore_errors=True)
            self._store = ResourceStore(dispatcher.KINDS, None if folder is None else folder / "sagemaker", clock=clock)
            self._lines = LogWriter(self._moto)
            undo.callback(self._lines.close)
            undo.callback(self._close_runtimes)
            self._server: HttpServer | None = None
            undo.callback(self._join_server)
            self._services = Services(
                store=self._store,
                preconditions=Preconditions(self._moto, self._s3),
                s3=self._s3,
                containers=hosting if containers is None else containers,
                trainer=_import_trainer() if trainer is None else trainer,
                folder=self._files,
                work=self._files if folder is None else folder,
                images=self._images,
                speed=speed,
                write_line=self._lines.write,
                flush_lines=self._lines.flush,
                publish=partial(cloudwatch.publish_metrics, self._moto),
                log=log,
                runtime=self._find_runtime,
                context=self._create_context,
            )
            dispatcher.create_runners(self._services)
            runners = list(self._services.runners.values())
            for runner in runners:
                undo.callback(runner.close)
            self._dispatcher = Dispatcher(self._create_context, log)
            self._scaling = dispatcher.AutoscalingGate(self._store)
            try:
                self._server = HttpServer(port, self._answer, allowed_hosts=allowed_hosts)
            except OSError as error:
                raise _build_port_error(port, "port", error) from error
            undo.callback(self._server.stop)
            self.role_arn = client_environment.create_execution_role(self._moto, self.region)
            self.bucket = client_environment.create_default_bucket(self._moto, self.region)
            self._moto.sign_in(self.role_arn, session=_SESSION, region=self.region)
            clients = (self._files if folder is None else folder) / "clients"
            self._sdk_config = client_environment.write_sdk_config(clients, bucket=self.bucket)
            self._proxy = None if proxy_port is None else self._start_proxy(proxy_port, clients / "proxy", undo)
            for runner in runners:
                runner.restore()
            self._server.start()
            if self._proxy is not None:
                self._proxy.start()
            self._undo = undo.pop_all()

    @property
    def url(self) -> str:
        """The address of all services."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def account(self) -> str:
        """The twelve digits of the account."""
        return self._moto.account

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that unmodified code needs in its environment; any access keys are accepted."""
        return client_environment.build_client_environment(
            url=self.url, region=self.region, sdk_config=self._sdk_config
        )

    @property
    def proxy_url(self) -> str | None:
        """The address of the HTTPS proxy; None without one."""
        return None if self._proxy is None else f"http://127.0.0.1:{self._proxy.port}"

    @property
    def proxy_environment(self) -> Mapping[str, str]:
        """`environment`, with a proxy also the variables that send requests to all addresses of AWS through it."""
        if self._proxy is None:
            return self.environment
        authority = self._proxy.authority
        proxied = client_environment.build_proxy_environment(
            proxy_url=str(self.proxy_url), certificate=authority.certificate, bundle=authority.bundle
        )
        # Without the SDK's defaults, which the proxy makes needless: SDK 2 checks them anew at each of its steps, for
        # 0.13 s.
        return {
            name: value for name, value in self.environment.items() if name != client_environment.SDK_CONFIG
        } | proxied

    def flush(self) -> None:
        """Write what is buffered: captured data, and the log lines of containers."""
        for runtime in list(self._runtimes.values()):
            runtime.flush()
        self._lines.flush()

    def stop(self) -> None:
        """End the server and every container; may be called twice."""
        with self._guard:
            stopped, self._stopped = self._stopped, True
        if not stopped:
            self._undo.close()

    def __enter__(self) -> Emulator:
        """Return the emulator, which already runs."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answer(self, incoming: HttpRequest) -> Response:
        if incoming.path == client_environment.ENVIRONMENT_PATH:
            document = {"environment": dict(self.environment), "proxy_environment": dict(self.proxy_environment)}
            return Response(200, [("Content-Type", "application/json")], json.dumps(document).encode())
        route = parse_route(incoming.method, incoming.path, incoming.query, incoming.headers)
        try:
            if not is_region(route.region):
                return service_errors.build_error(incoming, "region", "Credential should be scoped to a valid region.")
            if route.kind == "control":
                if incoming.length > _MAX_REQUEST:
                    return service_errors.build_error(incoming, "too large", f"a request may have {_MAX_REQUEST} bytes")
                return self._dispatcher.answer(route.operation, route.region, incoming.body())
            if route.kind == "runtime":
                return self._invoke(route.region, incoming)
            if route.service == "sagemaker":  # SageMaker's own, and neither an operation nor a path of the runtime
                return service_errors.build_unsupported(incoming, "unknown")
            if self._storage.is_for_s3(route, incoming):
                return self._storage.answer(incoming)
            if incoming.length > _MAX_REQUEST:
                return service_errors.build_error(incoming, "too large", f"a request may have {_MAX_REQUEST} bytes")
            if route.service == dispatcher.AUTOSCALING and (refused := self._scaling.check(route.region, incoming)):
                return refused
            if route.service == moto_backend.IAM:
                simulated = moto_backend.simulate_policy(incoming, self._moto, route.region)
                if simulated is not None:
                    return simulated
            return self._moto.answer(incoming)
        except ConnectionError:
            raise  # the client closed the connection
        except Exception as error:
            self._log(
                f"{route.service or 's3'} {service_errors.find_operation(incoming)}: {type(error).__name__}: {error}"
            )
            return service_errors.build_failure(incoming, error)

    def _invoke(self, region: str, incoming: HttpRequest) -> Response:
        large = incoming.length > MAX_BODY
        request = Request(
            method=incoming.method,
            path=incoming.path,
            headers=incoming.headers,
            body=b"" if large else incoming.body(),
            length=incoming.length,
        )
        response = self._find_runtime(region).answer(request)
        if any(name.lower() == "x-amzn-requestid" for name, _ in response.headers):
            return response
        return Response(response.status, [*response.headers, ("x-amzn-RequestId", str(uuid.uuid4()))], response.body)

    def _create_context(self, region: str) -> RequestContext:
        return RequestContext(
            region=region,
            account=self.account,
            store=self._store,
            preconditions=self._services.preconditions,
            runners=self._services.runners,
            images=self._images,
            limits=self._limits,
        )

    def _find_runtime(self, region: str) -> Runtime:
        with self._guard:
            if region not in self._runtimes:
                self._runtimes[region] = self._create_runtime(region)
            return self._runtimes[region]

    def _create_runtime(self, region: str) -> Runtime:
        deployments = self._services.find_runner(ENDPOINT)
        assert isinstance(deployments, DeploymentRunner)
        return Runtime(
            partial(deployments.find_live, region),
            objects=self._s3,
            account=self.account,
            region=region,
            notify=lambda topic, message: self._notify(region, topic, message),
            log=lambda endpoint, sentence: self._lines.write(
                region, f"{ENDPOINT.log_group}/{endpoint}", _STREAM, sentence
            ),
            speed=self._speed,
        )

    def _notify(self, region: str, topic: str, message: str) -> None:
        from botocore.exceptions import ClientError

        try:
            self._moto.client("sns", region).publish(TopicArn=topic, Message=message)
        except ClientError as error:
            self._log(f"sns {topic}: {error}")

    def _join_server(self) -> None:
        """Wait for requests in progress; the containers have ended by now, so that none waits for one."""
        if self._server is not None:
            self._server.join()

    def _start_proxy(self, port: int, folder: Path, undo: contextlib.ExitStack) -> ProxyServer:
        assert self._server is not None
        authority = CertificateAuthority(folder)
        try:
            proxy = ProxyServer(port, self._answer, authority=authority, front_port=self._server.port)
        except OSError as error:
            raise _build_port_error(port, "proxy_port", error) from error
        undo.callback(proxy.join)
        undo.callback(proxy.stop)
        return proxy

    def _close_runtimes(self) -> None:
        for runtime in self._runtimes.values():
            runtime.close()


def _build_port_error(port: int, parameter: str, error: OSError) -> LaunchError:
    option = f"--{parameter.replace('_', '-')} PORT"
    return LaunchError(
        f"port {port} of 127.0.0.1: cannot listen: {describe_error(error)}. Choose another port with "
        f"Emulator({parameter}=...) or tritonforge emulate {option}; 0 is any free one."
    )


def _escape_log(log: Callable[[str], None]) -> Callable[[str], None]:
    """Escape the sentences for a terminal: they repeat what clients sent."""
    return lambda sentence: log(escape_line(sentence))


def _import_trainer() -> Trainer:
    from tritonforge.training.job import run_training_job

    return run_training_job
