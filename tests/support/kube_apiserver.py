"""A real kube-apiserver with etcd and KServe's CRDs, on loopback."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import urllib3

from tests.support.kserve_schemas import KSERVE_VERSIONS, read_crds

_TOKEN = "test-token"


def find_ports(count: int) -> list[int]:
    """Return free ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [opened.getsockname()[1] for opened in sockets]


@contextmanager
def serve_apiserver(program: str, etcd: str, folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Start etcd and kube-apiserver, install the CRDs; yield address, token of an administrator and certificate."""
    clients, peers, secure = find_ports(3)
    (folder / "tokens").write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    with ExitStack() as stack:
        urls = {"client": f"http://127.0.0.1:{clients}", "peer": f"http://127.0.0.1:{peers}"}
        _start(stack, folder / "etcd.log", [
            etcd, "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync", "--name", "test",
            "--listen-client-urls", urls["client"], "--advertise-client-urls", urls["client"],
            "--listen-peer-urls", urls["peer"], "--initial-advertise-peer-urls", urls["peer"],
            "--initial-cluster", f"test={urls['peer']}",
        ])  # fmt: skip
        _start(stack, folder / "apiserver.log", [
            program, "--etcd-servers", urls["client"], "--bind-address=127.0.0.1", f"--secure-port={secure}",
            f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", f"--token-auth-file={folder / 'tokens'}",
            "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.0.0.0/24",
        ])  # fmt: skip
        address = f"https://127.0.0.1:{secure}"
        http = urllib3.PoolManager(ca_certs=str(certificate), headers={"Authorization": f"Bearer {_TOKEN}"})
        _wait_for(http, f"{address}/readyz")
        _wait_for(http, f"{address}/api/v1/namespaces/default")
        for crd in read_crds()[KSERVE_VERSIONS[-1]]:
            url = f"{address}/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            created = http.request("POST", url, json=_simplify(crd))
            assert created.status == 201, created.data[:2000]
            names = crd["spec"]["names"]
            for served in crd["spec"]["versions"]:
                _wait_for(http, f"{address}/apis/{crd['spec']['group']}/{served['name']}/{names['plural']}")
        yield address, _TOKEN, certificate


def _start(stack: ExitStack, log: Path, command: list[str]) -> None:
    process = subprocess.Popen(command, stdout=stack.enter_context(log.open("wb")), stderr=subprocess.STDOUT)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def _simplify(crd: dict[str, Any]) -> dict[str, Any]:
    """Return a CRD without the webhook of KServe's controller, which does not run, and without empty defaults.

    Kubernetes 1.20, which Debian has, takes a default of "" for null and refuses the CRD.
    """
    spec = {name: value for name, value in crd["spec"].items() if name != "conversion"}
    return {**crd, "spec": _drop_empty_defaults(spec)}


def _drop_empty_defaults(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _drop_empty_defaults(item) for name, item in value.items() if not (name == "default" and item == "")
        }
    return [_drop_empty_defaults(item) for item in value] if isinstance(value, list) else value


def _wait_for(http: urllib3.PoolManager, url: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            answer = http.request("GET", url, retries=False, timeout=5)
            if answer.status == 200:
                return
            last = answer.data.decode(errors="replace")
        except urllib3.exceptions.HTTPError as error:
            last = str(error)
        assert time.monotonic() < end, f"{url}: {last}"
        time.sleep(0.2)
