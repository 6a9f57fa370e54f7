"""The space has the settings that can matter for a model's backend, and a point is applied to configurations."""

from typing import Any

import pytest
from google.protobuf import text_format

from tritonforge.triton.schema import new_model_config
from tritonforge.tuning.search_space import (
    COUNT,
    DELAY,
    MAX_BATCH_SIZE,
    PREFERRED,
    SearchSpace,
)
from tritonforge.tuning.space_builder import SpaceLimits, build_space

STEPS = 'platform: "ensemble" ensemble_scheduling { step { model_name: "a" } step { model_name: "b" } }'
LIMITS = SpaceLimits(cores=2, instances=4)


def parse(**texts: str) -> dict[str, Any]:
    configs = {}
    for name, text in texts.items():
        configs[name] = new_model_config()
        text_format.Parse(f'name: "{name}" {text}', configs[name])
    return configs


def build(limits: SpaceLimits = LIMITS, **texts: str) -> SearchSpace:
    configs = parse(**texts)
    return build_space(configs, configs, limits=limits)


def list_values(space: SearchSpace) -> dict[str, tuple[object, ...]]:
    return {f"{setting.model}.{setting.name}": setting.values for setting in space.settings}


def choose(space: SearchSpace, **values: object) -> tuple[int, ...]:
    names = {"batch": MAX_BATCH_SIZE, "delay": DELAY, "preferred": PREFERRED, "count": COUNT}
    chosen = {names.get(name, name): value for name, value in values.items()}
    return tuple(
        setting.values.index(chosen[setting.name]) if setting.name in chosen else setting.current  # type: ignore[arg-type]  # any value
        for setting in space.settings
    )


def test_a_model_that_batches_has_its_batching_and_its_instances_searched() -> None:
    space = build(m='backend: "python" max_batch_size: 8')
    assert list_values(space) == {
        f"m.{MAX_BATCH_SIZE}": (8, 16, 32),
        f"m.{DELAY}": (None, 0, 500, 2000, 10_000),
        f"m.{PREFERRED}": ((), (4,), (8,), (16,)),
        f"m.{COUNT}": (1, 2, 4),
    }
    assert space.read(space.current) == {
        ("m", MAX_BATCH_SIZE): 8, ("m", DELAY): None, ("m", PREFERRED): (), ("m", COUNT): 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "parameter", "values"),
    [
        ('platform: "onnxruntime_onnx"', "intra_op_thread_count", (None, 1, 2)),
        ('platform: "tensorflow_graphdef"', "TF_NUM_INTRA_THREADS", (None, 1, 2)),
        ('backend: "openvino"', "INFERENCE_NUM_THREADS", (None, 1, 2)),
        ('backend: "fil"', "cpu_nthread", (None, 1, 2)),
        ('backend: "dali" parameters { key: "num_threads" value { string_value: "3" } }', "num_threads", (1, 2, 3)),
    ],
)
def test_threads_are_the_parameter_of_the_backend(text: str, parameter: str, values: tuple[object, ...]) -> None:
    assert list_values(build(m=text))[f"m.{parameter}"] == values


def test_instances_that_are_not_stated_are_those_that_triton_makes() -> None:
    space = build(onnx='platform: "onnxruntime_onnx"', python='backend: "python"')
    assert space.read(space.current)["onnx", COUNT] == 2
    assert space.read(space.current)["python", COUNT] == 1


def test_a_model_without_a_batch_dimension_keeps_it() -> None:
    assert list_values(build(m='backend: "python" max_batch_size: 0')) == {f"m.{COUNT}": (1, 2, 4)}


def test_a_batch_that_the_model_file_limits_does_not_grow() -> None:
    assert f"m.{MAX_BATCH_SIZE}" not in list_values(build(m='platform: "tensorrt_plan" max_batch_size: 8'))
    assert f"m.{MAX_BATCH_SIZE}" not in list_values(build(m='backend: "unknown" max_batch_size: 8'))


def test_a_batch_shrinks_to_what_clients_send_and_does_not_grow_beyond_what_waits() -> None:
    limits = SpaceLimits(cores=2, instances=2, largest_request=2, rows_in_flight=6)
    assert list_values(build(limits, m='backend: "python" max_batch_size: 4'))[f"m.{MAX_BATCH_SIZE}"] == (2, 4, 8)
    assert list_values(build(limits, m='backend: "python" max_batch_size: 64'))[f"m.{MAX_BATCH_SIZE}"] == (2, 4, 8, 64)


