"""Tests of `tritonforge.repository.download` against servers on loopback."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import socket
import ssl
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from tritonforge.errors import ArtifactError
from tritonforge.files import cache_directory
from tritonforge.repository import download
from tritonforge.repository.artifact_builder import build_artifact
from tritonforge.repository.definition import Download, PyTorch
from tritonforge.repository.download import UnreachableError

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
URL = "https://example.invalid/weights.bin"


class Files(http.server.BaseHTTPRequestHandler):
    """Answers with CONTENT, cut off, an error, or a redirect, as the path says."""

    requests: list[str]

    def do_GET(self) -> None:
        """Answer one request."""
        self.server.requests.append(self.path)  # type: ignore[attr-defined]  # set in serving()
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        if self.path == "/missing":
            self.send_error(404, "Not Found")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/cut" else CONTENT)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Stay quiet."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[http.server.HTTPServer]:
    """A server of Files on a free loopback port."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Files)
    server.requests = []  # type: ignore[attr-defined]  # what was asked for
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no proxy."""
    monkeypatch.setenv("TRITONFORGE_CACHE", str(tmp_path / "cache"))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def plain() -> Iterator[http.server.HTTPServer]:
    """A server without TLS, for what lies below the opener."""
    with serving() as server:
        yield server


def opener(server: http.server.HTTPServer, path: str = "/weights.bin") -> download.Opener:
    """Opens a path of a plain server, whatever the address."""

    def open_plain(url: str) -> urllib3.BaseHTTPResponse:
        pool = urllib3.HTTPConnectionPool("127.0.0.1", server.server_port)
        return pool.urlopen("GET", path, preload_content=False, retries=False, headers={"Connection": "close"})

    return open_plain


def collect_notes(notes: list[str]) -> Callable[[download.BuildProgress], None]:
    """A callback that appends each note to a list."""
    return lambda event: notes.append(event.message) if event.kind == "note" else None


def kept(cache: Path) -> list[str]:
    """The names of all files in the cache."""
    return [path.name for path in cache.rglob("*") if path.is_file()]


def test_a_download_is_kept_and_fetched_once(plain: http.server.HTTPServer, cache: Path) -> None:
    """The second use comes from the cache; the first reports the address and the size."""
    notes: list[str] = []
    path = download.fetch(URL, SHA256, on_progress=collect_notes(notes), opener=opener(plain))
    assert path.read_bytes() == CONTENT
    assert download.fetch(URL, SHA256, on_progress=collect_notes(notes), opener=opener(plain)) == path
    assert notes == [f"downloading {URL} (1.3 MB)"]
    assert plain.requests == ["/weights.bin"]  # type: ignore[attr-defined]  # set in serving()
    assert kept(cache) == [SHA256]


def test_a_download_has_the_permissions_of_a_new_file(plain: http.server.HTTPServer, tmp_path: Path) -> None:
    """Those of the umask: a cache and a model that others may read, such as the user of a server."""
    old = os.umask(0o022)
    try:
        path = download.fetch(URL, SHA256, opener=opener(plain))
        model = PyTorch("net", artifact=Download(url=URL, sha256=SHA256))
        build_artifact(model, tmp_path / "1", base=tmp_path)
    finally:
        os.umask(old)
    assert stat.filemode(path.stat().st_mode) == "-rw-r--r--"
    assert stat.filemode((tmp_path / "1" / "model.pt").stat().st_mode) == "-rw-r--r--"


def test_a_wrong_digest_names_the_address_and_both_digests(plain: http.server.HTTPServer, cache: Path) -> None:
    """What came is not what was declared: an error, and nothing is kept."""
    with pytest.raises(ArtifactError) as caught:
        download.fetch(URL, "0" * 64, opener=opener(plain))
    assert str(caught.value) == f"{URL}: sha256 is {SHA256}, but the definition states {'0' * 64}; nothing was kept"
    assert not isinstance(caught.value, UnreachableError)
    assert kept(cache) == []


def test_a_download_that_breaks_off_keeps_nothing(plain: http.server.HTTPServer, cache: Path) -> None:
    """A body shorter than announced counts as no network, and leaves no file."""
    with pytest.raises(UnreachableError, match="the download broke off"):
        download.fetch(URL, SHA256, opener=opener(plain, "/cut"))
    assert kept(cache) == []


def test_a_file_damaged_in_the_cache_is_fetched_again(plain: http.server.HTTPServer, cache: Path) -> None:
    """The digest is checked on each use, not only when the file comes."""
    path = download.fetch(URL, SHA256, opener=opener(plain))
    path.write_bytes(b"damaged")
    assert download.fetch(URL, SHA256, opener=opener(plain)).read_bytes() == CONTENT


def test_no_network_is_reported_with_the_address() -> None:
    """A refused connection is an UnreachableError at once, without retries."""
    with socket.socket() as taken:  # bound, never listening: a connection is refused
        taken.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{taken.getsockname()[1]}/weights.bin"
        with pytest.raises(UnreachableError, match=f"^{url}: no network: Connection refused$"):
            download.fetch(url, SHA256)


def test_only_https_is_opened() -> None:
    """An address without TLS is refused before anything is sent."""
    with pytest.raises(UnreachableError, match="only https:// is fetched"):
        download.open_https("http://127.0.0.1/weights.bin")


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.HTTPServer]:
    """A server with a certificate that this process trusts."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(context) as server:
        yield server


