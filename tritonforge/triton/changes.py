"""What changed between releases of Triton: the table that every rule about a release reads. No I/O.

A row has the change, the releases that behave so, where it was read (repository, file, function, commit of the release
branch) and the rules that depend on it. Without an image the release is `REFERENCE`, the local server's.

Read in the release branches r23.12 to r26.06 of core, python_backend, common and dali_backend, up to r26.07 of
python_backend and common, and up to r26.08 of server. What is newer comes from the release notes and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

#: The release whose verdict counts where no image is given: the server of the package's `local` extra, Triton 2.51.0.
REFERENCE: Final = "24.10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One behaviour, and the releases that have it.

    ``first`` is the first of them (``YY.MM``; None: every known release up to ``last``) and ``last`` the last (None:
    every one since). ``rules`` are the codes of the rules that depend on it; none where it decides what an image holds.
    """

    text: str
    source: str
    first: str | None = None
    last: str | None = None
    rules: tuple[str, ...] = ()

    def applies_to(self, release: str) -> bool:
        """Return True if a release behaves so."""
        return (self.first is None or self.first <= release) and (self.last is None or release <= self.last)


TENSORFLOW: Final = Change(
    text="the images have a TensorFlow backend",
    last="25.02",
    source="server build.py enable_all: r25.02 names it, r25.03 does not (server PR 8068)",
    rules=("E601",),
)
PASCAL: Final = Change(
    text="GPUs of compute capability 6.0 and later are supported",
    last="24.10",
    source="core CMakeLists.txt TRITON_MIN_COMPUTE_CAPABILITY; NVIDIA's release notes",
    rules=("E262",),
)
TURING: Final = Change(
    text="GPUs before compute capability 7.5 are not supported",
    first="24.11",
    source="core 3ad7cad (PR 407), CMakeLists.txt TRITON_MIN_COMPUTE_CAPABILITY",
    rules=("E262", "E605"),
)
LARGE_REGIONS: Final = Change(
    text="an instance of the python backend reserves 64 MB of shared memory and grows by 64 MB; 1 MB since then",
    last="23.08",
    source="python_backend 6f369ef (PR 291), python_be.cc TRITONBACKEND_Initialize",
    rules=("W471", "W472"),
)
PYTHON_COMPLETION: Final = Change(
    text="the python backend calls auto_complete_config of a model's class",
    first="22.06",
    source="python_backend b521096 (PR 138), pb_stub.cc Stub::AutoCompleteModelConfig",
    rules=("E832", "E833"),
)
PYTHON_COMPLETION_OPTIONAL: Final = Change(
    text="auto_complete_config may state whether an input is optional",
    first="23.11",
    source="python_backend 60a9091 (PR 320), triton_python_backend_utils.py ModelConfig.add_input",
    rules=("E834",),
)
PYTHON_3_10: Final = Change(
    text="the images' Python is 3.10",
    first="23.12",
    last="24.10",
    source="server docs/introduction/compatibility.md (3.10.12 in 24.04 to 24.10); build.py r23.12 (Ubuntu 22.04)",
    rules=("E123", "E840"),
)
PYTHON_3_12: Final = Change(
    text="the images' Python is 3.12",
    first="24.11",
    source="server build.py r24.11 (Ubuntu 24.04); docs/introduction/compatibility.md (3.12.3)",
    rules=("E123", "E840"),
)
LOOKUP_OF_LIBRARIES: Final = Change(
    text="the message on a missing backend is 'unable to find <library> for model <m>, searched: <directories>'",
    last="23.09",
    source="core backend_model.cc TritonModel::Create, r23.09",
    rules=("E113", "E601", "E602"),
)
LOOKUP_OF_PYTHON: Final = Change(
    text="a backend may be a model.py in its directory; the message on a missing one is 'unable to find <b>/model.py'",
    first="23.10",
    last="23.10",
    source="core backend_model.cc ResolveBackendPaths, r23.10",
    rules=("E113", "E601", "E602"),
)
LOOKUP_OF_BOTH: Final = Change(
    text="the message on a missing backend is 'unable to find <library> or <b>/model.py'",
    first="23.11",
    last="23.12",
    source="core backend_model.cc ResolveBackendPaths, r23.11",
    rules=("E113", "E601", "E602"),
)
BACKEND_LOOKUP: Final = Change(
    text="the field runtime; the message on a missing backend is 'unable to find backend library for backend'",
    first="24.01",
    source="core 7363cfe (PR 285), backend_model.cc GetBackendRuntimeLibraryName",
    rules=("E113", "E114", "E115", "E601", "E602"),
)
DALI_WITHOUT_PYTHON: Final = Change(
    text="the images have no Python DALI, so a pipeline is not serialised when it is loaded",
    first="24.04",
    source="dali_backend issue 244",
    rules=("E502", "W501"),
)
CONFIG_NAME: Final = Change(
    text="the flag --model-config-name and the directory configs",
    first="24.05",
    source="core 4d093f2 (PR 348), model_repository_manager.cc; server command_line_parser.cc",
    rules=("E612",),
)
DALI_PATH_CHARACTERS: Final = Change(
    text="the DALI backend refuses paths with other characters than a-z, A-Z, 0-9, _, ., - and /",
    first="25.07",
    source="dali_backend ea19c6f (PR 273), src/utils/utils.h ValidateFilename, ValidateAbsPath",
    rules=("E511", "W504"),
)
STUB_NAMES: Final = Change(
    text="the python backend refuses names of models and instance groups with characters of the shell",
    first="25.08",
    source="python_backend f241135 (PR 414), stub_launcher.cc Launch, pb_utils.h INVALID_CHARS",
    rules=("E606",),
)
DEAD_STUB: Final = Change(
    text="a model of the python backend whose stub has died is not ready, and with it the server: GET "
    "/v2/health/ready answers 400",
    first="25.12",
    source="core 9686007 (PR 461), python_backend 395a780 (PR 423), TRITONBACKEND_ModelInstanceReady",
)
JSON_DEPTH: Final = Change(
    text="a JSON request nested deeper than 100 is refused",
    first="25.05",
    source="server f46557b (PR 8172), http_server.cc, HTTP_MAX_JSON_NESTING_DEPTH",
)
JSON_SIZE: Final = Change(
    text="JSON tensors and raw requests of more than 64 MiB are refused without --http-max-input-size",
    first="25.06",
    source="server af8bb93 (PR 8174), command_line_parser.cc OPTION_HTTP_MAX_INPUT_SIZE, http_server.cc",
)
CLASSIFICATION_SIZE: Final = Change(
    text="a classification of more than 1 000 000 elements is refused: classification output tensor too large",
    first="26.02",
    source="server 3ef6062 (PR 8603), classification.cc TopkClassifications",
    rules=("W604",),
)
FULL_QUEUES: Final = Change(
    text="when the queue of a step is full (max_queue_size) while other steps of the request run, the request is never "
    "answered, or the server ends with a segmentation fault",
    last="26.01",
    source="core before 5280db8 (PR 466), ensemble_scheduler.cc EnsembleContext::PrepareSteps, FinishEnsemble; run "
    "with 2.51",
    rules=("W349",),
)
LABEL_FILE_INSIDE: Final = Change(
    text="a label file outside of the model's directory is refused",
    first="26.02",
    source="core f2226c0 (PR 465), model.cc Model::Init",
    rules=("E607",),
)
ENVIRONMENT_ENTRIES: Final = Change(
    text="an archive of EXECUTION_ENV_PATH whose entries lead out of its directory is refused",
    first="26.06",
    source="python_backend 3033a6b (PR 437), pb_env.cc ExtractTarFile",
)
WHOLE_PATHS: Final = Change(
    text="a path is inside of a directory only where a whole component ends; before, any common prefix was enough",
    first="26.06",
    source="core dcb315d (PR 497), filesystem/api.cc IsChildPathEscapingParentPath",
    rules=("E607",),
)
ELEMENT_COUNTS: Final = Change(
    text="element counts and byte sizes beyond 64 bits are refused: reshapes, inputs, warmup, initial states",
    first="26.03",
    source="core eaf856c (PR 480), model_config_utils.h GetElementCount, GetByteSize; common 4816553 model_config.h",
    rules=("E246", "E270", "E271", "E274", "E608", "E611"),
)
TORCH_AOTI: Final = Change(
    text='platform "torch_aoti" belongs to the PyTorch backend, and a lone model.pt2 names that backend',
    first="26.03",
    source="core dabbddc (PR 477), model_config_utils.cc AutoCompleteBackendFields, GetBackendTypeFromPlatform",
    rules=("E108", "E210", "E212"),
)
TORCH_AOTI_FILE: Final = Change(
    text='a lone model.pt2 means platform "torch_aoti", whose default file is model.pt2 (26.03: model.pt)',
    first="26.04",
    source="core ee0bc47 (PR 484), model_config_utils.cc AutoCompleteBackendFields",
    rules=("E212", "W105"),
)
LIBTORCH_NAMED: Final = Change(
    text='platform "libtorch" names the PyTorch backend, with which it is then refused as a pair',
    first="26.04",
    source="core ee0bc47 (PR 484), model_config_utils.cc AutoCompleteBackendFields",
    rules=("E210", "E212"),
)
TORCH_RUNTIME_FILE: Final = Change(
    text='a PyTorch model without platform gets the default file model.pt also with runtime: "model.py"',
    first="26.04",
    last="26.08",
    source="core ee0bc47 (PR 484), AutoCompleteBackendFields; release notes of 2.73.0 (26.09) for the end",
    rules=("W105",),
)
MODEL_NAMES_WITH_DOTS: Final = Change(
    text="the load API refuses names of models that contain '..' or '/', and blank ones",
    first="26.03",
    last="26.03",
    source="core 66f09f8 (PR 472), model_repository_manager.cc ValidateModelName",
    rules=("W346",),
)
MODEL_NAMES: Final = Change(
    text="the load API refuses names of models that are '..' or contain '/', and blank ones",
    first="26.04",
    source="core 50830ba (PR 481), model_repository_manager.cc ValidateModelName",
    rules=("W346",),
)
SERVE_REGIONS: Final = Change(
    text="SageMaker's serve script gives each instance of the python backend 16 MB of shared memory; before, the "
    "backend's own default",
    first="22.12",
    source="server docker/sagemaker/serve, r22.12 (r22.11 sets none)",
    rules=("W471", "W472"),
)
PING_MODE: Final = Change(
    text="the serve script prints its ping mode for multi-model endpoints",
    first="23.07",
    source="server docker/sagemaker/serve, r23.07",
)
CLIENT_SHARED_MEMORY: Final = Change(
    text="clients cannot register shared memory unless the server runs with --allow-client-shm=true: Client shared "
    "memory is disabled",
    first="26.04",
    source="server 546a787 (PR 8721), common.h, command_line_parser.h allow_client_shm_",
)
INFLIGHT_OF_A_REQUEST: Final = Change(
    text="max_inflight_requests limits the steps of one request to the ensemble; since then those of all its requests "
    "together",
    first="25.11",
    last="26.03",
    source="core 016354d (PR 455), a02b0c0 (PR 482), ensemble_scheduler.cc StepInflightRequestLimiter",
    rules=("W603",),
)
RESERVED_HEADERS: Final = Change(
    text="a forwarded header named like a reserved parameter (sequence_id, priority, timeout, triton_...) is refused",
    first="26.05",
    source="server 69987b7 (PR 8763), http_server.cc, grpc/infer_handler.h",
)
REQUESTED_ONCE: Final = Change(
    text="a request that names an output twice is refused: output '<o>' already exists in request",
    first="26.05",
    source="core e93e4a9 (PR 493), infer_request.cc AddOriginalRequestedOutput",
    rules=("W307",),
)
CLIENT_BFLOAT16: Final = Change(
    text="the Python client takes and returns BF16 tensors as arrays of ml_dtypes.bfloat16, not of numpy.float32",
    first="26.06",
    source="release notes of 2.70.0 (26.06), Breaking",
)
GENERATE_SIZE: Final = Change(
    text="--http-max-input-size holds for the parameters of generate requests too",
    first="26.10",
    source="release notes of 2.74.0 (26.10)",
)
BATCHING_LIBRARY_INSIDE: Final = Change(
    text="a batching library outside of the model's directory is refused",
    first="26.06",
    source="core dcb315d (PR 497), backend_model.cc TritonModel::Create",
    rules=("E293", "E609"),
)
EXCEPTIONS_CAUGHT: Final = Change(
    text="exceptions while a model is loaded are caught: the model fails, or the directory is ignored, and the server "
    "lives",
    first="26.08",
    source="release notes of 2.72.0 (26.08); core PR 512 (std::logic_error); core's branch was not read",
    rules=("E106", "E111", "E265", "E294", "W103"),
)
CORRELATION_TEXTS: Final = Change(
    text="a CONTROL_SEQUENCE_CORRID of TYPE_STRING is 132 bytes long, whatever the ID: backends that read its elements "
    "refuse each request whose ID is not 128 bytes long",
    last="24.12",
    source="core sequence_batch_scheduler.cc SetControlTensors, before eeb283a (PR 425); run with 2.51",
    rules=("W137",),
)
XGBOOST_UBJ: Final = Change(
    text="the FIL backend has the model_type xgboost_ubj",
    first="24.10",
    source="fil_backend serialization.h string_to_serialization, r24.10",
    rules=("E809",),
)
TENSORFLOW_IMAGE: Final = Change(
    text="NVIDIA publishes <release>-tf2-python-py3 with the TensorFlow and Python backends",
    last="25.02",
    source="NVIDIA's release notes; TensorFlow ends with it (server PR 8068)",
)
LLM_IMAGES: Final = Change(
    text="NVIDIA publishes <release>-vllm-python-py3 and <release>-trtllm-python-py3",
    first="23.10",
    source="READMEs of vllm_backend and tensorrtllm_backend; server docs/introduction/compatibility.md (r26.08)",
)

