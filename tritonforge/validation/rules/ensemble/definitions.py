"""The rules of ensembles: what each says, where it comes from, a bad and a good example. No I/O."""

from __future__ import annotations

from typing import Final

from tritonforge.validation.rules.catalogue import Rule

__all__ = ["BY_CODE", "RULES"]

_CONFIG: Final = "model_config_utils.cc ValidateEnsembleSchedulingConfig"
_GRAPH: Final = "model_config_utils.cc BuildEnsembleGraph"
_DEPENDENCY: Final = "model_repository_manager.cc ConnectDependencyGraph"
_VALIDATE: Final = "model_repository_manager.cc ValidateEnsembleConfig"
_MAPPING: Final = "ensemble_scheduler/ensemble_utils.cc ValidateTensorMapping"
_CONSISTENCY: Final = "ensemble_scheduler/ensemble_utils.cc ValidateTensorConsistency"

#: (code, source, summary, why, bad, good)
_ROWS: Final[tuple[tuple[str, str, str, str, str, str], ...]] = (
    ("E301", _CONFIG, "ensemble scheduling cannot be set for model '<e>' whose platform is not ensemble",
     "Steps belong to an ensemble, which has no other backend.",
     'platform: "onnxruntime_onnx" ensemble_scheduling { step [...] }',
     'platform: "ensemble" ensemble_scheduling { step [...] }'),
    ("E302", _CONFIG, "instance group should not be specified for ensemble '<e>'",
     "An ensemble only passes tensors on: it has no instances, nothing to optimise, and nothing to warm up.",
     'platform: "ensemble" instance_group [{ count: 2 }]', "instance_group in the models of the steps"),
    ("E303", _CONFIG, "must specify 'step' for ensemble '<e>'", "An ensemble is its steps.",
     "ensemble_scheduling {}", 'ensemble_scheduling { step [{ model_name: "x" ... }] }'),
    ("E304", _GRAPH, "must specify 'model_name' in step <i> of ensemble '<e>'",
     "A step is a model, what it reads and what it writes.",
     'step [{ model_name: "x" model_version: -1 }]',
     (
         'step [{ model_name: "x" model_version: -1 input_map { key: "A" value: "I" } output_map { '
         'key: "B" value: "O" } }]'
     )),
    ("E305", _GRAPH, "ensemble tensor '<t>' can appear in an output map only once for ensemble '<e>' step <i>",
     "A tensor has one writer.",
     'output_map { key: "B" value: "O" } in two steps', 'output_map { key: "B" value: "P" } in one of them'),
    ("E306", _GRAPH, "input '<i>' in model '<m>' is mapped to multiple ensemble tensors for ensemble '<e>' step <i>",
     ("input_map is a map: of two entries with one key the server keeps the last and drops the "
         "first without a word, so "
     "the tensor of the first is usually found unused instead."),
     'input_map { key: "A" value: "I" } input_map { key: "A" value: "J" }',
     'input_map { key: "A" value: "I" } input_map { key: "C" value: "J" }'),
    ("E307", _CONFIG, "ensemble input '<i>' for ensemble <e>' is not used",
     "Each input of the ensemble is read by a step.",
     'input [{ name: "J" ... }] and no input_map with value: "J"', 'input_map { key: "A" value: "J" }'),
    ("E308", _CONFIG, "ensemble output '<o>' for ensemble <e>' is not used",
     "Each output of the ensemble is written by a step.",
     'output [{ name: "P" ... }] and no output_map with value: "P"', 'output_map { key: "B" value: "P" }'),
    ("E309", _CONFIG, "output '<o>' for ensemble '<e>' is not written",
     "A step runs when all that it reads is there; some of what leads to this output never is.",
     'input_map { key: "A" value: "typo" }', 'input_map { key: "A" value: "INPUT" }'),
    ("E310", _CONFIG, "ensemble tensor '<t>' is unused in ensemble '<e>'",
     "A tensor between steps has a writer and a reader; an output that nobody needs is left out of the map.",
     'output_map { key: "B" value: "T" } and no step that reads T', 'input_map { key: "A" value: "T" }'),
    ("E320", _DEPENDENCY, "ensemble <e> contains models that are not available or ambiguous: <names>",
     "Each step's model is in the repository and its configuration is taken.",
     'step [{ model_name: "resnet" ... }] without resnet/', "resnet/config.pbtxt"),
    ("E321", "model_repository_manager.cc CircularDependencyCheck",
     "circular dependency between ensembles: <a> -> ... -> <b> -> <a>",
     ("An ensemble cannot contain itself. An ensemble that leads into a circle which it is not "
         "part of kills the server: "
     "the check never ends (seen on 2.51)."),
     "e has a step f, f has a step e", "e has a step f"),
    ("E322", _VALIDATE, "ensemble '<e>' depends on '<x>' which is not valid. Model '<x>' failed with error: <why>",
     "A step's ensemble is refused, so this one is too.",
     "a step whose model is an ensemble that is refused", "mend that ensemble"),
    ("E323", _VALIDATE, ("ensemble '<e>' depends on '<x>' which has no loaded version. Model '<x>' loading failed with "
     "error: <why>"),
     "A step's model does not load, so the ensemble does not either.",
     "a step whose model does not load", "mend that model"),
    ("E324", _VALIDATE, "ensemble '<e>' depends on '<x>' whose required version <v> is not loaded.",
     ("model_version left out means 0, not the latest; -1 is the latest. A number has to be one "
         "that the model's version "
     "policy loads."),
     'step [{ model_name: "x" input_map {...} output_map {...} }]',
     'step [{ model_name: "x" model_version: -1 input_map {...} output_map {...} }]'),
    ("E330", "ensemble_scheduler/ensemble_utils.cc ValidateEnsembleConfig",
     ("ensemble <e> allows maximum batch size <a>, but it contains model <m> which only allows "
         "maximum batch size to be "
     "<b>"),
     "A batch that the ensemble takes has to fit into each of its models.",
     "max_batch_size: 64 in the ensemble, 32 in a model", "max_batch_size: 32 in both"),
    ("E331", _MAPPING, "in ensemble <e>, ensemble tensor <t> is mapping to non-existing input <i> in model <m>",
     "The key of input_map is an input of the step's model, the value a tensor of the ensemble.",
     'input_map { key: "INPUT" value: "x" } for a model with the input "A"', 'input_map { key: "A" value: "x" }'),
    ("E332", _MAPPING, "in ensemble <e>, input <i> in model <m> is not mapped to any ensemble tensors",
     "Each input that is not optional is fed.",
     'input_map for "A" only, of a model with the inputs "A" and "C"', 'input_map for "A" and for "C"'),
    ("E334", _MAPPING, "in ensemble <e>, ensemble tensor <t> is mapped from non-existing output <o> in model <m>",
     "The key of output_map is an output of the step's model, the value a tensor of the ensemble.",
     'output_map { key: "OUTPUT" value: "y" } for a model with the output "B"', 'output_map { key: "B" value: "y" }'),
    ("E335", _MAPPING, "in ensemble <e>, multiple outputs in model <m> are mapped to the same ensemble tensor <t>",
     "The model has two outputs of one name.",
     'output [{ name: "B" }, { name: "B" }] in the model', 'output [{ name: "B" }, { name: "C" }]'),
    ("E336", _CONSISTENCY, ("in ensemble <e>, ensemble tensor <t>: inconsistent data type: <a> is inferred from "
        "model <x> "
     "while <b> is inferred from model <y>"),
     "Triton converts nothing between steps.",
     "TYPE_FP16 written by one model, TYPE_FP32 read by the next", "TYPE_FP32 in both"),
    ("E337", _CONSISTENCY, ("in ensemble <e>, ensemble tensor <t>: inconsistent shape: <a> is inferred from model <x> "
     "while <b> is inferred from model <y>"),
     (
         "The dims of both sides agree, with or without the batch dimension; -1 agrees with any "
         "size, not with another rank."
     ),
     "dims: [299, 299, 3] written by one model, dims: [224, 224, 3] read by the next", "dims: [299, 299, 3] in both"),
    ("E338", "ensemble_scheduler/ensemble_utils.cc ValidateEnsembleConfig",
     "in ensemble <e>, step of model '<x>' receives inputs originated from different decoupled models",
     "A decoupled model gives any number of responses, so its tensors pair with no others.",
     "a step that reads a decoupled model's output and the ensemble's input",
     "a step that reads outputs of the decoupled model only"),
    ("E339", "model.cc Model::Init after ensemble_utils.cc has set decoupled",
     ("Response Cache does not currently support model <e> with 'decoupled' transaction policy. Please disable the "
     "response cache."),
     "An ensemble with a decoupled step is decoupled itself.",
     "response_cache { enable: true } in an ensemble with a decoupled step", "no response_cache"),
)  # fmt: skip

#: Rules that the server states and never gets to: it drops what would break them.
_UNREACHED: Final = ("E306",)

RULES: Final[tuple[Rule, ...]] = tuple(
    Rule(
        code=code,
        severity="error",
        refused_by=None if code in _UNREACHED else "triton",
        summary=summary,
        source=source,
        why=why,
        bad=bad,
        good=good,
    )
    for code, source, summary, why, bad, good in _ROWS
)

BY_CODE: Final = {rule.code: rule for rule in RULES}
