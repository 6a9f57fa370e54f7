"""The fil backend inside a real tritonserver, against XGBoost, LightGBM and scikit-learn in this process."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

from tests.support.model_zoo import CPU, add, tensor
from tests.support.tensor_client import FREE, Asker
from tests.support.throwaway_server import ThrowawayServer
from tritonforge.errors import ArtifactError, LaunchError
from tritonforge.serving.backends.fil.model import read_settings
from tritonforge.serving.server import Server

pytestmark = [pytest.mark.server, pytest.mark.framework]

# They are imported where they are used: LightGBM loads scikit-learn, for two seconds in each process that collects.
for package, name, extra in (
    ("treelite", "treelite", "fil"), ("lightgbm", "LightGBM", "test"), ("xgboost", "XGBoost", "test"),
):  # fmt: skip
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{name} is not installed; run: pip install '.[{extra}]'", allow_module_level=True)

ROWS = np.random.default_rng(0).normal(size=(300, 5)).astype("f4")
TWO = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(int)
THREE = np.digitize(ROWS[:, 0], [-0.5, 0.5])
INPUT = tensor("input", "input__0", "FP32", "[ 5 ]")


def build_config(columns: int, **parameters: str) -> str:
    """A configuration with an output of this many columns."""
    lines = [f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items()]
    return f'backend: "fil" max_batch_size: 64 {INPUT} {tensor("output", "output__0", "FP32", f"[ {columns} ]")} ' + (
        "".join(lines) + f" {CPU}"
    )


def train_xgboost(objective: str, labels: Any, **rest: Any) -> Any:
    """A small booster."""
    import xgboost

    options = {"objective": objective, "max_depth": 3, "nthread": 1, **rest}
    return xgboost.train(options, xgboost.DMatrix(ROWS, labels), num_boost_round=5)


def train_lightgbm(objective: str, labels: Any, **rest: Any) -> Any:
    """A small booster."""
    import lightgbm

    options = {"objective": objective, "verbose": -1, "num_threads": 1, **rest}
    return lightgbm.train(options, lightgbm.Dataset(ROWS, labels), num_boost_round=5)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Models of each framework, by name."""
    from sklearn.ensemble import RandomForestClassifier

    return {
        "binary": train_xgboost("binary:logistic", TWO),
        "classes": train_xgboost("multi:softprob", THREE, num_class=3),
        "regression": train_xgboost("reg:squarederror", ROWS[:, 2]),
        "lightgbm": train_lightgbm("multiclass", THREE, num_class=3),
        "forest": RandomForestClassifier(5, max_depth=4, random_state=0).fit(ROWS, THREE),
    }


