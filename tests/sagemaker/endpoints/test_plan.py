"""The plan: what is planned for which difference, and that a plan that was carried out leaves none behind.

TRITONFORGE_FUZZ=10 plans from ten times as many random states.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.memory_aws import ACCOUNT, REGION, Memory
from tritonforge.errors import DefinitionError, DeploymentError, RequestError
from tritonforge.sagemaker.endpoints import (
    AsyncInference,
    Autoscaling,
    BlueGreen,
    Content,
    DataCapture,
    Deployment,
    Plan,
    Rolling,
    Serverless,
    StepScaling,
    TargetTracking,
    Variant,
    VpcConfig,
    plan_deployment,
    plan_removal,
    render,
    to_json,
)
from tritonforge.sagemaker.endpoints.resources import DEPLOYMENT
from tritonforge.sagemaker.plans.executor import check_plan

ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/Endpoint"
TRACKING = TargetTracking(target_value=70, predefined_metric_type="SageMakerVariantInvocationsPerInstance")

#: How many times as many random states are tried.
TIMES = int(os.environ.get("TRITONFORGE_FUZZ", "1"))


def content(letter: str = "a", **fields: Any) -> Content:
    """A repository whose digest is made of one letter."""
    return Content(**{"digest": f"sha256:{letter * 64}", "size": 1000, "default_model": "digits", **fields})


def deployment(**fields: Any) -> Deployment:
    """A deployment that is complete."""
    return Deployment(
        **{
            "name": "digits",
            "image": "24.09",
            "execution_role_arn": ROLE,
            "instance_type": "ml.m5.xlarge",
            **fields,
        }
    )


def planned(aws: Memory, wanted: Deployment, letter: str = "a", **options: Any) -> Plan:
    """The plan for a deployment of one repository."""
    contents = {"": content(letter)}
    contents |= {variant.repository: content(letter) for variant in wanted.variants if variant.repository}
    found = plan_deployment(wanted, contents, aws.observe(wanted.name, bucket=wanted.bucket), **options)
    check_plan(found)
    return found


def deployed(wanted: Deployment, letter: str = "a", aws: Memory | None = None) -> Memory:
    """An AWS in which the deployment is."""
    aws = aws or Memory()
    aws.apply(planned(aws, wanted, letter))
    assert operations(planned(aws, wanted, letter)) == []
    return aws


def operations(found: Plan) -> list[str]:
    """The operations of a plan, in order."""
    return [step.operation for step in found.steps]


def test_an_empty_account_gets_everything_in_order() -> None:
    """What is referred to comes before what refers to it."""
    assert operations(planned(Memory(), deployment())) == [
        "CreateBucket", "PutObject", "CreateModel", "CreateEndpointConfig", "CreateEndpoint", "DescribeEndpoint",
    ]  # fmt: skip


def test_a_second_plan_is_empty() -> None:
    """What exists under its names is up to date."""
    aws = deployed(deployment())
    found = planned(aws, deployment())
    assert found.steps == ()
    assert render(found)[-1].startswith("Nothing to do")


def test_names_carry_the_digest_and_the_settings() -> None:
    """Another repository or another setting is another name; tags are not."""
    first = planned(Memory(), deployment())
    names = {step.operation: step.name for step in first.steps}
    assert names["CreateModel"].startswith("digits-aaaaaaaaaaaa-")
    again = {step.operation: step.name for step in planned(Memory(), deployment(tags={"team": "vision"})).steps}
    assert again == names
    other = {step.operation: step.name for step in planned(Memory(), deployment(environment={"A": "1"})).steps}
    assert other["CreateModel"].startswith("digits-aaaaaaaaaaaa-")
    assert other["CreateModel"] != names["CreateModel"]
    assert other["CreateEndpointConfig"] != names["CreateEndpointConfig"]


def test_a_changed_repository_is_a_new_generation_and_an_update() -> None:
    """Nothing is overwritten: object, model and configuration are new, the endpoint moves."""
    aws = deployed(deployment())
    found = planned(aws, deployment(), "b")
    assert operations(found) == [
        "PutObject", "CreateModel", "CreateEndpointConfig", "UpdateEndpoint", "DescribeEndpoint", "AddTags",
    ]  # fmt: skip
    aws.apply(found)
    left = planned(aws, deployment(), "b")
    assert left.steps == ()
    assert len(left.old) == 1


def test_an_update_says_what_changes() -> None:
    """The changes between the variants of the two configurations are listed."""
    aws = deployed(deployment())
    found = planned(aws, deployment(instance_type="ml.m5.2xlarge"))
    step = next(step for step in found.steps if step.operation == "UpdateEndpoint")
    assert ("AllTraffic.InstanceType", "ml.m5.xlarge", "ml.m5.2xlarge") in [
        (change.field, change.old, change.new) for change in step.changes
    ]


def test_weights_and_counts_changed_by_hand_are_reverted() -> None:
    """Drift in place is changed in place."""
    aws = deployed(deployment(variants=[Variant(variant_name="a"), Variant(variant_name="b")]))
    aws.endpoints["digits"]["variants"] = {"a": (1.0, 3), "b": (0.0, 1)}
    wanted = deployment(variants=[Variant(variant_name="a"), Variant(variant_name="b")])
    found = planned(aws, wanted)
    assert operations(found) == ["UpdateEndpointWeightsAndCapacities", "DescribeEndpoint"]
    assert found.steps[0].request["DesiredWeightsAndCapacities"] == [
        {"VariantName": "a", "DesiredInstanceCount": 1},
        {"VariantName": "b", "DesiredWeight": 1.0},
    ]
    aws.apply(found)
    assert planned(aws, wanted).steps == ()


def test_the_count_of_a_variant_that_is_scaled_is_no_drift() -> None:
    """Autoscaling decides it, so it is neither set back nor lost in an update."""
    wanted = deployment(autoscaling=Autoscaling(min_capacity=1, max_capacity=9, policies=[TRACKING]))
    aws = deployed(wanted)
    aws.endpoints["digits"]["variants"]["AllTraffic"] = (1.0, 7)
    assert planned(aws, wanted).steps == ()
    found = planned(aws, wanted, "b")
    update = next(step for step in found.steps if step.operation == "UpdateEndpoint")
    assert update.request["RetainAllVariantProperties"] is True
    aws.apply(found)
    assert aws.endpoints["digits"]["variants"]["AllTraffic"] == (1.0, 7)
    assert planned(aws, wanted, "b").steps == ()


def test_another_instance_type_frees_the_target_before_and_registers_it_after() -> None:
    """AWS refuses the update of a registered variant to another instance type."""
    scaled = {"autoscaling": Autoscaling(min_capacity=1, max_capacity=2, policies=[TRACKING])}
    aws = deployed(deployment(**scaled))
    found = operations(planned(aws, deployment(**scaled, instance_type="ml.c5.xlarge")))
    update = found.index("UpdateEndpoint")
    assert found.index("DeregisterScalableTarget") < update < found.index("RegisterScalableTarget")
    assert found.index("RegisterScalableTarget") < found.index("PutScalingPolicy")
    deployed(deployment(**scaled, instance_type="ml.c5.xlarge"), aws=aws)


def test_policies_changed_or_added_by_hand_are_reverted() -> None:
    """A changed policy is put again, one too many is deleted, a deleted one comes back."""
    wanted = deployment(autoscaling=Autoscaling(min_capacity=1, max_capacity=2, policies=[TRACKING]))
    aws = deployed(wanted)
    (key,) = aws.policies
    policy = aws.policies[key]
    configuration = "TargetTrackingScalingPolicyConfiguration"
    aws.policies[key] = {**policy, configuration: {**policy[configuration], "DisableScaleIn": True}}
    aws.policies[key[0], "foreign"] = {**policy, "PolicyName": "foreign"}
    assert operations(planned(aws, wanted)) == ["DeleteScalingPolicy", "PutScalingPolicy"]
    deployed(wanted, aws=aws)
    aws.targets[next(iter(aws.targets))]["MaxCapacity"] = 50
    assert operations(planned(aws, wanted)) == ["RegisterScalableTarget"]


def test_an_alarm_gets_the_name_of_the_policy_that_was_just_made() -> None:
    """What is known only later is resolved when it is."""
    wanted = deployment(
        async_inference_config=AsyncInference(),
        autoscaling=Autoscaling(
            min_capacity=0,
            max_capacity=2,
            policies=[TargetTracking(target_value=5, metric_name="ApproximateBacklogSizePerInstance"), StepScaling()],
        ),
    )
    aws = deployed(wanted)
    (alarm,) = aws.alarms.values()
    assert alarm["AlarmActions"] == ["arn:policy/digits-HasBacklogWithoutCapacity"]
    alarm["Threshold"] = 9.0
    assert operations(planned(aws, wanted)) == ["PutMetricAlarm"]
    assert operations(planned(aws, deployment(async_inference_config=AsyncInference()))) == [
        "DeleteAlarms", "DeregisterScalableTarget",
    ]  # fmt: skip


def test_an_endpoint_that_points_elsewhere_is_brought_back() -> None:
    """A configuration made by hand on our endpoint is drift, and the plan says so."""
    aws = deployed(deployment())
    aws.configs["by-hand"] = {"request": {"ProductionVariants": []}, "tags": {}, "created": 0}
    aws.endpoints["digits"] |= {"config": "by-hand", "variants": {}}
    found = planned(aws, deployment())
    assert operations(found) == ["UpdateEndpoint", "DescribeEndpoint"]
    assert "by hand" in found.steps[0].why


def test_lost_tags_are_put_back_and_foreign_ones_stay() -> None:
    """Tags of others (cost allocation, for example) are not ours to remove."""
    aws = deployed(deployment(tags={"team": "vision"}))
    aws.endpoints["digits"]["tags"] = {"cost": "42", DEPLOYMENT: "digits"}
    found = planned(aws, deployment(tags={"team": "vision"}))
    assert operations(found) == ["AddTags"]
    aws.apply(found)
    assert aws.endpoints["digits"]["tags"]["cost"] == "42"


def test_an_endpoint_of_others_is_not_changed() -> None:
    """A name that is taken is an error, with the way to hand it over."""
    aws = Memory()
    aws.endpoints["digits"] = {"status": "InService", "config": "theirs", "variants": {}, "tags": {}}
    with pytest.raises(DeploymentError, match="is not tritonforge's"):
        planned(aws, deployment())
    removal = plan_removal("digits", aws.observe("digits"))
    assert removal.steps == ()
    assert "stays" in removal.notes[0]


def test_a_failed_endpoint_is_deleted_and_created_anew() -> None:
    """Nothing else can be done with one (API DescribeEndpoint, EndpointStatus)."""
    aws = deployed(deployment())
    aws.endpoints["digits"]["status"] = "Failed"
    assert operations(planned(aws, deployment())) == [
        "DeleteEndpoint", "DescribeEndpoint", "CreateEndpoint", "DescribeEndpoint",
    ]  # fmt: skip
    deployed(deployment(), aws=aws)


@pytest.mark.parametrize("status", ["Creating", "Updating", "SystemUpdating", "RollingBack"])
def test_an_endpoint_that_is_changing_is_waited_for(status: str) -> None:
    """Neither an update nor a deletion is taken meanwhile."""
    aws = deployed(deployment())
    aws.endpoints["digits"]["status"] = status
    found = planned(aws, deployment(), "b")
    assert operations(found)[3:5] == ["DescribeEndpoint", "UpdateEndpoint"]
    removal = plan_removal("digits", aws.observe("digits"))
    assert operations(removal)[:2] == ["DescribeEndpoint", "DeleteEndpoint"]


def test_half_uploads_are_aborted() -> None:
    """What an interrupted run left behind is found again, whatever it was of."""
    aws = deployed(deployment())
    bucket = next(iter(aws.buckets))
    aws.incomplete_uploads["7"] = (bucket, "tritonforge/digits/" + "c" * 64 + "/model.tar.gz")
    assert operations(planned(aws, deployment())) == ["AbortMultipartUpload"]
    deployed(deployment(), aws=aws)
    assert aws.incomplete_uploads == {}


def test_pruning_removes_old_generations_and_what_only_they_use() -> None:
    """The newest that are kept keep their models and objects."""
    aws = Memory()
    for letter in "abcd":
        deployed(deployment(), letter, aws)
    found = planned(aws, deployment(), "d")
    assert [generation.name for generation in found.old] != []
    aws.apply(planned(aws, deployment(), "d", prune=1))
    assert len(aws.configs) == len(aws.models) == len(aws.objects) == 2
    assert {key.split("/")[2][0] for _, key in aws.objects} == {"c", "d"}
    aws.apply(planned(aws, deployment(), "d", prune=0))
    assert len(aws.configs) == len(aws.models) == len(aws.objects) == 1
    assert planned(aws, deployment(), "d", prune=0).steps == ()


def test_removal_takes_what_is_ours_and_nothing_else() -> None:
    """Foreign things under names and keys like ours stay, and are named."""
    aws = deployed(deployment(autoscaling=Autoscaling(min_capacity=1, max_capacity=2, policies=[TRACKING])))
    bucket = next(iter(aws.buckets))
    aws.objects[bucket, "tritonforge/digits/notes.txt"] = 5
    aws.objects[bucket, "tritonforge/other/" + "a" * 64 + "/model.tar.gz"] = 5
    theirs = {"request": {"ProductionVariants": []}, "tags": {DEPLOYMENT: "other"}, "created": 0}
    aws.configs["digits-0123456789ab"] = theirs
    found = plan_removal("digits", aws.observe("digits"))
    aws.apply(found)
    assert aws.models == aws.endpoints == aws.targets == aws.policies == {}
    assert list(aws.configs) == ["digits-0123456789ab"]
    assert sorted(key for _, key in aws.objects) == [
        "tritonforge/digits/notes.txt", "tritonforge/other/" + "a" * 64 + "/model.tar.gz",
    ]  # fmt: skip
    assert any("notes.txt" in note for note in found.notes)
    assert plan_removal("digits", aws.observe("digits")).steps == ()


def test_a_named_bucket_must_exist() -> None:
    """Only SageMaker's default bucket is created for the user."""
    with pytest.raises(DeploymentError, match="the bucket 'mine' does not exist"):
        planned(Memory(), deployment(bucket="mine"))


