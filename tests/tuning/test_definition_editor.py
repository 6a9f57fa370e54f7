"""Settings are written into a definition's source: only their arguments change, and what is computed is left alone."""

import pytest

from tritonforge.tuning.definition_editor import edit_definition
from tritonforge.tuning.search_space import COUNT, DELAY, MAX_BATCH_SIZE, PREFERRED

SPLIT = '''"""A definition."""

from tritonforge import (
    TYPE_FP32,
    Input,
    Output,
    Python,
)

# Decodes.
decode = Python(
    "decode",
    max_batch_size=8,  # what the clients send
    input=[Input("raw", TYPE_FP32, [4])],
    output=[Output("pixels", TYPE_FP32, [4])],
    artifact="decode.py",
)
'''


TWO_FIELDS = (
    'Python("m", dynamic_batching=DynamicBatching(preferred_batch_size=[4, 8], max_queue_delay_microseconds=500))'
)


def write(call: str, imports: str = "DynamicBatching, InstanceGroup, Python") -> str:
    return f"from tritonforge import {imports}\n\nmodel = {call}\n"


def read_call(text: str) -> str:
    return text.split("model = ", 1)[1].strip()


def test_only_the_changed_arguments_of_a_split_call_differ() -> None:
    edited = edit_definition(
        SPLIT,
        {("decode", MAX_BATCH_SIZE): 16, ("decode", DELAY): 500, ("decode", PREFERRED): (4,), ("decode", COUNT): 2},
    )
    assert edited.manual == ()
    assert edited.text == SPLIT.replace("max_batch_size=8,  # what", "max_batch_size=16,  # what").replace(
        '    artifact="decode.py",\n',
        '    artifact="decode.py",\n'
        "    instance_group=[InstanceGroup(count=2)],\n"
        "    dynamic_batching=DynamicBatching(max_queue_delay_microseconds=500, preferred_batch_size=[4]),\n",
    ).replace("    Input,\n", "    DynamicBatching,\n    Input,\n    InstanceGroup,\n")


@pytest.mark.parametrize(
    ("call", "settings", "expected"),
    [
        ('Python("m", max_batch_size=8)', {MAX_BATCH_SIZE: 16}, 'Python("m", max_batch_size=16)'),
        ('Python(name="m")', {MAX_BATCH_SIZE: 16}, 'Python(name="m", max_batch_size=16)'),
        ('Python("m")', {COUNT: 2}, 'Python("m", instance_group=[InstanceGroup(count=2)])'),
        ('Python("m", instance_group=[])', {COUNT: 2}, 'Python("m", instance_group=[InstanceGroup(count=2)])'),
        (
            'Python("m", instance_group=[InstanceGroup(kind="KIND_CPU")])',
            {COUNT: 2},
            'Python("m", instance_group=[InstanceGroup(kind="KIND_CPU", count=2)])',
        ),
        (
            'Python("m", instance_group=[InstanceGroup()])',
            {COUNT: 2},
            'Python("m", instance_group=[InstanceGroup(count=2)])',
        ),
        ('Python("m")', {DELAY: 0}, 'Python("m", dynamic_batching=DynamicBatching())'),
        (
            'Python("m", dynamic_batching=None)',
            {DELAY: 500},
            'Python("m", dynamic_batching=DynamicBatching(max_queue_delay_microseconds=500))',
        ),
        (
            'Python("m", dynamic_batching=DynamicBatching())',
            {DELAY: 500, PREFERRED: (4, 8)},
            TWO_FIELDS,
        ),
        (
            'Python("m", dynamic_batching=DynamicBatching(max_queue_delay_microseconds=500, preserve_ordering=True))',
            {DELAY: 0, PREFERRED: ()},
            'Python("m", dynamic_batching=DynamicBatching(max_queue_delay_microseconds=0, preserve_ordering=True))',
        ),
        (
            'Python("m", dynamic_batching=DynamicBatching(preferred_batch_size=[4]))',
            {DELAY: None, PREFERRED: (4,)},
            'Python("m", dynamic_batching=None)',
        ),
        ('Python("m")', {DELAY: None}, 'Python("m")'),
        ('Python("m", parameters={})', {"threads": 2}, 'Python("m", parameters={"threads": 2})'),
        ('Python("m", parameters={"a": 1})', {"threads": 2}, 'Python("m", parameters={"a": 1, "threads": 2})'),
        (
            'Python("m", artifact=("a" "b"))',
            {COUNT: 2},
            'Python("m", artifact=("a" "b"), instance_group=[InstanceGroup(count=2)])',
        ),
        (
            'Python("m",\n    artifact=(\n        "a"\n    ),\n)',
            {COUNT: 2},
            'Python("m",\n    artifact=(\n        "a"\n    ),\n    instance_group=[InstanceGroup(count=2)],\n)',
        ),
        ('Python("m", parameters={"threads": "1"})', {"threads": 2}, 'Python("m", parameters={"threads": 2})'),
    ],
)  # fmt: skip
def test_a_setting_is_written_where_its_field_is(call: str, settings: dict[str, object], expected: str) -> None:
    edited = edit_definition(write(call), {("m", name): value for name, value in settings.items()})  # type: ignore[misc]  # values of several types
    assert edited.manual == ()
    assert read_call(edited.text) == expected


