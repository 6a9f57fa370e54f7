"""Configurations: definition to message, message to text and back."""

import contextlib
from typing import Any, get_args, get_type_hints

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tritonforge import (
    TYPE_FP32,
    TYPE_INT32,
    TYPE_STRING,
    All,
    BatchInput,
    BatchOutput,
    Control,
    ControlInput,
    Dali,
    Direct,
    DynamicBatching,
    Ensemble,
    InitialState,
    Input,
    InstanceGroup,
    Latest,
    Oldest,
    Onnx,
    Output,
    Python,
    PyTorch,
    QueuePolicy,
    RateLimiter,
    Resource,
    SecondaryDevice,
    SequenceBatching,
    Specific,
    State,
    Tensor,
    TensorFlow,
    TensorRT,
    Warmup,
    WarmupInput,
)
from tritonforge.errors import DefinitionError, PbtxtError
from tritonforge.repository.model_config import build_config, format_config, parse_config
from tritonforge.triton.schema import load_model_config_pb2, new_model_config

INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values of one scalar field."""
    if field.type in INTEGERS:
        return st.integers(*INTEGERS[field.type])
    if field.type == FieldDescriptor.TYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return {
        FieldDescriptor.TYPE_STRING: TEXT,
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_FLOAT: st.floats(width=32, allow_nan=False),
        FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
    }[field.type]


def fill(draw: st.DrawFn, message: Any, *names: str) -> None:
    """Set some of a message's fields, or the named ones, of any depth."""
    descriptor: Descriptor = message.DESCRIPTOR
    if not names and descriptor.fields:
        names = tuple(sorted(draw(st.sets(st.sampled_from(sorted(descriptor.fields_by_name)), max_size=5))))
    for field in [descriptor.fields_by_name[name] for name in names]:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
            for entry in draw(st.sets(scalars(key), max_size=2)):
                if value.message_type is not None:
                    fill(draw, getattr(message, field.name)[entry])
                else:
                    getattr(message, field.name)[entry] = draw(scalars(value))
        elif field.message_type is not None and field.is_repeated:
            for _ in range(draw(st.integers(0, 2))):
                fill(draw, getattr(message, field.name).add())
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            fill(draw, getattr(message, field.name))
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(scalars(field), max_size=3)))
        else:
            setattr(message, field.name, draw(scalars(field)))


@st.composite
def model_configs(draw: st.DrawFn) -> Any:
    """Any ModelConfig."""
    config = new_model_config()
    fill(draw, config)
    return config


@pytest.mark.slow
@given(model_configs())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_read_back_equal(config: Any) -> None:
    """For any message: reading what was written gives it back."""
    assert parse_config(format_config(config)) == config


@pytest.mark.parametrize("name", [field.name for field in new_model_config().DESCRIPTOR.fields])
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_field_of_the_schema_is_read_back(name: str, data: st.DataObject) -> None:
    """Each field of ModelConfig alone, so that none is left to chance."""
    config = new_model_config()
    fill(data.draw, config, name)
    assert parse_config(format_config(config)) == config


def test_max_batch_size_is_always_written_in_its_place() -> None:
    """DALI's backend reads it from the text, where 0 and absent differ."""
    config = build_config(Python("m", input=[Input("x", TYPE_FP32, [1])]))
    assert format_config(config).splitlines()[:4] == ['name: "m"', 'backend: "python"', "max_batch_size: 0", "input {"]


def test_fields_come_in_the_order_of_the_proto_without_defaults() -> None:
    """The text is as a person would write it."""
    text = format_config(build_config(Onnx("m", max_batch_size=2, input=[Input("x", TYPE_FP32, [3, 4])])))
    assert text == (
        'name: "m"\nplatform: "onnxruntime_onnx"\nbackend: "onnxruntime"\nmax_batch_size: 2\n'
        'input {\n  name: "x"\n  data_type: TYPE_FP32\n  dims: [3, 4]\n}\n'
    )