def test_secrets_are_shown_nowhere() -> None:
    """A variable that is named like a secret is masked in text, document and errors."""
    wanted = deployment(environment={"HF_TOKEN": "hf_abc", "LEVEL": "3", "DB_PASSWORD": "s3cret" * 400})
    found = plan_deployment(wanted, {"": content()}, Memory().observe("digits"))
    shown = "\n".join(render(found)) + json.dumps(to_json(found))
    assert "hf_abc" not in shown
    assert "s3cret" not in shown
    assert '"LEVEL": "3"' in shown
    with pytest.raises(RequestError, match="DB_PASSWORD") as caught:
        check_plan(found)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"image": None}, "the server image is missing"),
        ({"image": "24.08"}, "AWS publishes no Triton 24.08"),
        ({"image": "26.05+tensorflow"}, "image_uri"),
        ({"image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:v1"}, "the release that it is made from"),
        ({"execution_role_arn": None}, "the IAM role for SageMaker is missing"),
        ({"instance_type": None}, "the instance type is missing"),
        ({"instance_type": "m5.xlarge"}, "is not of the form"),
    ],
)
def test_missing_and_unknown_settings_are_reported(fields: dict[str, Any], sentence: str) -> None:
    """Each is one sentence with the way out, before any call."""
    with pytest.raises(DefinitionError, match=sentence):
        planned(Memory(), deployment(**fields))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "a_b"}, "a name has up to 41"),
        ({"name": "x" * 42}, "a name has up to 41"),
        ({"tags": {"tritonforge:deployment": "x"}}, "is reserved"),
        ({"variants": [Variant(), Variant()]}, "two variants are named"),
        ({"multi_model": True, "uncompressed": True}, "are archives"),
    ],
)
def test_a_deployment_that_contradicts_itself_cannot_be_made(fields: dict[str, Any], sentence: str) -> None:
    """Local facts are checked where they are written."""
    with pytest.raises(DefinitionError, match=sentence):
        deployment(**fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"instance_type": "ml.m5.gigantic"}, "enum value set"),
        ({"initial_instance_count": 0, "overrides": {"InitialInstanceCount": 0}}, "greater than or equal to 1"),
        ({"volume_size_in_gb": 1000}, "less than or equal to 512"),
        ({"kms_key_id": "not a key"}, "regular expression"),
        ({"environment": {"A": "x" * 1025}}, "less than or equal to 1024"),
        ({"environment": {f"A{n}": "x" * 1024 for n in range(40)}}, "at most 32768"),
        ({"overrides": {"Nonsense": 1}}, "Nonsense"),
        (
            {"instance_type": None, "serverless_config": Serverless(memory_size_in_mb=1500, max_concurrency=5)},
            "not a multiple of 1024",
        ),
        (
            {
                "instance_type": None,
                "serverless_config": Serverless(memory_size_in_mb=2048, max_concurrency=5),
                "vpc_config": VpcConfig(security_group_ids=["sg-1"], subnets=["subnet-1"]),
            },
            "takes no model with VpcConfig",
        ),
    ],
)
def test_what_aws_would_refuse_is_refused_before_any_call(fields: dict[str, Any], sentence: str) -> None:
    """The service model's maximums, patterns and enumerations, and the documented limits beside it."""
    with pytest.raises(RequestError, match=sentence):
        planned(Memory(), deployment(**fields))


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (BlueGreen(type="CANARY", size="60%"), "1 to 50 %"),
        (BlueGreen(type="CANARY"), "requires CanarySize"),
        (BlueGreen(type="LINEAR", size="5%"), "10 to 50 %"),
        (Rolling(maximum_batch_size="4%"), "5 to 50 %"),
        (
            BlueGreen(
                type="CANARY",
                size="10%",
                wait_interval_in_seconds=600,
                termination_wait_in_seconds=300,
                maximum_execution_timeout_in_seconds=900,
            ),
            "which are 900 s",
        ),
    ],
)
def test_an_update_policy_is_held_to_its_limits(policy: Any, sentence: str) -> None:
    """The limits of API TrafficRoutingConfig, RollingUpdatePolicy and BlueGreenUpdatePolicy."""
    aws = deployed(deployment())
    with pytest.raises(RequestError, match=sentence):
        planned(aws, deployment(deployment_config=policy), "b")