def address(server: http.server.HTTPServer, path: str) -> str:
    """The https:// address of a path."""
    return f"https://localhost:{server.server_port}{path}"


@pytest.mark.process
def test_https_is_fetched_through_redirects(tls: http.server.HTTPServer) -> None:
    """A relative and an absolute redirect are followed."""
    url = address(tls, f"/to/{address(tls, '/to//weights.bin')}")
    assert download.fetch(url, SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/missing", "the server answered 404 Not Found"),
        ("/to/http://127.0.0.1:9/weights.bin", "only https:// is fetched"),
        ("/to/" * 9 + "/weights.bin", "more than 5 redirects"),
    ],
)
@pytest.mark.process
def test_what_https_does_not_give_is_reported(tls: http.server.HTTPServer, path: str, reason: str) -> None:
    """An error status, a redirect away from https://, and a chain of redirects give their reason."""
    with pytest.raises(UnreachableError, match=reason):
        download.fetch(address(tls, path), SHA256)


@pytest.mark.process
def test_a_certificate_that_is_not_trusted_is_no_network(
    tls: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers must prove who it is."""
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        download.fetch(address(tls, "/weights.bin"), SHA256)


def test_a_copy_is_held_to_its_digest(tmp_path: Path) -> None:
    """A file with another digest is not left behind."""
    source, destination = tmp_path / "source", tmp_path / "destination"
    source.write_bytes(CONTENT)
    download.copy_file(source, destination, SHA256)
    assert destination.read_bytes() == CONTENT
    with pytest.raises(ArtifactError, match=f"sha256 is {SHA256}, but the definition states {'1' * 64}"):
        download.copy_file(source, destination, "1" * 64)
    assert not destination.exists()


def tar(path: Path, members: dict[str, bytes]) -> Path:
    """A compressed tar archive of these files."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_a_member_of_an_archive_is_taken_out(tmp_path: Path) -> None:
    """One file by its name, or a folder with all that is below it; a leading ./ does not count."""
    archive = tar(tmp_path / "a.tgz", {"./frozen.pb": b"graph", "m/1/saved_model.pb": b"s", "m/1/variables/v": b"v"})
    download.extract_member(archive, "frozen.pb", tmp_path / "model.graphdef")
    assert (tmp_path / "model.graphdef").read_bytes() == b"graph"
    download.extract_member(archive, "m/1", tmp_path / "model.savedmodel")
    found = {
        path.relative_to(tmp_path / "model.savedmodel").as_posix() for path in tmp_path.rglob("model.savedmodel/**/*")
    }
    assert found == {"saved_model.pb", "variables", "variables/v"}


@pytest.mark.parametrize("member", ["other.pb", "frozen"])
def test_a_missing_member_is_reported_with_those_there_are(tmp_path: Path, member: str) -> None:
    """The names that the archive has are in the message."""
    archive = tar(tmp_path / "a.tgz", {"frozen.pb": b"graph"})
    with pytest.raises(ArtifactError, match=f"no member '{member}'; it has frozen.pb"):
        download.extract_member(archive, member, tmp_path / "out")


def test_a_member_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    """An archive cannot write outside the place that it is given."""
    archive = tar(tmp_path / "a.tgz", {"m/../../escaped": b"x"})
    with pytest.raises(ArtifactError, match="leaves its directory"):
        download.extract_member(archive, "m", tmp_path / "deep" / "out")
    assert not (tmp_path / "escaped").exists()


def test_what_is_no_archive_is_reported(tmp_path: Path) -> None:
    """Bytes that are not a tar archive, and a compressed one that is cut, give one sentence."""
    (tmp_path / "junk").write_bytes(b"junk" * 300)
    with pytest.raises(ArtifactError, match="cannot read it as a tar archive"):
        download.extract_member(tmp_path / "junk", "m", tmp_path / "out")
    archive = tar(tmp_path / "a.tgz", {"m": CONTENT})
    archive.write_bytes(archive.read_bytes()[:500])
    with pytest.raises(ArtifactError, match="cannot read it as a tar archive"):
        download.extract_member(archive, "m", tmp_path / "out")


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TRITONFORGE_CACHE comes first, then XDG_CACHE_HOME, then the user's .cache."""
    assert cache_directory() == tmp_path / "cache"
    monkeypatch.delenv("TRITONFORGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "tritonforge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "tritonforge"


def test_a_cache_that_cannot_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that cannot be written to, and a user without one."""
    monkeypatch.setenv("TRITONFORGE_CACHE", "/dev/null/cache")
    with pytest.raises(ArtifactError, match="/dev/null/cache/downloads: cannot write: Not a dir"):
        download.fetch(URL, SHA256)

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("TRITONFORGE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(ArtifactError, match=r"no home directory .* Set TRITONFORGE_CACHE"):
        cache_directory()
