"""The models of a multi-model container: when they are loaded and unloaded, over a container that is made up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.hosted_models import Bucket, archive, below, folder_of, model
from tritonforge.emulator.hosting import ContainerGoneError, TargetModelError
from tritonforge.emulator.hosting.multi_model import Limits, ModelCache, find_model_directory
from tritonforge.emulator.interfaces import ContainerResponse

TARGET = "X-Amzn-SageMaker-Target-Model"


class Front:
    """Triton's multi-model front end, as far as statuses go. ``capacity`` is how many models fit in."""

    def __init__(self, capacity: int = 99) -> None:
        self.capacity = capacity
        self.loaded: dict[str, str] = {}
        self.events: list[str] = []
        self.refuse: dict[str, ContainerResponse] = {}
        self.hold = threading.Event()
        self.hold.set()
        self._lock = threading.Lock()

    def request(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> ContainerResponse:
        """The front end's answer."""
        target = headers[TARGET]
        if method == "POST" and path == "/models":
            asked = json.loads(body)
            assert any(Path(asked["url"]).iterdir())
            self.hold.wait(30)
            with self._lock:
                if target in self.refuse:
                    return self.refuse[target]
                if asked["model_name"] in self.loaded:
                    return ContainerResponse(409, {}, b"")
                if len(self.loaded) >= self.capacity:
                    self.events.append("507")
                    return ContainerResponse(507, {}, b'{"error":"out of memory"}')
                self.events.append(f"load {target}")
                self.loaded[asked["model_name"]] = asked["url"]
                return ContainerResponse(200, {}, b"")
        name = path.split("/")[2]
        with self._lock:
            if name not in self.loaded:
                return ContainerResponse(404, {}, b"")
            if method == "DELETE":
                self.events.append(f"unload {target}")
                del self.loaded[name]
                return ContainerResponse(200, {}, b"")
        return ContainerResponse(200, {}, target.encode() + b" " + body)


@pytest.fixture
def archives(bucket: Bucket) -> Bucket:
    """Archives a, b, c and sub/d.tar.gz under models/, of two kilobytes and less."""
    for name in ("a", "b", "c", "sub/d"):
        bucket.put(f"models/{name}.tar.gz", archive(below("double", model())))
    return bucket


@pytest.fixture
def make(archives: Bucket, tmp_path: Path) -> Callable[..., ModelCache]:
    """Makes a cache over a front end."""

    def cache(front: Front, **settings: object) -> ModelCache:
        return ModelCache(front, f"{archives.uri}/models", tmp_path, objects=archives.objects, **settings)  # type: ignore[arg-type]

    return cache


def ask(cache: ModelCache, target: str, *, timeout: float = 30.0) -> ContainerResponse:
    """One request for a target."""
    return cache.invoke(target, b"x", {"Content-Type": "t"}, timeout=timeout)


def test_a_model_is_loaded_once_and_then_kept(make: Callable[..., ModelCache]) -> None:
    """The first request loads, the next does not; a leading slash names the same archive."""
    front = Front()
    cache = make(front)
    assert ask(cache, "sub/d.tar.gz").body == b"sub/d.tar.gz x"
    assert ask(cache, "/sub/d.tar.gz").status == 200
    assert front.events == ["load sub/d.tar.gz"]
    assert cache.loaded == ("sub/d.tar.gz",)


def test_two_first_requests_load_once(make: Callable[..., ModelCache]) -> None:
    """Requests that come while a model is loaded wait for it."""
    front = Front()
    front.hold.clear()
    cache = make(front)
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(cache, "a.tar.gz").status)) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    front.hold.set()
    for thread in threads:
        thread.join(30)
    assert answers == [200] * 8
    assert front.events == ["load a.tar.gz"]


def test_a_slow_load_is_not_ready_and_goes_on(make: Callable[..., ModelCache]) -> None:
    """The request's time ends with ModelNotReadyException; a later one finds the model loaded."""
    front = Front()
    front.hold.clear()
    cache = make(front)
    with pytest.raises(TargetModelError) as caught:
        ask(cache, "a.tar.gz", timeout=0.05)
    assert (caught.value.status, caught.value.code) == (429, "ModelNotReadyException")
    front.hold.set()
    assert ask(cache, "a.tar.gz").status == 200
    assert front.events == ["load a.tar.gz"]


