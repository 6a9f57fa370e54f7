"""The inputs and outputs of a DALI pipeline and those of its configuration. No I/O.

Inputs are matched by name, outputs by position. Only what the pipeline declares is compared: ``dtype``, ``ndim`` and
``layout`` of an external source, ``output_dtype`` and ``output_ndim`` of the pipeline; a declared shape has a rank but
no sizes. Source: dali_backend/src/config_tools/config_tools.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from tritonforge.model_files.signature import Difference, Signature, TensorSpec, compare_signatures
from tritonforge.validation.context import Context, ModelView, TensorView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import define_advice, define_error

_TOOLS: Final = "dali_backend/src/config_tools/config_tools.cc"

# fmt: off
E503 = define_error("E503", "Configuration file contains config for <n> but such input is not present in the pipeline.",
    source=f"{_TOOLS} ValidateAgainstTooManyInputs",
    why="An input of the configuration is the external source of the same name.",
    bad='fn.external_source(name="IMAGE")   input { name: "DALI_INPUT_0" }',
    good='fn.external_source(name="DALI_INPUT_0")   input { name: "DALI_INPUT_0" }')
E504 = define_error("E504", 'Missing config for "<n>" input.',
    source=f"{_TOOLS} ValidateInputs",
    why="Without auto-completion every external source needs its input in the configuration.",
    bad='fn.external_source(name="A"), fn.external_source(name="B")   input { name: "A" }',
    good='fn.external_source(name="A")   input { name: "A" }')
E505 = define_error("E505", "Mismatch of data_type config for \"<n>\".\nData type defined in config: <X>\nData type "
                            "defined in pipeline: <Y>",
    source=f"{_TOOLS} ProcessDtypeConfig",
    why="The backend casts nothing: the types must be equal where the pipeline declares one.",
    bad='fn.external_source(name="A", dtype=types.UINT8)   input { name: "A" data_type: TYPE_FP32 }',
    good='fn.external_source(name="A", dtype=types.UINT8)   input { name: "A" data_type: TYPE_UINT8 }')
E506 = define_error("E506", "Mismatch in number of dimensions for \"<n>\"\nNumber of dimensions defined in config: "
                            "<A>\nNumber of dimensions defined in pipeline: <B>",
    source=f"{_TOOLS} MatchShapes",
    why="dims has one number for each dimension of a sample; with max_batch_size: 0 one more in front, the batch.",
    bad='fn.external_source(name="A", ndim=1)   input { name: "A" dims: [-1, -1] }',
    good='fn.external_source(name="A", ndim=1)   input { name: "A" dims: [-1] }')
E507 = define_error("E507", "The number of outputs specified in the DALI pipeline and the configuration file do not "
                            "match.\nModel config outputs: <A>\nPipeline outputs: <B>",
    source=f"{_TOOLS} AutofillOutputsConfig, ValidateOutputs",
    why="Outputs go by position. With auto-completion fewer may be written, without it the numbers must be equal.",
    bad='return images   output [{ name: "A" }, { name: "B" }]',
    good='return images, labels   output [{ name: "A" }, { name: "B" }]')
E508 = define_error("E508", 'Missing data_type config for "<n>"',
    source=f"{_TOOLS} ProcessDtypeConfig",
    why="Neither the configuration nor the pipeline says the type, and the backend does not run the pipeline to see.",
    bad='return fn.resize(images)   output { name: "A" dims: [-1, -1, 3] }',
    good='return fn.resize(images)   output { name: "A" data_type: TYPE_UINT8 dims: [-1, -1, 3] }')
E509 = define_error("E509", 'Missing dims config for "<n>"',
    source=f"{_TOOLS} ValidateShapeConfig; core model_config_utils.cc ValidateIOShape",
    why="Neither the configuration nor the pipeline says how many dimensions there are.",
    bad='fn.external_source(name="A", dtype=types.UINT8)   input { name: "A" data_type: TYPE_UINT8 }',
    good='fn.external_source(name="A", dtype=types.UINT8, ndim=1)   input { name: "A" data_type: TYPE_UINT8 }')
W505 = define_advice("W505", "max_batch_size is left out: DALI batches as the pipeline says, Triton reads 0 until "
                             "DALI completes it",
    source="dali_backend/src/dali_model.h (max_batch_size is read from the text of config.pbtxt)",
    why="Left out and zero are not the same to DALI: zero means unbatched, with one more dimension in front. With "
        "--disable-auto-complete-config Triton and DALI then disagree.",
    bad='backend: "dali"', good='backend: "dali" max_batch_size: 256')
W506 = define_advice("W506", "the output has the name of another output of the pipeline: outputs are matched by "
                             "position",
    source="dali_backend docs, config auto-complete; dali_model.h ReadOutputsOrder",
    why="The first output of the configuration is the first that the pipeline returns, whatever they are called.",
    bad='pipeline outputs images, labels   output [{ name: "labels" }, { name: "images" }]',
    good='pipeline outputs images, labels   output [{ name: "images" }, { name: "labels" }]')
# fmt: on

#: The rules of this module, which `tritonforge.validation.rules.dali_files` checks.
SIGNATURE_RULES: Final = (E503, E504, E505, E506, E507, E508, E509, W505, W506)

_ABSENT: Final = "TYPE_INVALID"
#: How many names a sentence lists.
_LISTED: Final = 20


def check_max_batch_size(model: ModelView) -> Iterator[Finding]:
    """Check that the configuration has max_batch_size."""
    if model.has_config and not model.document.has("max_batch_size"):
        yield W505.report(
            W505.sentence,
            path=model.config_path,
            node=model.place(model.document.one("backend")),
            help="write the pipeline's max_batch_size",
        )


def compare_signature(context: Context, model: ModelView, signature: Signature, *, path: str) -> Iterator[Finding]:
    """Compare the pipeline in ``path`` with the model's configuration."""
    yield from _Comparison(context, model, signature, path).run()


