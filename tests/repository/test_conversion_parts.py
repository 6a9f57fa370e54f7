"""Tests of the parts of a conversion that need no framework: settings, shapes, opsets, differences, inputs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tritonforge.model_files.signature import TensorSpec
from tritonforge.repository import model_config as text
from tritonforge.repository import onnx_comparison, onnx_conversion, onnx_translation
from tritonforge.repository.onnx_comparison import Difference, compare_outputs, describe_problem
from tritonforge.repository.onnx_conversion import ConversionJob, ConvertedModel, ImagePipeline, choose_opset
from tritonforge.triton import CATALOGUE, find_image

FP32 = "TYPE_FP32"


def scores(*rows: list[float]) -> np.ndarray:
    """Rows of FP32."""
    return np.array(rows, np.float32)


def test_every_setting_of_tensorflows_own_is_left_out_with_a_sentence() -> None:
    """Parameters, accelerators, libraries of ops, files by GPU; what every backend reads stays."""
    made, notes = onnx_conversion.convert_config(
        text.parse_config(
            """
            name: "m" backend: "tensorflow" platform: "tensorflow_savedmodel" default_model_filename: "x"
            parameters { key: "TF_SIGNATURE_DEF" value { string_value: "s" } }
            parameters { key: "MAX_SESSION_SHARE_COUNT" value { string_value: "2" } }
            optimization { priority: PRIORITY_MAX cuda { graphs: true }
              execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }
            cc_model_filenames { key: "7.5" value: "y" } model_operations { op_library_filename: "ops.so" }
            response_cache { enable: true }
            """
        )
    )
    assert made == text.parse_config(
        'name: "m" backend: "onnxruntime" platform: "onnxruntime_onnx" optimization { priority: PRIORITY_MAX } '
        "response_cache { enable: true }"
    )
    assert [sentence.split(" left out ")[1].split(":")[0] for sentence in notes] == [
        "TensorFlow's parameters MAX_SESSION_SHARE_COUNT, TF_SIGNATURE_DEF",
        "optimization { cuda execution_accelerators }",
        "cc_model_filenames",
        "model_operations",
    ]
    assert all(sentence.startswith("m: ") for sentence in notes)


def test_a_configuration_without_such_settings_says_nothing() -> None:
    """Only the platform changes; what was not written is not written now."""
    made, notes = onnx_conversion.convert_config(text.parse_config('platform: "tensorflow_graphdef" max_batch_size: 4'))
    assert (made, notes) == (text.parse_config('platform: "onnxruntime_onnx" max_batch_size: 4'), ())


def test_what_schedulers_feed_a_model_counts_among_its_tensors() -> None:
    """Controls and states of sequences, and what the batcher adds; a reshape is what the model sees."""
    config = text.parse_config(
        """
        max_batch_size: 2
        input { name: "x" data_type: TYPE_INT32 dims: [ 1 ] reshape { } }
        output { name: "y" data_type: TYPE_FP32 dims: [ 2, -1 ] }
        batch_input { kind: BATCH_ELEMENT_COUNT target_name: "n" data_type: TYPE_FP32 source_input: "x" }
        sequence_batching {
          control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
          state { input_name: "before" output_name: "after" data_type: TYPE_FP32 dims: [ 3 ] }
        }
        """
    )
    assert tuple(onnx_conversion.list_inputs(config)) == (
        TensorSpec("x", "TYPE_INT32", (-1,)),
        TensorSpec("START"),
        TensorSpec("before", FP32, (-1, 3)),
        TensorSpec("n", FP32),
    )
    assert tuple(onnx_conversion.list_outputs(config)) == (
        TensorSpec("y", FP32, (-1, 2, -1)),
        TensorSpec("after", FP32, (-1, 3)),
    )


def test_the_step_that_makes_an_input_is_found_in_the_ensemble() -> None:
    """By the tensor between two steps; an input that the ensemble's caller gives has none."""
    configs = {
        "decode": text.parse_config('output { name: "SIZE" } output { name: "PIXELS" }'),
        "model": text.parse_config('input { name: "image" } input { name: "mode" }'),
        "whole": text.parse_config(
            """
            ensemble_scheduling {
              step { model_name: "decode" output_map { key: "PIXELS" value: "p" } }
              step { model_name: "model" input_map { key: "image" value: "p" } input_map { key: "mode" value: "MODE" } }
            }
            """
        ),
    }
    assert onnx_conversion.find_sources(configs, "model") == {"image": ("decode", 1)}
    assert onnx_conversion.find_sources(configs, "decode") == {}