def test_the_least_recently_used_model_is_unloaded(make: Callable[..., ModelCache], tmp_path: Path) -> None:
    """A limit of two models: the third takes the place of the one that was not asked for longest; its files go too."""
    front = Front()
    cache = make(front, limits=Limits(models=2))
    for name in ("a", "b", "a", "c"):
        ask(cache, f"{name}.tar.gz")
    assert front.events == ["load a.tar.gz", "load b.tar.gz", "unload b.tar.gz", "load c.tar.gz"]
    assert cache.loaded == ("a.tar.gz", "c.tar.gz")
    assert len(list(tmp_path.iterdir())) == 2


def test_bytes_are_a_limit_too(make: Callable[..., ModelCache], archives: Bucket) -> None:
    """The sizes of the archives count; one that is above the limit alone is served alone."""
    size = archives.objects.head(f"{archives.uri}/models/a.tar.gz").size
    front = Front()
    cache = make(front, limits=Limits(size=size * 2 + 10))
    for name in ("a", "b", "c"):
        ask(cache, f"{name}.tar.gz")
    assert cache.loaded == ("b.tar.gz", "c.tar.gz")
    small = make(front, limits=Limits(size=1))
    assert ask(small, "a.tar.gz").status == 200


def test_507_unloads_until_the_model_fits(make: Callable[..., ModelCache]) -> None:
    """What Triton says of its memory is obeyed; where nothing is left to unload, its answer is the caller's."""
    front = Front(capacity=2)
    cache = make(front)
    for name in ("a", "b", "c"):
        assert ask(cache, f"{name}.tar.gz").status == 200
    assert front.events == ["load a.tar.gz", "load b.tar.gz", "507", "unload a.tar.gz", "load c.tar.gz"]
    front.capacity = 0
    assert ask(cache, "a.tar.gz").status == 507
    assert cache.loaded == ()


def test_a_model_in_use_is_never_unloaded(make: Callable[..., ModelCache]) -> None:
    """Only idle models are unloaded."""
    entered, leave = threading.Event(), threading.Event()

    class Busy(Front):
        def request(
            self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout: float
        ) -> ContainerResponse:
            if path.endswith("/invoke") and headers[TARGET] == "a.tar.gz" and not leave.is_set():
                entered.set()
                leave.wait(30)
            return super().request(method, path, body, headers, timeout=timeout)

    front = Busy()
    cache = make(front, limits=Limits(models=1))
    answers: list[int] = []
    user = threading.Thread(target=lambda: answers.append(ask(cache, "a.tar.gz").status))
    user.start()
    assert entered.wait(30)
    assert ask(cache, "b.tar.gz").status == 200
    leave.set()
    user.join(30)
    assert answers == [200]
    assert front.events == ["load a.tar.gz", "load b.tar.gz"]


def test_a_refusal_to_load_is_passed_on_and_tried_again(make: Callable[..., ModelCache], tmp_path: Path) -> None:
    """Triton's status and words, with the container's paths; nothing is left of the attempt."""
    front = Front()
    front.refuse["a.tar.gz"] = ContainerResponse(400, {}, f'{{"error":"in {tmp_path}/x"}}'.encode())
    cache = make(front)
    answer = ask(cache, "a.tar.gz")
    assert (answer.status, answer.body) == (400, b'{"error":"in /opt/ml/models/x"}')
    assert list(tmp_path.iterdir()) == []
    front.refuse.clear()
    assert ask(cache, "a.tar.gz").status == 200


def test_what_the_declared_image_refuses_is_not_loaded(make: Callable[..., ModelCache]) -> None:
    """The image's release is asked before Triton, and answers as the container would."""
    front = Front()
    cache = make(front, check=lambda repository, name: f"{name} is not for this release")
    answer = ask(cache, "a.tar.gz")
    assert (answer.status, json.loads(answer.body)) == (400, {"error": "double is not for this release"})
    assert front.events == []


def test_a_missing_archive_is_a_validation_error(make: Callable[..., ModelCache], archives: Bucket) -> None:
    """AWS's sentence with bucket and key; so is an archive that is none. Once it is there, it is served."""
    cache = make(Front())
    with pytest.raises(TargetModelError) as caught:
        ask(cache, "later.tar.gz")
    assert (caught.value.status, caught.value.code) == (400, "ValidationError")
    bucket = archives.uri.removeprefix("s3://")
    assert str(caught.value).startswith(f"Failed to download model data(bucket: {bucket}, key: models/later.tar.gz).")
    archives.put("models/later.tar.gz", b"no archive")
    with pytest.raises(TargetModelError, match="Failed to extract model data archive"):
        ask(cache, "later.tar.gz")
    archives.put("models/later.tar.gz", archive(below("double", model())))
    assert ask(cache, "later.tar.gz").status == 200