_PROTO: Final = "common protobuf/model_config.proto"


def _field(name: str, first: str) -> Change:
    return Change(text=f"the schema has {name}", first=first, source=f"{_PROTO}, r{first}", rules=("E603",))


#: The fields of `ModelConfig` that came later, by the field's path in the message. An older server refuses the whole
#: file. Source: the history of common/protobuf/model_config.proto.
FIELDS: Final[Mapping[str, Change]] = MappingProxyType(
    {
        path: _field(path, first)
        for path, first in (
            ("instance_group.host_policy", "21.06"),
            ("instance_group.passive", "21.06"),
            ("instance_group.secondary_devices", "21.06"),
            ("sequence_batching.control_input.control.bool_false_true", "21.09"),
            ("response_cache", "21.10"),
            ("sequence_batching.state", "21.11"),
            ("input.optional", "22.01"),
            ("sequence_batching.state.initial_state", "22.01"),
            ("model_warmup.count", "22.07"),
            ("ensemble_scheduling.step.model_namespace", "23.03"),
            ("sequence_batching.oldest.preserve_ordering", "23.08"),
            ("sequence_batching.state.use_growable_memory", "23.11"),
            ("sequence_batching.state.use_same_buffer_for_input_output", "23.11"),
            ("sequence_batching.iterative_sequence", "23.11"),
            ("runtime", "24.01"),
            ("input.is_non_linear_format_io", "24.08"),
            ("output.is_non_linear_format_io", "24.08"),
            ("model_metrics", "24.11"),
            ("ensemble_scheduling.max_inflight_requests", "25.11"),
        )
    }
)