BROKEN = [
    ('name: "m"\nmax_batch: 8\n', 2, "max_batch"),
    ('name: "m"\nname: "n"\n', 2, "name"),
    ("input { data_type: TYPE_FLOAT }", 1, "TYPE_FLOAT"),
    ('name: "m', 1, ""),
    ("input {", 1, ""),
    ("max_batch_size: ${size}", 1, ""),
    ("dynamic_batching {} ensemble_scheduling {}", 1, "scheduling_choice"),
]


@pytest.mark.parametrize(("text", "line", "part"), BROKEN)
def test_broken_text_is_an_error_with_its_place(text: str, line: int, part: str) -> None:
    """Whatever is wrong with the text, the error says where."""
    with pytest.raises(PbtxtError) as raised:
        parse_config(text)
    assert raised.value.line == line
    assert part in str(raised.value)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Reading never raises anything but PbtxtError."""
    with contextlib.suppress(PbtxtError):
        parse_config(text)


def expect(definition: Any, text: str) -> None:
    """The message of a definition equals the one in this text."""
    assert build_config(definition) == parse_config(text)


def test_every_typed_setting_reaches_its_field() -> None:
    """Each class and each field of the definition language lands in the proto field of its name."""
    expect(
        Python(
            "m",
            max_batch_size=8,
            input=[
                Input("a", TYPE_FP32, [1], format="FORMAT_NHWC", reshape=[], optional=True, allow_ragged_batch=True),
                Input("b", TYPE_FP32, [4], reshape=[2, 2], is_shape_tensor=True, is_non_linear_format_io=True),
            ],
            output=[Output("c", TYPE_STRING, [1], reshape=[], label_filename="l.txt", is_shape_tensor=True)],
            version_policy=Specific([1, 3]),
            instance_group=[
                InstanceGroup(
                    name="g",
                    kind="KIND_GPU",
                    count=2,
                    gpus=[0, 1],
                    rate_limiter=RateLimiter(resources=[Resource("R", 4, True)], priority=2),
                    secondary_devices=[SecondaryDevice(kind="KIND_NVDLA", device_id=1)],
                    profile=["p"],
                    passive=True,
                    host_policy="h",
                )
            ],
            dynamic_batching=DynamicBatching(
                preferred_batch_size=[4, 8],
                max_queue_delay_microseconds=100,
                preserve_ordering=True,
                priority_levels=2,
                default_priority_level=1,
                default_queue_policy=QueuePolicy(timeout_action="DELAY", default_timeout_microseconds=5),
                priority_queue_policy={2: QueuePolicy(allow_timeout_override=True, max_queue_size=7)},
            ),
            batch_input=[
                BatchInput(kind="BATCH_ITEM_SHAPE", target_name=["t"], data_type=TYPE_INT32, source_input=["a"])
            ],
            batch_output=[BatchOutput(kind="BATCH_SCATTER_WITH_INPUT_SHAPE", target_name=["c"], source_input=["a"])],
            parameters={"n": 3, "on": True, "s": "x"},
            model_warmup=[
                Warmup(
                    "w",
                    {
                        "a": WarmupInput(TYPE_FP32, [1], random_data=True),
                        "b": WarmupInput(TYPE_FP32, [4], input_data_file="f", data=b"0" * 16),
                    },
                    batch_size=2,
                    count=3,
                )
            ],
            default_model_filename="other.py",
            cc_model_filenames={"7.5": "x"},
            metric_tags={"k": "v"},
            model_operations=["lib.so"],
            response_cache=True,
            decoupled=True,
            runtime="r",
            override="optimization { eager_batching: true }",
        ),
        """
        name: "m" backend: "python" max_batch_size: 8 runtime: "r"
        input { name: "a" data_type: TYPE_FP32 dims: 1 format: FORMAT_NHWC reshape {} optional: true
                allow_ragged_batch: true }
        input { name: "b" data_type: TYPE_FP32 dims: 4 reshape { shape: [2, 2] } is_shape_tensor: true
                is_non_linear_format_io: true }
        output { name: "c" data_type: TYPE_STRING dims: 1 reshape {} label_filename: "l.txt" is_shape_tensor: true }
        version_policy { specific { versions: [1, 3] } }
        instance_group { name: "g" kind: KIND_GPU count: 2 gpus: [0, 1] profile: "p" passive: true host_policy: "h"
          rate_limiter { resources { name: "R" count: 4 global: true } priority: 2 }
          secondary_devices { kind: KIND_NVDLA device_id: 1 } }
        dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 100 preserve_ordering: true
          priority_levels: 2 default_priority_level: 1
          default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 5 }
          priority_queue_policy { key: 2 value { allow_timeout_override: true max_queue_size: 7 } } }
        batch_input { kind: BATCH_ITEM_SHAPE target_name: "t" data_type: TYPE_INT32 source_input: "a" }
        batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "c" source_input: "a" }
        parameters { key: "n" value { string_value: "3" } }
        parameters { key: "on" value { string_value: "true" } }
        parameters { key: "s" value { string_value: "x" } }
        model_warmup { name: "w" batch_size: 2 count: 3
          inputs { key: "a" value { data_type: TYPE_FP32 dims: 1 random_data: true } }
          inputs { key: "b" value { data_type: TYPE_FP32 dims: 4 input_data_file: "f" } } }
        default_model_filename: "other.py"
        cc_model_filenames { key: "7.5" value: "x" }
        metric_tags { key: "k" value: "v" }
        model_operations { op_library_filename: "lib.so" }
        response_cache { enable: true }
        model_transaction_policy { decoupled: true }
        optimization { eager_batching: true }
        """,
    )


def test_sequence_batching_reaches_its_fields() -> None:
    """Both strategies, controls and states."""
    expect(
        Python(
            "m",
            sequence_batching=SequenceBatching(
                oldest=Oldest(
                    max_candidate_sequences=4,
                    preferred_batch_size=[2],
                    max_queue_delay_microseconds=3,
                    preserve_ordering=True,
                ),
                max_sequence_idle_microseconds=9,
                control_input=[
                    ControlInput("START", [Control(kind="CONTROL_SEQUENCE_END", fp32_false_true=[0, 1])]),
                    ControlInput("ID", [Control(kind="CONTROL_SEQUENCE_CORRID", data_type="TYPE_UINT64")]),
                ],
                state=[
                    State(
                        input_name="i",
                        output_name="o",
                        data_type=TYPE_FP32,
                        dims=[-1],
                        initial_state=[InitialState(name="z", data_type=TYPE_FP32, dims=[1], zero_data=True)],
                        use_growable_memory=True,
                    )
                ],
                iterative_sequence=True,
            ),
        ),
        """
        name: "m" backend: "python"
        sequence_batching {
          oldest { max_candidate_sequences: 4 preferred_batch_size: 2 max_queue_delay_microseconds: 3
                   preserve_ordering: true }
          max_sequence_idle_microseconds: 9
          control_input { name: "START" control { kind: CONTROL_SEQUENCE_END fp32_false_true: [0, 1] } }
          control_input { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
          state { input_name: "i" output_name: "o" data_type: TYPE_FP32 dims: -1 use_growable_memory: true
                  initial_state { name: "z" data_type: TYPE_FP32 dims: 1 zero_data: true } }
          iterative_sequence: true
        }
        """,
    )
    direct = Python("m", sequence_batching=SequenceBatching(direct=Direct(minimum_slot_utilization=0.5)))
    expect(direct, 'name: "m" backend: "python" sequence_batching { direct { minimum_slot_utilization: 0.5 } }')


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Dali("m"), 'name: "m" backend: "dali"'),
        (TensorFlow("m"), 'name: "m" platform: "tensorflow_savedmodel"'),
        (
            TensorFlow("m", platform="tensorflow_graphdef", backend="tensorflow"),
            'name: "m" platform: "tensorflow_graphdef" backend: "tensorflow"',
        ),
        (Onnx("m"), 'name: "m" platform: "onnxruntime_onnx" backend: "onnxruntime"'),
        (PyTorch("m"), 'name: "m" platform: "pytorch_libtorch" backend: "pytorch"'),
        (TensorRT("m"), 'name: "m" platform: "tensorrt_plan" backend: "tensorrt"'),
        (Python("m"), 'name: "m" backend: "python"'),
        (Python("m", version_policy=All()), 'name: "m" backend: "python" version_policy { all {} }'),
        (
            Python("m", version_policy=Latest(2)),
            'name: "m" backend: "python" version_policy { latest { num_versions: 2 } }',
        ),
        (Python("m", dynamic_batching=DynamicBatching()), 'name: "m" backend: "python" dynamic_batching {}'),
        (
            Ensemble(
                "m",
                outputs={
                    "O": Python("p", input=[Input("x", TYPE_FP32, [1])], output=[Output("y", TYPE_FP32, [1])])(
                        Tensor("I"), version=3
                    )
                },
                response_cache=True,
                parameters={"k": "v"},
                max_inflight_requests=2,
                override='metric_tags { key: "a" value: "b" }',
            ),
            """
            name: "m" platform: "ensemble"
            input { name: "I" data_type: TYPE_FP32 dims: 1 } output { name: "O" data_type: TYPE_FP32 dims: 1 }
            ensemble_scheduling { max_inflight_requests: 2 step { model_name: "p" model_version: 3
              input_map { key: "x" value: "I" } output_map { key: "y" value: "O" } } }
            response_cache { enable: true } parameters { key: "k" value { string_value: "v" } }
            metric_tags { key: "a" value: "b" }
            """,
        ),
    ],
)
def test_each_kind_names_its_platform_and_backend(model: Any, text: str) -> None:
    """The kinds differ in the backend that loads them."""
    expect(model, text)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            Python("m", dynamic_batching=DynamicBatching(max_queue_delay_microseconds=-1)),
            "max_queue_delay_microseconds",
        ),
        (Python("m", override="nonsense {"), "m: override: "),
        (Python("m", max_batch_size=2**31), "m: max_batch_size is 2147483648"),
    ],
)
def test_what_the_schema_cannot_hold_is_refused(model: Python, sentence: str) -> None:
    """The error names the model, the field and the value."""
    with pytest.raises(DefinitionError, match=sentence):
        build_config(model)


def test_the_schema_is_tritonclients_own() -> None:
    """A newer tritonclient with other fields fails here: run tests/fixtures/make_schema.py."""
    import tritonclient.grpc.model_config_pb2 as theirs

    ours = load_model_config_pb2()
    assert ours.DESCRIPTOR.serialized_pb == theirs.DESCRIPTOR.serialized_pb
    assert set(vars(theirs)) - set(vars(ours)) <= {"descriptor_pb2"} | {name for name in vars(theirs) if name[0] == "_"}
    assert ours.ModelConfig.__name__ == "ModelConfig"
    assert ours.DataType.Name(ours.TYPE_BF16) == "TYPE_BF16"


@pytest.mark.parametrize(
    ("made", "field", "message"),
    [
        (Input, "format", "ModelInput"),
        (InstanceGroup, "kind", "ModelInstanceGroup"),
        (SecondaryDevice, "kind", "ModelInstanceGroup.SecondaryDevice"),
        (QueuePolicy, "timeout_action", "ModelQueuePolicy"),
        (Control, "kind", "ModelSequenceBatching.Control"),
        (BatchInput, "kind", "BatchInput"),
        (BatchOutput, "kind", "BatchOutput"),
    ],
)
def test_the_names_that_a_field_takes_are_the_schemas(made: type, field: str, message: str) -> None:
    """A name that a newer schema adds is missed here."""
    descriptor = load_model_config_pb2().DESCRIPTOR.message_types_by_name[message.split(".")[0]]
    for part in message.split(".")[1:]:
        descriptor = descriptor.nested_types_by_name[part]
    known = descriptor.fields_by_name[field].enum_type.values_by_name
    assert set(get_args(get_type_hints(made)[field])) - {""} == set(known)
