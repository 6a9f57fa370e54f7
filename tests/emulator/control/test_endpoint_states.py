"""The life of an endpoint as a pure machine, walked at random."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonforge.emulator.control import endpoint_states
from tritonforge.emulator.control.api_errors import ApiError
from tritonforge.emulator.control.endpoints import describe_endpoint as described
from tritonforge.emulator.control.records import Endpoint, Resource, from_json, to_json

STATUSES = set(endpoint_states.NEXT)


def config(name: str, variants: Mapping[str, tuple[float, int]]) -> dict[str, Any]:
    """An endpoint configuration with a weight and an instance count by variant."""
    return {
        "EndpointConfigName": name,
        "ProductionVariants": [
            {
                "VariantName": name,
                "ModelName": "m",
                "InitialVariantWeight": weight,
                "InitialInstanceCount": count,
                "InstanceType": "ml.m5.xlarge",
            }
            for name, (weight, count) in variants.items()
        ],
    }


MODELS = {"m": {"PrimaryContainer": {"Image": "i"}}}
CONFIGS = st.builds(
    config,
    st.sampled_from(["c1", "c2", "c3"]),
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]), st.tuples(st.floats(0, 10), st.integers(1, 5)), min_size=1, max_size=3
    ),
)


def fresh(configuration: Mapping[str, Any]) -> Endpoint:
    """An endpoint that was just asked for."""
    return endpoint_states.create("e", "arn", 1.0, config=configuration, models=MODELS, policy=None)


#: What a client may ask for, and what the worker may find, by name.
EVENTS = ["update", "reweigh", "delete", "begun", "shift", "bake", "up", "fail", "roll back", "rolled back", "restart"]


def happened(endpoint: Endpoint, event: str, configuration: Mapping[str, Any], now: float) -> Endpoint:
    """The endpoint after an event; a worker reports only what its status allows."""
    under_way = endpoint.status == "Updating"
    if event == "update":
        return endpoint_states.begin_update(endpoint, now, config=configuration, models=MODELS, policy=None)
    if event == "reweigh":
        changes = [{"VariantName": variant.name, "DesiredWeight": 2.0} for variant in endpoint.variants]
        return endpoint_states.with_weights(endpoint, changes, now)
    if event == "delete":
        return endpoint_states.begin_deletion(endpoint, now)
    if event == "begun" and under_way and endpoint.pending:
        return endpoint_states.mark_started(endpoint, now)
    if event == "shift" and under_way and endpoint.pending:
        return endpoint_states.shift_traffic(endpoint, 0.5, now)
    if event == "bake":
        return endpoint_states.enter_stage(endpoint, "Baking", now)
    if event == "up" and "InService" in endpoint_states.NEXT[endpoint.status] and endpoint.status != "RollingBack":
        return endpoint_states.enter_service(endpoint, now)
    if event == "fail" and endpoint.status in ("Creating", "SystemUpdating"):
        return endpoint_states.fail(endpoint, "why", now)
    if event == "roll back" and under_way and endpoint.pending:
        return endpoint_states.begin_rollback(endpoint, "why", now)
    if event == "rolled back" and endpoint.status == "RollingBack":
        return endpoint_states.finish_rollback(endpoint, now)
    if event == "restart":
        return endpoint_states.mark_restarted(endpoint, now)
    return endpoint


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(CONFIGS, st.lists(st.tuples(st.sampled_from(EVENTS), CONFIGS), max_size=25))
def test_no_sequence_of_events_leads_off_the_map(first: Any, events: list[tuple[str, Any]]) -> None:
    """Whatever is asked and reported: statuses follow one another as drawn, and what is described holds together."""
    endpoint = fresh(first)
    for index, (event, configuration) in enumerate(events):
        before = endpoint
        try:
            endpoint = happened(endpoint, event, configuration, float(index + 2))
        except ApiError:
            assert event in ("update", "reweigh", "delete")
            assert before.status != "InService"
            continue
        assert endpoint.status == before.status or endpoint.status in endpoint_states.NEXT[before.status]
        assert endpoint.modified >= before.modified
        if endpoint.status in ("InService", "Failed"):
            assert endpoint.pending is None
            assert bool(endpoint.failure) >= (endpoint.status == "Failed")
        if endpoint.status == "InService" and before.status != "InService":
            assert (
                all(variant.weight == variant.desired_weight for variant in endpoint.variants)
                or before.status == "RollingBack"
            )
            assert endpoint.config_name == endpoint.config["EndpointConfigName"]
            assert [variant.name for variant in endpoint.variants] == [
                variant["VariantName"] for variant in endpoint.config["ProductionVariants"]
            ]
        assert described(endpoint)["EndpointStatus"] in STATUSES
        assert from_json(Endpoint, to_json(endpoint)) == endpoint


@given(CONFIGS, CONFIGS)
def test_an_update_that_fails_leaves_what_was(old: Any, new: Any) -> None:
    """After the way back everything is as before, but for the reason and the time."""
    before = endpoint_states.enter_service(fresh(old), 2.0)
    back = endpoint_states.begin_update(before, 3.0, config=new, models=MODELS, policy={"x": 1})
    back = endpoint_states.finish_rollback(
        endpoint_states.begin_rollback(
            endpoint_states.shift_traffic(endpoint_states.mark_started(back, 4.0), 0.5, 5.0), "why", 6.0
        ),
        7.0,
    )
    assert back.failure == "why"
    assert {**to_json(back), "failure": "", "modified": 0} == {**to_json(before), "modified": 0}


@pytest.mark.parametrize("status", sorted(STATUSES - {"InService"}))
def test_only_what_is_in_service_can_be_changed(status: str) -> None:
    """Every other status refuses updates and new weights."""
    endpoint = from_json(Endpoint, {**to_json(fresh(config("c", {"a": (1.0, 1)}))), "status": status})
    with pytest.raises(ApiError, match="Cannot update"):
        endpoint_states.begin_update(endpoint, 2.0, config=config("d", {"a": (1.0, 1)}), models=MODELS, policy=None)
    with pytest.raises(ApiError, match="Cannot update"):
        endpoint_states.with_weights(endpoint, [], 2.0)


def test_a_wrong_turn_is_a_mistake_of_ours() -> None:
    """A transition that is not drawn raises, and never passes."""
    endpoint = fresh(config("c", {"a": (1.0, 1)}))
    with pytest.raises(ValueError, match="Creating to Updating"):
        endpoint_states.resume_update(endpoint, 2.0)


def test_a_document_of_a_later_version_can_be_read() -> None:
    """Members that are not known are left aside."""
    kept = Resource(name="m", arn="a", created=1.0, request={"ModelName": "m"}, tags=(("k", "v"),))
    assert from_json(Resource, {**to_json(kept), "tags": [["k", "v"]], "later": 1}) == kept