def test_the_opset_is_the_newest_that_converter_and_image_take() -> None:
    """ONNX Runtime 1.14, of 23.03, is the first that runs opset 18; 14 is for the images before it."""
    assert choose_opset(find_image("26.05")) == 18
    assert choose_opset(find_image("26.09")) == 18
    assert choose_opset(find_image("21.08")) == 14
    assert {choose_opset(image) for image in CATALOGUE.values() if image.release < "23.03"} == {14}
    assert {choose_opset(image) for image in CATALOGUE.values() if image.release >= "23.03"} == {18}


@pytest.mark.parametrize(
    ("stated", "found", "expected"),
    [
        ((-1, 299, 299, 3), (-1, -1, -1, 3), (-1, 299, 299, 3)),
        ((-1, -1, 3), (8, 224, 3), (-1, 224, 3)),
        (None, (-1, 4), (-1, 4)),
        ((-1, 5), None, (-1, 5)),
        ((1,), (), ()),
    ],
)
def test_the_shape_to_ask_with_is_as_precise_as_both_sides_have_it(
    stated: tuple[int, ...] | None, found: tuple[int, ...] | None, expected: tuple[int, ...]
) -> None:
    """An extent that either side states is taken; the batch stays open where the model batches."""
    batched = expected[:1] == (-1,)
    assert (
        onnx_translation.narrow_shape(TensorSpec("x", FP32, stated), TensorSpec("x", FP32, found), batched=batched)
        == expected
    )


def test_a_difference_is_a_fraction_of_the_largest_value() -> None:
    """The same difference is much for small scores and little for large ones."""
    small = compare_outputs(scores([0.001, 0.002]), scores([0.001, 0.0019]), FP32)
    assert (round(small.absolute, 6), round(small.relative, 3)) == (0.0001, 0.05)
    large = compare_outputs(scores([1, 2]), scores([1, 1.9999]), FP32)
    assert round(large.relative, 5) == 0.00005
    assert describe_problem(small, FP32).startswith(
        "differs from TensorFlow's by 0.0001, 0.05 of its largest value, where 0.0001"
    )
    assert describe_problem(large, FP32) == ""
    # Where all is nearly nothing, rounding is not divided by it.
    assert describe_problem(compare_outputs(scores([0, 0]), scores([0, 1e-8]), FP32), FP32) == ""


def test_another_largest_class_is_refused_within_the_tolerance_too() -> None:
    """Two scores that lie together: the difference is allowed, the other class is not; a tie has no largest."""
    moved = compare_outputs(scores([0.50001, 0.5], [0.9, 0.1]), scores([0.5, 0.50001], [0.9, 0.1]), FP32)
    assert (moved.classes, moved.moved) == (2, 1)
    assert describe_problem(moved, FP32) == "has another largest class in 1 of 2 rows"
    tied = compare_outputs(scores([0.5, 0.5]), scores([0.5, 0.49999]), FP32)
    assert (tied.classes, describe_problem(tied, FP32)) == (0, "")


@pytest.mark.parametrize(
    ("original", "converted", "data_type", "words"),
    [
        (scores([1, 2]), scores([1, 2, 3]), FP32, r"has shape \[1, 3\] where TensorFlow's has \[1, 2\]"),
        (scores([1, np.nan]), scores([1, 2]), FP32, "is not a number"),
        (scores([1, 2]), scores([1, np.inf]), FP32, "is not a number"),
        (np.array([1, 2, 3]), np.array([1, 2, 4]), "TYPE_INT64", "differs in 1 of 3 values"),
        (np.array([True]), np.array([False]), "TYPE_BOOL", "differs in 1 of 1 values"),
        (np.array([b"a"], object), np.array(["b"], object), "TYPE_STRING", "differs in 1 of 1 values"),
    ],
)
def test_what_is_no_rounding_is_reported_as_what_it_is(
    original: np.ndarray, converted: np.ndarray, data_type: str, words: str
) -> None:
    """Shapes, numbers that are none, and values that must be equal."""
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(describe_problem(compare_outputs(original, converted, data_type), data_type))


def test_equal_answers_of_every_kind_are_equal() -> None:
    """NaN in the same place is the same answer, and so is text as bytes and as str."""
    nan = scores([np.nan, np.inf, 1])
    assert compare_outputs(nan, nan.copy(), FP32) == Difference()
    assert compare_outputs(np.array([b"a"], object), np.array(["a"], object), "TYPE_STRING") == Difference()


def job(max_batch_size: int = 8, **pipelines: ImagePipeline) -> ConversionJob:
    """A job of which only what `samples` reads is set."""
    return ConversionJob("m", 1, "tensorflow_graphdef", "", "", 18, max_batch_size, pipelines=pipelines)