def test_sequences_and_several_instance_groups_are_left_alone() -> None:
    space = build(
        sequence='backend: "python" max_batch_size: 4 sequence_batching {}',
        groups='backend: "python" instance_group { count: 1 } instance_group { count: 2 }',
    )
    assert space.settings == ()
    assert len(space.notes) == 2


def test_priorities_keep_dynamic_batching_on() -> None:
    space = build(m='backend: "python" max_batch_size: 4 dynamic_batching { priority_levels: 2 }')
    assert list_values(space)[f"m.{DELAY}"] == (0, 500, 2000, 10_000)


def test_a_point_changes_only_what_differs() -> None:
    space = build(m='backend: "python" max_batch_size: 8 dynamic_batching { preserve_ordering: true }')
    config: Any = space.apply(choose(space, batch=16, delay=500, preferred=(4,), count=2))["m"]
    assert (
        config
        == parse(
            m="""backend: "python" max_batch_size: 16 instance_group { count: 2 } dynamic_batching {
        preserve_ordering: true max_queue_delay_microseconds: 500 preferred_batch_size: 4 }"""
        )["m"]
    )
    assert space.apply(space.current)["m"] == space.configs["m"]


def test_dynamic_batching_is_turned_on_and_off() -> None:
    space = build(m='backend: "python" max_batch_size: 8 dynamic_batching { preferred_batch_size: 4 }')
    off: Any = space.apply(space.canonicalize(choose(space, delay=None)))["m"]
    assert not off.HasField("dynamic_batching")
    space = build(m='backend: "python" max_batch_size: 8')
    on: Any = space.apply(choose(space, delay=0))["m"]
    assert on.HasField("dynamic_batching")


def test_the_batch_of_an_ensemble_stays_the_smallest_of_its_steps() -> None:
    texts = {"a": 'backend: "python" max_batch_size: 8', "b": 'backend: "python" max_batch_size: 8'}
    for stated, expected in ((8, 16), (4, 4)):
        space = build(**texts, e=f"{STEPS} max_batch_size: {stated}")
        config: Any = space.apply(choose(space, batch=16))["e"]
        assert config.max_batch_size == expected


def test_steps_of_an_ensemble_keep_their_batches_in_proportion() -> None:
    space = build(
        a='backend: "python" max_batch_size: 4',
        b='backend: "python" max_batch_size: 8',
        alone='backend: "python" max_batch_size: 2',
        e=f"{STEPS} max_batch_size: 4",
    )
    assert [(entry.model, entry.members) for entry in space.settings if entry.name == MAX_BATCH_SIZE] == [
        ("a", ("b",)),
        ("alone", ()),
    ]
    values = space.read(tuple(
        setting.values.index(8) if setting.name == MAX_BATCH_SIZE else setting.current for setting in space.settings
    ))  # fmt: skip
    assert [values[name, MAX_BATCH_SIZE] for name in ("a", "b", "alone")] == [8, 16, 8]


def test_a_batch_stays_where_another_step_of_its_ensemble_keeps_its_own() -> None:
    space = build(
        a='backend: "python" max_batch_size: 4',
        b='backend: "python" max_batch_size: 4 sequence_batching {}',
        e=f"{STEPS} max_batch_size: 4",
    )
    assert MAX_BATCH_SIZE not in {setting.name for setting in space.settings}


def test_points_of_the_same_effect_are_one() -> None:
    space = build(m='backend: "python" max_batch_size: 8')
    for values in ({"batch": 16}, {"preferred": (4,)}, {"batch": 32, "preferred": (16,)}):
        assert space.canonicalize(choose(space, **values)) == space.current  # dynamic batching is off
    assert space.canonicalize(choose(space, delay=0, preferred=(4,))) == choose(space, delay=0)
    assert space.canonicalize(choose(space, delay=500, preferred=(16,))) == choose(space, delay=500)
    assert space.canonicalize(choose(space, delay=500, preferred=(4,))) == choose(space, delay=500, preferred=(4,))


def test_a_stated_preferred_size_stays_where_it_does_not_matter() -> None:
    space = build(m='backend: "python" max_batch_size: 8 dynamic_batching { preferred_batch_size: 8 }')
    assert space.canonicalize(space.current) == space.current
    assert space.list_changes(space.canonicalize(choose(space, preferred=()))) == []
