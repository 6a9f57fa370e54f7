"""Requests held against botocore's own service model."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.errors import RequestError
from tritonforge.sagemaker import service_model

VARIANT = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.g4dn.xlarge", "InitialInstanceCount": 1}
CONFIG: dict[str, Any] = {"EndpointConfigName": "c", "ProductionVariants": [VARIANT]}


def found(operation: str, request: dict[str, Any], service: str = "sagemaker") -> list[tuple[str, str]]:
    """The places and kinds of what is wrong with a request."""
    shape = service_model.find_operation(service, operation).input_shape
    return [(violation.place, violation.kind) for violation in service_model.check_shape(shape, request)]


def test_a_right_request_has_no_problem() -> None:
    """The seed's own request is one that AWS takes."""
    assert found("CreateEndpointConfig", CONFIG) == []


@pytest.mark.parametrize(
    ("change", "place", "kind"),
    [
        ({"EndpointConfigName": "a_b"}, "EndpointConfigName", "pattern"),
        ({"EndpointConfigName": "a" * 64}, "EndpointConfigName", "length"),
        ({"EndpointConfigName": None}, "EndpointConfigName", "required"),
        ({"EndpointConfigName": 7}, "EndpointConfigName", "type"),
        ({"ProductionVariants": []}, "ProductionVariants", "length"),
        ({"ProductionVariants": [VARIANT] * 11}, "ProductionVariants", "length"),
        ({"ProductionVariants": "AllTraffic"}, "ProductionVariants", "type"),
        (
            {"ProductionVariants": [{**VARIANT, "InstanceType": "ml.huge"}]},
            "ProductionVariants[0].InstanceType",
            "enum",
        ),
        (
            {"ProductionVariants": [{**VARIANT, "InitialInstanceCount": 0}]},
            "ProductionVariants[0].InitialInstanceCount",
            "value",
        ),
        (
            {"ProductionVariants": [{**VARIANT, "InitialVariantWeight": float("nan")}]},
            "ProductionVariants[0].InitialVariantWeight",
            "value",
        ),
        (
            {"ProductionVariants": [{**VARIANT, "VolumeSizeInGB": 513}]},
            "ProductionVariants[0].VolumeSizeInGB",
            "value",
        ),
        ({"ProductionVariant": []}, "ProductionVariant", "unknown"),
        ({"Tags": [{"Key": "emoji \U0001f600", "Value": "x"}]}, "Tags[0].Key", "pattern"),
    ],
)
def test_each_kind_of_mistake_is_found_where_it_is(change: dict[str, Any], place: str, kind: str) -> None:
    """One change to a right request gives a problem at its place."""
    assert (place, kind) in found("CreateEndpointConfig", {**CONFIG, **change})


def test_java_patterns_of_letters_take_letters_of_any_script() -> None:
    r"""`\p{L}` in a tag's pattern takes Japanese and Turkish."""
    assert found("CreateEndpointConfig", {**CONFIG, "Tags": [{"Key": "ekip", "Value": "görüntü 画像"}]}) == []


def test_a_number_is_held_against_its_bounds_also_when_it_is_large() -> None:
    """A time-out above its maximum is found, which botocore does not."""
    variant = {**VARIANT, "ContainerStartupHealthCheckTimeoutInSeconds": 3601}
    assert found("CreateEndpointConfig", {**CONFIG, "ProductionVariants": [variant]}) == [
        ("ProductionVariants[0].ContainerStartupHealthCheckTimeoutInSeconds", "value")
    ]


def test_the_service_says_it_in_its_own_words() -> None:
    """The sentence has AWS's count, its dotted place with indices from 1, and its constraint."""
    shape = service_model.find_operation("sagemaker", "CreateEndpointConfig").input_shape
    request = {**CONFIG, "ProductionVariants": [{**VARIANT, "VariantName": "a_b"}]}
    assert service_model.format_service_message(service_model.check_shape(shape, request)) == (
        "1 validation error detected: Value 'a_b' at 'productionVariants.1.member.variantName' failed to satisfy "
        "constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    )
    assert service_model.format_service_message(
        service_model.check_shape(shape, {"ProductionVariants": [VARIANT]})
    ).startswith(
        "1 validation error detected: Value null at 'endpointConfigName' failed to satisfy constraint: Member must not"
    )


def test_all_violations_are_reported_at_once() -> None:
    """`check` raises one error that names every broken constraint."""
    with pytest.raises(RequestError) as raised:
        service_model.check_request("sagemaker", "CreateModel", {"ModelName": "a b", "ExecutionRoleArn": "me"})
    text = str(raised.value)
    assert "ModelName is 'a b'" in text
    assert text.count("ExecutionRoleArn is 'me'") == 2  # too short, and no ARN


def test_an_operation_that_botocore_lacks_is_reported() -> None:
    """An unknown operation names what to upgrade."""
    with pytest.raises(RequestError, match="CreateNothing"):
        service_model.find_operation("sagemaker", "CreateNothing")


def test_a_timestamp_may_be_what_boto3_takes() -> None:
    """Datetimes, numbers and text are timestamps, a list is none."""
    assert found("ListModels", {"CreationTimeAfter": dt.datetime.now(dt.timezone.utc)}) == []
    assert found("ListModels", {"CreationTimeAfter": []}) == [("CreationTimeAfter", "type")]


def test_every_pattern_of_the_models_compiles() -> None:
    """No pattern of the services that are used is one that the checker cannot read."""
    for name in ("sagemaker", "sagemaker-runtime", "application-autoscaling"):
        model = service_model.load_service(name)
        for shape in map(model.shape_for, model.shape_names):
            if pattern := shape.metadata.get("pattern"):
                service_model._compile(pattern)


@pytest.mark.slow
def test_a_slow_pattern_ends() -> None:
    """A value that is made to be slow for a pattern is refused, not waited for."""

    class Shape:
        type_name = "string"
        metadata = {"pattern": r"(a|aa)+$"}  # noqa: RUF012 - as botocore's shapes have it
        enum: tuple[str, ...] = ()

    assert [violation.kind for violation in service_model.check_shape(Shape(), "a" * 200_000 + "!")] == ["pattern"]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(["EndpointConfigName", "ProductionVariants", "Tags", "Nonsense"]), _json))
def test_any_json_gives_problems_or_none(request: dict[str, Any]) -> None:
    """The checker never raises, whatever it is given."""
    shape = service_model.find_operation("sagemaker", "CreateEndpointConfig").input_shape
    for violation in service_model.check_shape(shape, request):
        assert violation.place
    service_model.format_service_message(service_model.check_shape(shape, request))
