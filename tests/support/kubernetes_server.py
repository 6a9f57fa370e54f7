"""Kubernetes API servers for tests: a real kube-apiserver with etcd, and a stand-in for machines without them.

The stand-in answers the calls of `tritonforge.kubernetes.cluster` and refuses what the real one refuses: a patch
without a field manager or of another type, fields that the CRD does not have, fields that another manager owns. The
tests run against both, so that it is held to the real one: `make test-kubernetes` with KUBE_APISERVER and ETCD.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.kserve_schemas import KSERVE_VERSIONS, list_violations, read_crds

#: Kubernetes keeps these of an object by itself.
_OBJECT = re.compile(
    r"/apis/(?P<group>[\w.]+)/(?P<version>\w+)/namespaces/(?P<namespace>[\w-]+)/(?P<plural>\w+)/(?P<name>[\w-]+)"
    r"(?P<status>/status)?"
)
_PODS = re.compile(r"/api/v1/namespaces/(?P<namespace>[\w-]+)/pods(?:/(?P<name>[\w-]+))?(?P<status>/status)?")


class Refusal(Exception):  # noqa: N818 - an answer of the server
    """An answer with a Status object."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


class StandIn:
    """Objects by their addresses, and what every field manager applied to them."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.applied: dict[str, dict[str, dict[str, Any]]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.version = 0

    def answer(self, method: str, path: str, query: Mapping[str, str], kind: str, body: Any) -> Any:
        """Answer one request. Raises Refusal."""
        self.requests.append(f"{method} {path} {json.dumps(dict(query), sort_keys=True)}")
        pods = _PODS.fullmatch(path)
        if pods is not None:
            return self._answer_pods(method, pods, query, body)
        address = _OBJECT.fullmatch(path)
        if address is None or not _has_resource(address):
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        key = path.removesuffix("/status")
        if method == "GET" or address["status"]:
            stored = self.objects.get(key)
            if stored is None:
                name = f'{address["plural"]}.{address["group"]} "{address["name"]}"'
                raise Refusal(404, "NotFound", f"{name} not found")
            if address["status"]:
                stored["status"] = body["status"]
            return stored
        if method == "DELETE":
            return self._delete(key, address, body)
        if method != "PATCH" or kind != "application/apply-patch+yaml":
            raise Refusal(415, "UnsupportedMediaType", f"the body of the request was in an unknown format - {kind}")
        return self._apply(key, query, body)

    def _delete(self, key: str, address: re.Match[str], body: Any) -> dict[str, Any]:
        name = f'{address["plural"]}.{address["group"]} "{address["name"]}"'
        if key not in self.objects:
            raise Refusal(404, "NotFound", f"{name} not found")
        expected, uid = body["preconditions"]["uid"], self.objects[key]["metadata"]["uid"]
        if expected != uid:
            sentence = f"the UID in the precondition ({expected}) does not match the UID in record ({uid})"
            raise Refusal(409, "Conflict", f"Operation cannot be fulfilled on {name}: {sentence}")
        del self.objects[key], self.applied[key]
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def _apply(self, key: str, query: Mapping[str, str], body: dict[str, Any]) -> dict[str, Any]:
        manager = query.get("fieldManager")
        if not manager:
            raise Refusal(
                422, "Invalid", "PatchOptions is invalid: fieldManager: Required value: is required for apply patch"
            )
        violations = list_violations(KSERVE_VERSIONS[-1], body)
        if violations:
            raise Refusal(422, "Invalid", "; ".join(violations))
        managers = dict(self.applied.get(key, {}))
        leaves = dict(_flatten(body))
        for other, fields in managers.items():
            conflicts = sorted(path for path in leaves.keys() & fields.keys() if leaves[path] != fields[path])
            if other != manager and conflicts:
                if query.get("force", "").lower() != "true":
                    listed = "\n".join(f"- .{path}" for path in conflicts)
                    raise Refusal(
                        409,
                        "Conflict",
                        f'Apply failed with {len(conflicts)} conflict: conflict with "{other}":\n{listed}',
                    )
                managers[other] = {path: value for path, value in fields.items() if path not in conflicts}
        managers[manager] = leaves
        stored = self.objects.get(key, {})
        result = copy.deepcopy(body)
        for other, fields in managers.items():
            if other != manager:
                for path, value in fields.items():
                    _set(result, path.split("/"), value)
        uid = stored["metadata"]["uid"] if stored else str(self.version)
        result["metadata"] |= {"namespace": key.split("/")[5], "uid": uid}
        result["metadata"]["managedFields"] = [{"manager": name} for name in managers]
        self.version += 1
        result["metadata"]["resourceVersion"] = str(self.version)
        if "status" in stored:
            result["status"] = stored["status"]
        if query.get("dryRun") != "All":
            self.objects[key], self.applied[key] = result, managers
        return result

    def _answer_pods(self, method: str, address: re.Match[str], query: Mapping[str, str], body: Any) -> Any:
        if method == "POST":
            self.pods[body["metadata"]["name"]] = body
            return body
        if method == "DELETE":
            return self.pods.pop(address["name"])
        if method == "PATCH":
            self.pods[address["name"]]["status"] = body["status"]
            return self.pods[address["name"]]
        label, _, value = query.get("labelSelector", "").partition("=")
        pods = [pod for pod in self.pods.values() if pod["metadata"].get("labels", {}).get(label) == value]
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}


def _has_resource(address: re.Match[str]) -> bool:
    return any(
        (address["group"], address["plural"]) == (crd["spec"]["group"], crd["spec"]["names"]["plural"])
        and any(address["version"] == served["name"] for served in crd["spec"]["versions"])
        for crd in read_crds()[KSERVE_VERSIONS[-1]]
    )


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            if path not in ("", "metadata") or name not in ("apiVersion", "kind", "name", "namespace"):
                yield from _flatten(item, f"{path}/{name.replace('/', '~1')}".lstrip("/"))
    else:
        yield path, value


def _set(target: dict[str, Any], path: list[str], value: Any) -> None:
    *above, last = (part.replace("~1", "/") for part in path)
    for name in above:
        target = target.setdefault(name, {})
    target[last] = value


@contextmanager
def serve_stand_in() -> Iterator[tuple[str, StandIn]]:
    """Serve a stand-in on loopback; yield its address and itself."""
    state, lock = StandIn(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            try:
                with lock:
                    kind = self.headers.get("Content-Type", "")
                    code, answer = 200, state.answer(self.command, url.path, query, kind, body)
                    content = json.dumps(answer).encode()
            except Refusal as refusal:
                code = refusal.code
                answer = {"kind": "Status", "code": code, "reason": refusal.reason, "message": str(refusal)}
                content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_PATCH = do_POST = do_DELETE = do_GET  # noqa: N815 - the names of http.server

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", state
        finally:
            server.shutdown()
            thread.join()


def write_kubeconfig(path: Path, server: str, token: str = "", certificate: Path | None = None) -> Path:
    """Write a kubeconfig with the context ``test`` for a server on loopback; ``certificate`` is its authority's."""
    cluster: dict[str, Any] = {"server": server}
    if certificate is not None:
        cluster["certificate-authority"] = str(certificate)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": token} if token else {}}],
    }
    path.write_text(json.dumps(document))
    return path