#: The names of enum values that came later. Source: as above.
VALUES: Final[Mapping[str, Change]] = MappingProxyType(
    {
        name: _field(name, first)
        for name, first in (
            ("BATCH_ITEM_SHAPE", "22.03"),
            ("BATCH_ITEM_SHAPE_FLATTEN", "22.03"),
            ("TYPE_BF16", "22.05"),
        )
    }
)

#: The variables that the SageMaker images' serve script came to read later; older scripts ignore them.
SERVE_VARIABLES: Final[Mapping[str, Change]] = MappingProxyType(
    {
        name: Change(
            text=f"the serve script reads {name}",
            first=first,
            source=f"server docker/sagemaker/serve, r{first}",
            rules=("W408",),
        )
        for name, first in (
            ("SAGEMAKER_TRITON_TENSORFLOW_VERSION", "22.09"),
            ("SAGEMAKER_TRITON_MODEL_LOAD_GPU_LIMIT", "22.12"),
            ("SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING", "23.04"),
            ("SAGEMAKER_TRITON_ADDITIONAL_ARGS", "23.07"),
            ("SAGEMAKER_TRITON_OVERRIDE_PING_MODE", "23.07"),
            ("SAGEMAKER_TRITON_INFERENCE_TYPE", "25.03"),
        )
    }
)

#: The changes of behaviour, in the order of their releases: every constant above.
CHANGES: Final = tuple(
    sorted(
        (value for value in list(globals().values()) if isinstance(value, Change)),
        key=lambda change: change.first or change.last or "",
    )
)


def list_changes() -> Iterator[Change]:
    """Yield the whole table: changes of behaviour, fields, names of values, variables of the serve script."""
    yield from CHANGES
    yield from FIELDS.values()
    yield from VALUES.values()
    yield from SERVE_VARIABLES.values()