@pytest.mark.parametrize(
    ("call", "settings", "sentence"),
    [
        ('Python("m", max_batch_size=BATCH)', {MAX_BATCH_SIZE: 16},
         "m: line 3: max_batch_size is computed. Set max_batch_size to 16."),
        ('Python("m", dynamic_batching=batching)', {DELAY: None},
         "m: line 3: dynamic_batching is computed. Set dynamic_batching to None."),
        ('Python("m", instance_group=groups)', {COUNT: 2},
         "m: line 3: instance_group is computed. Set instance_group.count to 2."),
        ('Python("m", parameters={"threads": N})', {"threads": 2},
         'm: line 3: parameters["threads"] is computed. Set parameters["threads"] to 2.'),
        ('Python("m", **common)', {COUNT: 2},
         "m: line 3: its arguments are computed (**). Set instance_group.count to 2."),
        ('[Python("m"), Python("m")]', {COUNT: 2},
         "m: this file has 2 calls with its name. Set instance_group.count to 2."),
        ("make(NAME)", {COUNT: 2},
         "m: this file has no call with its name as a literal. Set instance_group.count to 2."),
    ],
)  # fmt: skip
def test_what_is_computed_is_left_alone_and_named(call: str, settings: dict[str, object], sentence: str) -> None:
    source = write(call)
    edited = edit_definition(source, {("m", name): value for name, value in settings.items()})  # type: ignore[misc]  # values of several types
    assert edited.manual == (sentence,)
    assert edited.text == source


def test_one_setting_that_is_computed_leaves_the_others_to_edit() -> None:
    edited = edit_definition(
        write('Python("m", max_batch_size=BATCH, instance_group=[InstanceGroup(count=1)])'),
        {("m", MAX_BATCH_SIZE): 16, ("m", COUNT): 2},
    )
    assert len(edited.manual) == 1
    assert read_call(edited.text) == 'Python("m", max_batch_size=BATCH, instance_group=[InstanceGroup(count=2)])'


def test_names_are_as_the_file_imports_them() -> None:
    source = 'import tritonforge as tf\n\nmodel = tf.Python("m")\n'
    assert (
        'tf.Python("m", instance_group=[tf.InstanceGroup(count=2)])' in edit_definition(source, {("m", COUNT): 2}).text
    )
    source = 'from tritonforge import InstanceGroup as Group, Python as Py\n\nmodel = Py("m")\n'
    assert 'Py("m", instance_group=[Group(count=2)])' in edit_definition(source, {("m", COUNT): 2}).text


def test_text_that_is_not_ascii_and_line_ends_of_windows_stay() -> None:
    source = 'from tritonforge import Python\r\n\r\ntitle = "größer"; model = Python("m", max_batch_size=8,\r\n)\r\n'
    edited = edit_definition(source, {("m", MAX_BATCH_SIZE): 16})
    assert edited.text == source.replace("=8", "=16")


def test_a_call_of_another_module_is_no_model() -> None:
    source = 'from elsewhere import Python\n\nmodel = Python("m")\n'
    assert edit_definition(source, {("m", COUNT): 2}).text == source