class _Comparison:
    """One model's configuration and one pipeline."""

    def __init__(self, context: Context, model: ModelView, declared: Signature, path: str) -> None:
        self._completes = context.options.auto_complete
        self._model = model
        self._path = path
        batch_size = model.document.one("max_batch_size")
        self._has_batch_in_dims = batch_size is not None and batch_size.value == 0
        split = model.document.entries("parameters").get("split_along_outer_axis")
        value = split.message("value") if split is not None else None
        split_names = frozenset(value.text("string_value").split(":")) if value is not None else frozenset()
        outputs = [
            replace(tensor, shape=tensor.shape[1:]) if tensor.shape and tensor.name in split_names else tensor
            for tensor in declared.outputs
        ]
        self._declared = replace(declared, outputs=outputs)

    def run(self) -> Iterator[Finding]:
        """Yield the findings: what differs, what auto-completion cannot complete, and a doubtful order of outputs."""
        inputs = {tensor.name: tensor for tensor in self._model.inputs if tensor.name}
        outputs = self._model.outputs
        declared = self._declared
        if self._completes and len(outputs) < len(declared.outputs):  # the others are completed
            declared = replace(declared, outputs=declared.outputs[: len(outputs)])
        stated = Signature(
            [self._build_spec(tensor) for tensor in inputs.values()],
            # Two outputs of one name are two outputs, and are found again by their position.
            [replace(self._build_spec(tensor), name=str(index)) for index, tensor in enumerate(outputs)],
        )
        for difference in compare_signatures(stated, declared, batched=not self._has_batch_in_dims):
            yield from self._report_difference(difference, inputs)
        for tensor in self._declared.inputs:
            if tensor.name in inputs:
                yield from self._check_incomplete("input", inputs[tensor.name], tensor)
            elif self._completes:
                yield from self._check_completed("input", tensor)
        if len(outputs) == len(declared.outputs):
            yield from self._compare_order(outputs)

    def _build_spec(self, tensor: TensorView) -> TensorSpec:
        dims = tuple(tensor.dims)
        shape = None if not dims else dims if self._has_batch_in_dims else (-1, *dims)
        return TensorSpec(tensor.name, None if tensor.data_type == _ABSENT else tensor.data_type, shape)

    def _report_difference(self, difference: Difference, inputs: Mapping[str, TensorView]) -> Iterator[Finding]:
        stated, declared, path = difference.stated, difference.found, self._model.config_path
        if difference.kind == "count":
            configured, count = self._model.outputs, len(self._declared.outputs)
            yield E507.report(
                "The number of outputs specified in the DALI pipeline and the configuration file do not match.\n"
                f"Model config outputs: {len(configured)}\nPipeline outputs: {count}",
                path=path,
                node=self._model.place(*(tensor.node for tensor in configured[count:])),
                help=f"{self._path} returns {count}",
            )
        elif stated is None:
            assert declared is not None
            if not self._completes:
                yield E504.report(
                    f'Missing config for "{declared.name}" input.',
                    path=path,
                    node=self._model.place(self._model.document.one("input")),
                    help="add the input, or let the server complete the configuration",
                )
        elif declared is None:
            names = [tensor.name for tensor in self._declared.inputs]
            listed = ", ".join(map(repr, names[:_LISTED])) + (", ..." if len(names) > _LISTED else "")
            yield E503.report(
                f"Configuration file contains config for {stated.name} but such input is not present in the pipeline.",
                path=path,
                node=inputs[stated.name].node.one("name"),
                help=f"the external sources of {self._path} are: {listed or 'none'}",
            )
        elif difference.direction == "input":
            yield self._report_mismatch(difference, inputs[stated.name], declared)
        else:
            index = int(stated.name)
            order = f"outputs are matched by position: this one is the pipeline's {_format_ordinal(index)}"
            yield self._report_mismatch(difference, self._model.outputs[index], declared, help=order)

    def _report_mismatch(
        self,
        difference: Difference,
        tensor: TensorView,
        declared: TensorSpec,
        help: str = "",  # noqa: A002 - named as in Finding
    ) -> Finding:
        if difference.kind == "data_type":
            # Where the backend completes, its sentence has DALI's own name.
            name = declared.name if self._completes else tensor.name
            return E505.report(
                f'Mismatch of data_type config for "{name}".\nData type defined in config: {tensor.data_type}\n'
                f"Data type defined in pipeline: {declared.data_type}",
                path=self._model.config_path,
                node=tensor.node.one("data_type"),
                help=help or f"write data_type: {declared.data_type}, or change the pipeline",
            )
        rank = len(declared.shape or ()) - (0 if self._has_batch_in_dims else 1)
        return E506.report(
            f'Mismatch in number of dimensions for "{tensor.name}"\n'
            f"Number of dimensions defined in config: {len(tensor.dims)}\n"
            f"Number of dimensions defined in pipeline: {rank}",
            path=self._model.config_path,
            node=tensor.node.get("dims")[0],
            help=help or ("max_batch_size: 0 puts the batch in front of dims" if self._has_batch_in_dims else ""),
        )

    def _compare_order(self, configured: Sequence[TensorView]) -> Iterator[Finding]:
        positions = {tensor.name: index for index, tensor in enumerate(self._declared.outputs)}
        for index, declared in enumerate(self._declared.outputs):
            if index >= len(configured):
                yield from self._check_completed("output", declared)
                continue
            tensor = configured[index]
            yield from self._check_incomplete("output", tensor, declared)
            if positions.get(tensor.name, index) != index:
                other = _format_ordinal(positions[tensor.name])
                yield W506.report(
                    f"output {tensor.name} has the name of the pipeline's {other} output, "
                    f"but outputs are matched by position: it is the {_format_ordinal(index)}",
                    path=self._model.config_path,
                    node=tensor.node.one("name"),
                    help="write the outputs in the order in which the pipeline returns them",
                )

    def _check_incomplete(self, kind: str, tensor: TensorView, declared: TensorSpec) -> Iterator[Finding]:
        """Yield findings for what neither the configuration nor the pipeline states of a tensor that both have."""
        if not self._completes:
            return
        if tensor.data_type == _ABSENT and declared.data_type is None:
            yield E508.report(
                f'Missing data_type config for "{tensor.name}"',
                path=self._model.config_path,
                node=tensor.node,
                help="write its data_type, or declare it in the pipeline",
            )
        if not tensor.dims and declared.shape is None:
            yield E509.report(
                f"model {kind} '{tensor.name}' must specify 'dims' for {self._model.name}",
                path=self._model.config_path,
                node=tensor.node,
                help="write its dims, or declare ndim in the pipeline",
            )

    def _check_completed(self, kind: str, declared: TensorSpec) -> Iterator[Finding]:
        """Check a tensor that auto-complete adds to the configuration: the pipeline must declare its type and rank."""
        config = self._model.has_config
        place = self._model.place(self._model.document.one(kind)) if config else None
        path = self._model.config_path if config else self._path
        if declared.data_type is None:
            yield E508.report(
                f'Missing data_type config for "{declared.name}"',
                path=path,
                node=place,
                help=f"write this {kind} into the configuration, or declare its type in the pipeline",
            )
        elif declared.shape is None:
            yield E509.report(
                f'Missing dims config for "{declared.name}"',
                path=path,
                node=place,
                help=f"write this {kind} into the configuration, or declare its ndim in the pipeline",
            )


def _format_ordinal(index: int) -> str:
    return ("first", "second", "third")[index] if index < 3 else f"{index + 1}th"
