"""What is profiled: addresses with statistics and without."""

import json

import pytest

from tritonforge.errors import DecodeError, ServerError
from tritonforge.inference.client import Answer, Call, Client, ModelMetadata
from tritonforge.inference.wire import encode_request
from tritonforge.profiling.load import ClosedLoop, OpenLoop
from tritonforge.profiling.load_generator import measure
from tritonforge.profiling.target import Target, open_target, read_configs


class Server:
    """The transport of a server with one model; without ``statistics`` it has no call for them."""

    def __init__(self, config: str = '{"name": "a", "max_batch_size": 4}', statistics: str | None = "{}") -> None:
        self.config = config
        self.statistics = statistics

    def infer(self, call: Call) -> Answer:
        """Refuse."""
        raise NotImplementedError

    def ready(self, model: str | None) -> bool:
        """Return True."""
        return True

    def metadata(self, model: str | None) -> ModelMetadata:
        """Return the metadata of the model."""
        return ModelMetadata("a", (), (), source="", decoupled=False)

    def close(self) -> None:
        """Do nothing."""

    def list_models(self) -> tuple[str, ...]:
        """Return two models, one of which is unloaded meanwhile."""
        return ("a", "gone")

    def read_config(self, model: str) -> str:
        """Return the configuration."""
        if model == "gone":
            raise ServerError("unknown model", status=400)
        return self.config

    def read_statistics(self) -> str:
        """Return the statistics."""
        if self.statistics is None:
            raise ServerError("not found", status=404)
        return self.statistics


def open_client(server: Server) -> Client:
    return Client("test://a", transport=server)


def test_a_server_reports_configurations_and_statistics() -> None:
    client = open_client(Server(statistics=json.dumps({"model_stats": [{"name": "a", "version": "1"}]})))
    configs = read_configs(client)
    assert list(configs) == ["a"]
    assert configs["a"].max_batch_size == 4  # type: ignore[attr-defined]  # a class made at run time
    target = open_target(client)
    assert target.model == "a"
    assert target.read_statistics is not None
    assert list(target.read_statistics()) == [("a", "1")]


def test_a_server_without_the_extension_has_no_statistics() -> None:
    assert open_target(open_client(Server(statistics=None))).read_statistics is None


@pytest.mark.parametrize("config", ["", "[]", '{"max_batch_size": "x"}', "[" * 5000])
def test_an_invalid_configuration_is_an_error(config: str) -> None:
    with pytest.raises(DecodeError, match="configuration of a"):
        read_configs(open_client(Server(config)))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((Target("http://h", "a", "triton"), [], ClosedLoop(1)), "no requests to send"),
        ((Target("http://h", "a", "triton"), [encode_request({})], ClosedLoop(0)), "concurrency: expected at least 1"),
        ((Target("http://h", "a", "triton"), [encode_request({})], OpenLoop(0.0)), "rate: expected more than 0"),
        ((Target("http://h", "a", "triton", is_decoupled=True), [encode_request({})], ClosedLoop(1)), "gRPC port"),
    ],
)
def test_a_load_that_cannot_be_sent_is_an_error(arguments: tuple[Target, list[object], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        measure(*arguments)  # type: ignore[arg-type]