def test_every_setting_reaches_its_request() -> None:
    """A deployment with every setting gives requests that AWS's model takes."""
    wanted = deployment(
        image="24.09",
        instance_type="ml.g5.xlarge",
        initial_instance_count=2,
        variants=[
            Variant(variant_name="blue", initial_variant_weight=0.9),
            Variant(variant_name="green", initial_variant_weight=0.1, image="26.05", environment={"LEVEL": "2"}),
        ],
        routing_strategy="LEAST_OUTSTANDING_REQUESTS",
        volume_size_in_gb=100,
        model_data_download_timeout_in_seconds=600,
        container_startup_health_check_timeout_in_seconds=900,
        data_capture_config=DataCapture(initial_sampling_percentage=10),
        async_inference_config=AsyncInference(max_concurrent_invocations_per_instance=4),
        deployment_config=BlueGreen(type="LINEAR", size="25%", wait_interval_in_seconds=60, alarms=["errors"]),
        vpc_config=VpcConfig(security_group_ids=["sg-1"], subnets=["subnet-1", "subnet-2"]),
        kms_key_id="alias/key",
        enable_network_isolation=True,
        tags={"team": "vision"},
    )
    found = planned(Memory(), wanted)
    requests = {step.operation: step.request for step in found.steps}
    blue, green = requests["CreateEndpointConfig"]["ProductionVariants"]
    assert blue["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-gpu-3-1"
    assert green["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"
    assert green["InitialVariantWeight"] == 0.1
    assert operations(found).count("CreateModel") == 2
    assert requests["CreateModel"]["VpcConfig"]["Subnets"] == ["subnet-1", "subnet-2"]
    assert requests["CreateModel"]["EnableNetworkIsolation"] is True
    assert requests["CreateModel"]["PrimaryContainer"]["Environment"]["LEVEL"] == "2"
    assert requests["CreateEndpointConfig"]["DataCaptureConfig"]["DestinationS3Uri"].startswith("s3://sagemaker-")
    assert (
        "tritonforge-data" in requests["CreateEndpointConfig"]["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"]
    )
    assert any("gpu-4-1" in note and "13" in note for note in found.notes)


def test_the_image_of_a_bare_release_follows_the_instances() -> None:
    """Without a GPU the CPU image; the container's threads follow the vCPUs."""

    def container(**fields: Any) -> dict[str, Any]:
        found = plan_deployment(deployment(**fields), {"": content(batches=True)}, Memory().observe("digits"))
        return dict(next(s for s in found.steps if s.operation == "CreateModel").request["PrimaryContainer"])

    assert container()["Image"].endswith(":24.09-py3-cpu")
    assert container()["Environment"] == {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "digits"}
    gpu = container(instance_type="ml.g5.4xlarge")
    assert gpu["Image"].endswith(":24.09-py3")
    assert gpu["Environment"]["SAGEMAKER_TRITON_THREAD_COUNT"] == "16"
    assert gpu["Environment"]["SAGEMAKER_TRITON_BUFFER_MANAGER_THREAD_COUNT"] == "4"
    assert (
        container(environment={"SAGEMAKER_TRITON_THREAD_COUNT": "3"}, instance_type="ml.g5.4xlarge")["Environment"][
            "SAGEMAKER_TRITON_THREAD_COUNT"
        ]
        == "3"
    )
    own = container(image="26.05+tensorflow", image_uri="123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:1")
    assert own["Image"].endswith("/mine:1")


def test_a_tensorflow_serving_image_is_of_the_region_and_gets_no_variables_of_tritons() -> None:
    """For the processor of the instances; its GPU machine image is left to SageMaker."""
    aws = Memory()
    for instance, processor in (("ml.c5.xlarge", "cpu"), ("ml.g5.4xlarge", "gpu")):
        found = planned(aws, deployment(image="tensorflow-inference:2.19", instance_type=instance))
        requests = {step.operation: step.request for step in found.steps}
        container = requests["CreateModel"]["PrimaryContainer"]
        assert container["Image"].endswith(f".dkr.ecr.{REGION}.amazonaws.com/tensorflow-inference:2.19-{processor}")
        assert "Environment" not in container
        assert "InferenceAmiVersion" not in requests["CreateEndpointConfig"]["ProductionVariants"][0]


def test_a_multi_model_endpoint_has_one_container_and_an_archive_each() -> None:
    """The archives lie together under their common digest, by their TargetModel's name."""
    contents = {"cats": content("a"), "dogs": content("b")}
    wanted = deployment(multi_model=True)
    aws = Memory()
    found = plan_deployment(wanted, contents, aws.observe("digits"))
    check_plan(found)
    container = next(s for s in found.steps if s.operation == "CreateModel").request["PrimaryContainer"]
    assert container["Mode"] == "MultiModel"
    assert "Environment" not in container
    keys = [s.request["Key"] for s in found.steps if s.operation == "PutObject"]
    assert sorted(key.rpartition("/")[2] for key in keys) == ["cats.tar.gz", "dogs.tar.gz"]
    assert all(f"s3://{found.steps[0].name}/{key}".startswith(container["ModelDataUrl"]) for key in keys)
    aws.apply(found)
    assert plan_deployment(wanted, contents, aws.observe("digits")).steps == ()
    changed = plan_deployment(wanted, {**contents, "dogs": content("c")}, aws.observe("digits"))
    assert "UpdateEndpoint" in operations(changed)


def test_files_that_are_missing_of_an_uncompressed_repository_are_uploaded() -> None:
    """An interrupted upload of many files is resumed."""
    wanted = deployment(uncompressed=True)
    contents = {"": content(files={"m/config.pbtxt": 10, "m/1/model.onnx": 990})}
    aws = Memory()
    found = plan_deployment(wanted, contents, aws.observe("digits"))
    check_plan(found)
    assert found.upload_bytes == 1000
    key = next(s for s in found.steps if s.operation == "PutObject").request["Key"]
    aws.buckets.add(found.steps[0].name)
    aws.objects[found.steps[0].name, f"{key}m/config.pbtxt"] = 10
    half = plan_deployment(wanted, contents, aws.observe("digits"))
    assert half.upload_bytes == 990
    assert "1 of its 2 files" in half.steps[0].why


# What follows draws deployments and events at random.

SCALED = Autoscaling(min_capacity=1, max_capacity=4, policies=[TRACKING])
WOKEN = Autoscaling(min_capacity=0, max_capacity=4, policies=[TRACKING, StepScaling()])


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    """Deployments of one name that differ in everything that a plan treats in its own way."""
    variants = [
        Variant(
            variant_name=name,
            initial_variant_weight=draw(st.sampled_from([0.25, 1.0])),
            instance_type=draw(st.sampled_from([None, "ml.m5.2xlarge"])),
            autoscaling=draw(st.sampled_from([None, SCALED, WOKEN])),
        )
        for name in draw(st.sampled_from([["a"], ["a", "b"], ["b"]]))
    ]
    return deployment(
        variants=variants,
        initial_instance_count=draw(st.integers(1, 3)),
        tags=draw(st.sampled_from([{}, {"team": "vision"}])),
    )


@st.composite
def events(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Runs that are stopped somewhere, and changes by others meanwhile."""
    one = st.one_of(
        st.tuples(st.just("run"), st.tuples(deployments(), st.sampled_from("abc"), st.integers(0, 14))),
        st.tuples(st.just("fail"), st.none()),
        st.tuples(st.just("drift"), st.integers(0, 9)),
        st.tuples(st.just("untag"), st.none()),
        st.tuples(st.just("unscale"), st.none()),
        st.tuples(st.just("delete"), st.none()),
    )
    return draw(st.lists(one, max_size=6))


def happen(aws: Memory, event: tuple[str, Any]) -> None:
    """One event."""
    kind, value = event
    endpoint = aws.endpoints.get("digits")
    if kind == "run":
        wanted, letter, stop = value
        aws.apply(planned(aws, wanted, letter), stop=stop)
    elif endpoint is None:
        return
    elif kind == "fail":
        endpoint["status"] = "Failed"
    elif kind == "drift":
        endpoint["variants"] = dict.fromkeys(endpoint["variants"], (value / 3, value))
    elif kind == "untag":
        endpoint["tags"] = {}
    elif kind == "unscale":
        aws.targets.clear()
        aws.policies.clear()
    elif kind == "delete":
        del aws.endpoints["digits"]


@pytest.mark.slow
@settings(max_examples=120 * TIMES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events(), deployments(), st.sampled_from("abc"))
def test_from_any_state_one_run_ends_in_what_was_asked_for(
    before: list[tuple[str, Any]], wanted: Deployment, letter: str
) -> None:
    """Whatever was interrupted or changed by hand: after one plan the next is empty, and removal leaves nothing."""
    aws = Memory()
    for event in before:
        happen(aws, event)
    aws.apply(planned(aws, wanted, letter))
    assert operations(planned(aws, wanted, letter)) == []
    endpoint = aws.endpoints["digits"]
    assert endpoint["status"] == "InService"
    assert set(endpoint["variants"]) == {variant.variant_name for variant in wanted.variants}
    scaled = {variant.variant_name for variant in wanted.variants if variant.autoscaling}
    assert {resource.rpartition("/")[2] for resource, _ in aws.targets} == scaled
    aws.apply(planned(aws, wanted, letter, prune=0))
    assert len(aws.configs) == 1
    aws.apply(plan_removal("digits", aws.observe("digits")))
    assert aws.list_names() == []


@settings(max_examples=60 * TIMES, deadline=None)
@given(events(), st.integers(0, 20))
def test_a_removal_that_is_stopped_anywhere_goes_on(before: list[tuple[str, Any]], stop: int) -> None:
    """Objects go before the models that name them, so nothing is left behind."""
    aws = Memory()
    for event in before:
        happen(aws, event)
    aws.apply(plan_removal("digits", aws.observe("digits")), stop=stop)
    aws.apply(plan_removal("digits", aws.observe("digits")))
    assert plan_removal("digits", aws.observe("digits")).steps == ()
    assert aws.list_names() == []


def test_the_place_is_where_the_session_is() -> None:
    """Bucket, role and image follow region and account."""
    found = planned(Memory(), deployment(execution_role_arn="Endpoint"))
    requests = {step.operation: step.request for step in found.steps}
    assert requests["CreateBucket"]["Bucket"] == f"sagemaker-{REGION}-{ACCOUNT}"
    assert requests["CreateModel"]["ExecutionRoleArn"] == f"arn:aws:iam::{ACCOUNT}:role/Endpoint"
    assert f".{REGION}." in requests["CreateModel"]["PrimaryContainer"]["Image"]


def test_settings_that_are_none_leave_a_deployment_as_it_is() -> None:
    """Flags override, where they are given."""
    first = deployment()
    assert first.with_settings(image=None, region="us-east-1") == dataclasses.replace(first, region="us-east-1")