@pytest.fixture(scope="module")
def ask(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """A server with these models, with classes and with probabilities."""
    import treelite

    repository = tmp_path_factory.mktemp("fil")
    classify = {"output_class": "true", "threshold": "0.4"}
    proba = {**classify, "predict_proba": "true"}
    ubj, json = {"model_type": "xgboost_ubj"}, {"model_type": "xgboost_json"}
    delay = "dynamic_batching { max_queue_delay_microseconds: 200000 }"
    binary, classes = models["binary"], models["classes"]
    binary.save_model(add(repository, "binary_class", build_config(1, **classify, **ubj)) / "xgboost.ubj")
    binary.save_model(add(repository, "binary_proba", build_config(2, **proba, **ubj) + delay) / "xgboost.ubj")
    classes.save_model(add(repository, "classes_class", build_config(1, **classify, **json)) / "xgboost.json")
    proba_of_newer = {"is_classifier": "true", "threshold": "0.5", "predict_proba": "true"}
    classes.save_model(add(repository, "classes_proba", build_config(3, **proba_of_newer, **json)) / "xgboost.json")
    regression = add(repository, "regression", build_config(1, output_class="false", **ubj))
    models["regression"].save_model(regression / "xgboost.ubj")
    light = add(repository, "lightgbm", build_config(3, **proba, model_type="lightgbm"))
    models["lightgbm"].save_model(light / "model.txt")
    forest = add(repository, "forest", build_config(3, **proba, model_type="treelite_checkpoint"))
    treelite.sklearn.import_model(models["forest"]).serialize(str(forest / "checkpoint.tl"))
    with (
        ThrowawayServer(repository, **{**FREE, "sagemaker_port": None}) as server,
        urllib3.PoolManager(maxsize=8) as pool,
    ):
        assert server.http_url is not None
        yield Asker(server.http_url, pool)


def test_outputs_are_those_of_the_frameworks_in_process(ask: Asker, models: dict[str, Any]) -> None:
    """Classes exactly, numbers to single precision; a single value for a row has no second dimension, as upstream."""
    import xgboost

    rows = ROWS[:50]
    matrix = xgboost.DMatrix(rows)
    binary, classes = models["binary"].predict(matrix), models["classes"].predict(matrix)
    expected = {
        "binary_class": (binary > 0.4).astype("f4"),
        "binary_proba": np.stack([1 - binary, binary], axis=1),
        "classes_class": classes.argmax(axis=1).astype("f4"),
        "classes_proba": classes,
        "regression": models["regression"].predict(matrix),
        "lightgbm": models["lightgbm"].predict(rows),
        "forest": models["forest"].predict_proba(rows),
    }
    for name, array in expected.items():
        result = ask.infer(name, {"input__0": rows}).outputs["output__0"]
        assert result.dtype == np.float32
        assert result.shape == array.shape, name
        compare = np.testing.assert_array_equal if name.endswith("_class") else np.testing.assert_allclose
        compare(result, array, **({} if name.endswith("_class") else {"atol": 1e-6}))


def test_requests_run_as_batches(ask: Asker, models: dict[str, Any]) -> None:
    import xgboost

    positive = models["binary"].predict(xgboost.DMatrix(ROWS[:8]))
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda at: ask.infer("binary_proba", {"input__0": ROWS[at : at + 1]}), range(8)))
    results = np.concatenate([reply.outputs["output__0"] for reply in replies])
    np.testing.assert_allclose(results[:, 1], positive, atol=1e-6)
    assert max(row["batch_size"] for row in ask.statistics("binary_proba")["batch_stats"]) > 1


def test_files_that_do_not_fit_their_configuration_are_refused(models: dict[str, Any], tmp_path: Path) -> None:
    good = {"output_class": "false", "model_type": "xgboost_ubj"}
    reasons = {
        "kind": (build_config(1, output_class="false", model_type="catboost"), "catboost not recognized as a valid"),
        "class": (build_config(1, model_type="xgboost_ubj"), "Required parameter output_class not found in config"),
        "features": (
            build_config(1, **good).replace("[ 5 ]", "[ 4 ]"),
            "tensor 'input__0': the model expects 5 features but the model configuration specifies 4",
        ),
        "name": (build_config(1, **good).replace("output__0", "y"), "No output with name output__0 in configuration."),
        "type": (build_config(1, **good).replace("FP32", "FP64"), "incorrect type FP64 for input with required type"),
        "shap": (
            build_config(1, **good) + tensor("output", "treeshap_output", "FP32", "[ 6 ]"),
            "output 'treeshap_output' of model 'shap' is not supported by tritonforge's backend",
        ),
        "garbage": (build_config(1, **good), "garbage/1/xgboost.ubj is not a model that this treelite can run: "),
        "legacy": (build_config(1, output_class="false"), "unable to find '"),
    }
    for name, (config, _) in reasons.items():
        folder = add(tmp_path, name, config)
        if name == "garbage":
            (folder / "xgboost.ubj").write_text("garbage")
        else:
            models["regression"].save_model(folder / "xgboost.ubj")
    with pytest.raises(LaunchError) as caught:
        Server(tmp_path, **{**FREE, "sagemaker_port": None})
    found = dict(line.removeprefix("model '").split("' did not load: ", 1) for line in str(caught.value).splitlines())
    for name, (_, reason) in reasons.items():
        assert reason in found.pop(name)
    assert not found


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"output_class": "yes"}, "Expected 'true' or 'false' for parameter 'output_class', got: 'yes'"),
        ({"output_class": "true"}, "Required parameter threshold not found in config"),
        ({"output_class": "true", "threshold": "half"}, "Bad input for parameter threshold"),
    ],
)
def test_invalid_parameters_are_refused(parameters: dict[str, str], reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        read_settings(parameters)


def test_parameters_for_gpus_are_ignored() -> None:
    tuned = {"algo": "NAIVE", "storage_type": "SPARSE", "blocks_per_sm": "2", "use_experimental_optimizations": "true"}
    assert read_settings({"output_class": "false", **tuned}) == read_settings({"output_class": "false"})
