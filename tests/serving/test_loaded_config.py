"""`validate --show-config` prints what the real server answers to GET /v2/models/<model>/config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from tests.support.tensor_client import FREE, Asker
from tests.support.throwaway_server import ThrowawayServer
from tritonforge.serving.config_completion import FLAG, complete_configs
from tritonforge.triton.schema import new_model_config
from tritonforge.validation.loaded_config import build_loaded_configs, render_json
from tritonforge.validation.model_views import build_context
from tritonforge.validation.tree_reader import read_tree

pytestmark = [pytest.mark.server, pytest.mark.framework]


def test_configurations_of_all_backends_are_the_servers(repositories: Path, ask: Asker) -> None:
    context = build_context(read_tree(repositories / "zoo"))
    configs = build_loaded_configs(context)
    assert len(configs) > 10
    for name, shown in configs.items():
        assert shown.reason == "", name
        assert shown.message is not None
        answer = ask.pool.request("GET", f"{ask.url}/v2/models/{name}/config")
        served: dict[str, Any] = json.loads(answer.data)
        message = json_format.ParseDict(served, new_model_config(), ignore_unknown_fields=True)
        assert str(shown.message).splitlines() == str(message).splitlines(), name
        assert (
            render_json(shown.message).items()
            >= {
                key: value for key, value in served.items() if key in ("name", "input", "output", "instance_group")
            }.items()
        )


@pytest.mark.parametrize(
    "names", [("pictures", "reshaped"), pytest.param((), marks=pytest.mark.long)], ids=["some", "every"]
)
def test_a_server_that_completes_nothing_has_the_same_configurations(
    repositories: Path, ask: Asker, names: tuple[str, ...]
) -> None:
    """What the backends would add is written into the configurations (`config_completion`)."""
    tree = read_tree(repositories / "zoo")
    models = names or [name for name in tree.subdirectories() if complete_configs(tree, [name]) is not None]
    with ThrowawayServer(repositories / "zoo", models=models, **FREE) as server:
        assert FLAG in Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")
        for name in [row.name for row in server.models()]:
            config, other = (
                ask.pool.request("GET", f"{url}/v2/models/{name}/config").json() for url in (server.http_url, ask.url)
            )
            assert config == other, name