def test_a_loaded_model_is_served_though_its_archive_changed(make: Callable[..., ModelCache], archives: Bucket) -> None:
    """S3 is looked at when a model is loaded, as on AWS: a new archive needs a new name, or an unload."""
    front = Front()
    cache = make(front, limits=Limits(models=1))
    ask(cache, "a.tar.gz")
    archives.put("models/a.tar.gz", b"no archive")
    assert ask(cache, "a.tar.gz").status == 200
    ask(cache, "b.tar.gz")
    with pytest.raises(TargetModelError):
        ask(cache, "a.tar.gz")


def test_without_caching_a_model_leaves_after_its_request(make: Callable[..., ModelCache]) -> None:
    """ModelCacheSetting Disabled."""
    front = Front()
    cache = make(front, caching=False)
    for _ in range(2):
        ask(cache, "a.tar.gz")
    assert front.events == ["load a.tar.gz", "unload a.tar.gz"] * 2
    assert cache.loaded == ()


def test_a_container_that_was_started_anew_loads_again(make: Callable[..., ModelCache]) -> None:
    """After `clear` nothing counts as loaded; a container that is gone is reported as gone."""
    front = Front()
    cache = make(front)
    ask(cache, "a.tar.gz")
    front.loaded.clear()
    cache.clear()
    assert ask(cache, "a.tar.gz").status == 200
    assert front.events == ["load a.tar.gz"] * 2

    class Gone(Front):
        def request(self, *arguments: object, **named: object) -> ContainerResponse:
            raise ContainerGoneError("away")

    with pytest.raises(ContainerGoneError):
        ask(make(Gone()), "b.tar.gz")


def test_many_threads_and_little_capacity_give_right_answers(make: Callable[..., ModelCache]) -> None:
    """Four targets for two places, eight threads: every answer is its target's, and no more than two stay."""
    front = Front(capacity=2)
    cache = make(front, limits=Limits(models=2))
    names = ("a.tar.gz", "b.tar.gz", "c.tar.gz", "sub/d.tar.gz")
    wrong: list[object] = []

    def work(seed: int) -> None:
        for index in range(25):
            target = names[(seed + index * (seed + 1)) % 4]
            answer = ask(cache, target)
            # 507: every model that could leave was in use at that moment.
            if answer.status != 507 and answer.body != f"{target} x".encode():
                wrong.append(answer)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert len(front.loaded) <= 2
    assert set(cache.loaded) <= set(names)


def test_a_model_that_is_being_unloaded_is_loaded_again_afterwards(make: Callable[..., ModelCache]) -> None:
    """A request for a model that leaves waits until it is gone: it must not find the one that goes."""
    leaving, leave = threading.Event(), threading.Event()

    class Slow(Front):
        def request(
            self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout: float
        ) -> ContainerResponse:
            if method == "DELETE" and not leave.is_set():
                leaving.set()
                leave.wait(30)
            return super().request(method, path, body, headers, timeout=timeout)

    front = Slow()
    cache = make(front, limits=Limits(models=1))
    ask(cache, "a.tar.gz")
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(cache, "b.tar.gz").status))]
    threads[0].start()
    assert leaving.wait(30)
    threads.append(threading.Thread(target=lambda: answers.append(ask(cache, "a.tar.gz").status)))
    threads[1].start()
    time.sleep(0.2)
    leave.set()
    for thread in threads:
        thread.join(30)
    assert answers == [200, 200]
    assert front.events[:2] == ["load a.tar.gz", "unload a.tar.gz"]
    assert front.events.count("load a.tar.gz") == 2


def test_the_ensemble_of_an_archive_is_what_is_served(tmp_path: Path) -> None:
    """By Triton's own text search, wherever the folder lists it; without one it is the only directory."""
    names = ("a", "b", "c", "d")
    for chosen in names:
        files = {"x": ""}
        for name in names:
            files |= below(name, {"config.pbtxt": 'platform: "ensemble"'} if name == chosen else model())
        assert find_model_directory(folder_of(tmp_path / chosen, files)) == chosen
    assert find_model_directory(folder_of(tmp_path / "o", below("only", model()))) == "only"
    assert find_model_directory(folder_of(tmp_path / "n", {"x": ""})) == ""