@pytest.mark.parametrize(
    ("shape", "data_type", "expected"),
    [
        ((-1, 32, 40, 3), FP32, (4, 32, 40, 3)),
        ((-1, 3, 32, 40), FP32, (4, 3, 32, 40)),
        ((-1, -1, -1, 3), FP32, (4, 224, 224, 3)),
        ((-1, 28, 28, 1), "TYPE_UINT8", (4, 28, 28, 1)),
    ],
)
def test_photographs_come_in_the_inputs_size_layout_and_range(
    shape: tuple[int, ...], data_type: str, expected: tuple[int, ...]
) -> None:
    """One and four of them; 0 to 1 as FP32, 0 to 255 as UINT8; no two alike."""
    made = [
        case for case in onnx_comparison.generate_batches(job(), [TensorSpec("x", data_type, shape)]) if case.size == 4
    ]
    assert [case.kind for case in made] == ["random", "photographs"]
    array = made[1].arrays["x"]
    assert (array.shape, array.dtype) == (expected, np.float32 if data_type == FP32 else np.uint8)
    assert (0.9 if data_type == FP32 else 230) < array.max() <= (1 if data_type == FP32 else 255)
    assert len({row.tobytes() for row in array}) == 4


def test_a_fixed_batch_and_small_batches_are_kept_to() -> None:
    """A model of batch 1 is asked single inputs; one that takes two at most, two."""
    fixed = onnx_comparison.generate_batches(job(0), [TensorSpec("x", FP32, (1, 16, 16, 3))])
    assert [(case.size, case.arrays["x"].shape) for case in fixed] == [(1, (1, 16, 16, 3))] * 2
    two = onnx_comparison.generate_batches(job(2), [TensorSpec("x", "TYPE_INT64", (-1, -1))])
    assert [case.arrays["x"].shape for case in two] == [(1, 16), (2, 16)]
    assert all(onnx_comparison.replace_integers(case).arrays["x"].max() == 0 for case in two)


def test_random_inputs_are_the_same_each_time() -> None:
    """A fixed seed: a comparison can be done again."""
    tensors = [TensorSpec("x", FP32, (-1, 7)), TensorSpec("t", "TYPE_STRING", (-1, 1))]
    first, second = (onnx_comparison.generate_batches(job(), tensors) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert all((one.arrays[name] == other.arrays[name]).all() for name in ("x", "t"))


@pytest.mark.framework
def test_a_pipeline_that_does_not_run_here_is_reported_and_photographs_are_scaled(tmp_path) -> None:
    """The comparison continues without it."""
    broken = tmp_path / "model.dali"
    broken.write_bytes(b"no pipeline")
    notes: list[str] = []
    asked = job(x=ImagePipeline(str(broken), 0))
    made = onnx_comparison.generate_batches(
        asked, [TensorSpec("x", FP32, (-1, 16, 16, 3))], on_progress=lambda event: notes.append(event.message)
    )
    assert "photographs" in {case.kind for case in made}
    assert len(notes) == 1
    assert "DALI pipeline does not run here (this is not a serialised DALI pipeline" in notes[0]


def test_jobs_and_facts_survive_their_way_as_json() -> None:
    """What the parent asks and what the child answers arrive as they were."""
    asked = ConversionJob(
        "m", 2, "tensorflow_savedmodel", "/a b", "/c", 18, 4,
        inputs=(TensorSpec("x", FP32, (-1, 2)),), pipelines={"x": ImagePipeline("/d", 1)},
    )  # fmt: skip
    assert ConversionJob.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    facts = ConvertedModel("m", 2, 18, "tf2onnx 1", 0, 5, 0.1, 0.2, 0.3, 0, 1.5)
    assert ConvertedModel.from_json(facts.to_json()) == facts
    assert "on 5 random inputs" in facts.sentence


@pytest.mark.framework
def test_an_inner_tensor_is_renamed_for_a_name_and_branches_follow() -> None:
    """The names of inputs and outputs are exactly those wanted, also where the graph had them inside."""
    from onnx import TensorProto, checker, helper

    inner = helper.make_graph(
        [helper.make_node("Identity", ["x:0"], ["branch"])],
        "then",
        [],
        [helper.make_tensor_value_info("branch", TensorProto.FLOAT, [1])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["y"]),
            helper.make_node("If", ["y"], ["y:0"], then_branch=inner, else_branch=inner),
        ],
        "g",
        [
            helper.make_tensor_value_info("x:0", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y:0", TensorProto.FLOAT, [1])],
    )
    onnx_translation.rename_tensors(graph, {"x:0": "x", "y:0": "y"})
    assert ([tensor.name for tensor in graph.input], [tensor.name for tensor in graph.output]) == (["x", "c"], ["y"])
    assert graph.node[1].input[0] == graph.node[0].output[0] == "y/inner"
    assert graph.node[1].attribute[0].g.node[0].input[0] == "x"
    checker.check_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))
