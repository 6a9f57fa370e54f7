"""A transform job as a value: every field of CreateTransformJob. This module does no I/O.

Fields keep the API's names in snake_case, and None is a field that the request omits, so that
``TransformJob.from_request(request).to_request() == request``. For a job on this machine the two addresses may be
directories. `TransformJob.find_problems` checks what the API's schema cannot express.

`resolve_settings` returns what a job runs with: its own values, else the container's /execution-parameters, else the
defaults. Source: SageMaker developer guide, "Use Your Own Inference Code with Batch Transform", API_CreateTransformJob.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from tritonforge.errors import RequestError
from tritonforge.records import MAX_RECORD, AssembleWith, BatchStrategy, SplitType
from tritonforge.transform.data_processing import classify_content_type, find_path_problem
from tritonforge.triton.service_limits import TRANSFORM_PAYLOAD

__all__ = [
    "MAX_PAYLOAD_IN_MB", "CompressionType", "DataCapture", "DataProcessing", "DataType", "EffectiveSettings",
    "JoinSource", "ModelClientConfig", "Resources", "TransformInput", "TransformJob", "TransformOutput",
    "build_container_environment", "resolve_settings",
]  # fmt: skip

#: Source: API_TransformS3DataSource (of its values, these two can be transformed), API_TransformInput,
#: API_DataProcessing.
DataType: TypeAlias = Literal["S3Prefix", "ManifestFile"]
CompressionType: TypeAlias = Literal["None", "Gzip"]
JoinSource: TypeAlias = Literal["None", "Input"]

#: Megabytes of a request, also times `MaxConcurrentTransforms`.
MAX_PAYLOAD_IN_MB: Final = TRANSFORM_PAYLOAD.value


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformInput:
    """Address and type of the input, and how its objects are split into records."""

    uri: str
    data_type: DataType = "S3Prefix"
    content_type: str | None = None
    compression_type: CompressionType | None = None
    split_type: SplitType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformOutput:
    """Address of the output, the type requested from the model, and how answers are assembled into objects."""

    uri: str
    accept: str | None = None
    assemble_with: AssembleWith | None = None
    kms_key_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelClientConfig:
    """Seconds to wait for a response (default 600), and how often a failed request is sent again (default 3)."""

    invocations_timeout_in_seconds: int | None = None
    invocations_max_retries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataProcessing:
    """JSONPath filters of the record and of the output, and whether the answer is joined to the record."""

    input_filter: str | None = None
    output_filter: str | None = None
    join_source: JoinSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Instances on SageMaker."""

    instance_type: str
    instance_count: int
    volume_kms_key_id: str | None = None
    transform_ami_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCapture:
    """Where SageMaker stores requests and responses."""

    uri: str
    kms_key_id: str | None = None
    generate_inference_id: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformJob:
    """A transform job. A job on this machine needs no ``name``, ``model_name`` and ``resources``."""

    name: str = ""
    model_name: str = ""
    input: TransformInput
    output: TransformOutput
    max_concurrent_transforms: int | None = None
    max_payload_in_mb: int | None = None
    batch_strategy: BatchStrategy | None = None
    model_client: ModelClientConfig | None = None
    environment: Mapping[str, str] | None = None
    data_processing: DataProcessing | None = None
    resources: Resources | None = None
    data_capture: DataCapture | None = None
    tags: tuple[tuple[str, str], ...] | None = None
    experiment: Mapping[str, str] | None = field(default=None)

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> TransformJob:
        """Return the job of a CreateTransformJob request. Raises RequestError for missing and unknown fields."""
        given = dict(request)
        source = _take_structure(given, "TransformInput")
        place = _take_structure(_take_structure(source, "DataSource"), "S3DataSource")
        output = _take_structure(given, "TransformOutput")
        tags = given.pop("Tags", None)
        job = cls(
            name=given.pop("TransformJobName", ""),
            model_name=given.pop("ModelName", ""),
            input=TransformInput(
                uri=_take_text(place, "S3Uri", "TransformInput.DataSource.S3DataSource"),
                data_type=place.pop("S3DataType", "S3Prefix"),
                content_type=source.pop("ContentType", None),
                compression_type=source.pop("CompressionType", None),
                split_type=source.pop("SplitType", None),
            ),
            output=TransformOutput(
                uri=_take_text(output, "S3OutputPath", "TransformOutput"),
                accept=output.pop("Accept", None),
                assemble_with=output.pop("AssembleWith", None),
                kms_key_id=output.pop("KmsKeyId", None),
            ),
            max_concurrent_transforms=given.pop("MaxConcurrentTransforms", None),
            max_payload_in_mb=given.pop("MaxPayloadInMB", None),
            batch_strategy=given.pop("BatchStrategy", None),
            model_client=_read_structure(ModelClientConfig, _MODEL_CLIENT, given, "ModelClientConfig"),
            environment=given.pop("Environment", None),
            data_processing=_read_structure(DataProcessing, _DATA_PROCESSING, given, "DataProcessing"),
            resources=_read_structure(Resources, _RESOURCES, given, "TransformResources"),
            data_capture=_read_structure(DataCapture, _DATA_CAPTURE, given, "DataCaptureConfig"),
            tags=None if tags is None else tuple((tag["Key"], tag["Value"]) for tag in tags),
            experiment=given.pop("ExperimentConfig", None),
        )
        for where, left in (
            ("TransformInput.DataSource.S3DataSource.", place),
            ("TransformInput.", {key: value for key, value in source.items() if key != "DataSource"}),
            ("TransformOutput.", output),
            ("", {key: value for key, value in given.items() if key not in ("TransformInput", "TransformOutput")}),
        ):
            if left:
                raise RequestError(f"CreateTransformJob has no field {where}{sorted(left)[0]}")
        return job

    def to_request(self) -> dict[str, Any]:
        """Return the CreateTransformJob request of this job."""
        place = {"S3DataType": self.input.data_type, "S3Uri": self.input.uri}
        request: dict[str, Any] = {
            "TransformJobName": self.name or None,
            "ModelName": self.model_name or None,
            "MaxConcurrentTransforms": self.max_concurrent_transforms,
            "ModelClientConfig": _write_structure(self.model_client, _MODEL_CLIENT),
            "MaxPayloadInMB": self.max_payload_in_mb,
            "BatchStrategy": self.batch_strategy,
            "Environment": None if self.environment is None else dict(self.environment),
            "TransformInput": _drop_none(
                {
                    "DataSource": {"S3DataSource": place},
                    "ContentType": self.input.content_type,
                    "CompressionType": self.input.compression_type,
                    "SplitType": self.input.split_type,
                }
            ),
            "TransformOutput": _drop_none(
                {
                    "S3OutputPath": self.output.uri,
                    "Accept": self.output.accept,
                    "AssembleWith": self.output.assemble_with,
                    "KmsKeyId": self.output.kms_key_id,
                }
            ),
            "DataCaptureConfig": _write_structure(self.data_capture, _DATA_CAPTURE),
            "TransformResources": _write_structure(self.resources, _RESOURCES),
            "DataProcessing": _write_structure(self.data_processing, _DATA_PROCESSING),
            "Tags": None if self.tags is None else [{"Key": key, "Value": value} for key, value in self.tags],
            "ExperimentConfig": None if self.experiment is None else dict(self.experiment),
        }
        return _drop_none(request)

    def find_problems(self) -> tuple[str, ...]:
        """Return a sentence for each rule of the documentation that the job breaks and the API's schema cannot state.

        Each sentence begins with the name of the field.
        """
        return (*self._find_exceeded(), *self._find_invalid_values(), *self._find_processing_problems())

    def _find_exceeded(self) -> list[str]:
        problems = []
        payload, concurrent = self.max_payload_in_mb, self.max_concurrent_transforms
        if payload is not None and not 0 <= payload <= MAX_PAYLOAD_IN_MB:
            problems.append(f"MaxPayloadInMB is {payload}; it must be from 0 to {MAX_PAYLOAD_IN_MB}")
        elif payload and concurrent and payload * concurrent > MAX_PAYLOAD_IN_MB:
            problems.append(
                f"MaxConcurrentTransforms * MaxPayloadInMB is {concurrent} * {payload} = {concurrent * payload}; "
                f"it cannot exceed {MAX_PAYLOAD_IN_MB} MB"
            )
        if concurrent is not None and concurrent < 0:
            problems.append(f"MaxConcurrentTransforms is {concurrent}; it cannot be negative")
        if self.model_client is not None:
            retries = self.model_client.invocations_max_retries
            timeout = self.model_client.invocations_timeout_in_seconds
            if retries is not None and not 0 <= retries <= 3:
                problems.append(f"InvocationsMaxRetries is {retries}; it must be from 0 to 3")
            if timeout is not None and not 1 <= timeout <= 3600:
                problems.append(f"InvocationsTimeoutInSeconds is {timeout}; it must be from 1 to 3600")
        return problems

    def _find_invalid_values(self) -> list[str]:
        processing = self.data_processing or DataProcessing()
        checked: tuple[tuple[str, object, object], ...] = (
            ("S3DataType", self.input.data_type, DataType),
            ("CompressionType", self.input.compression_type, CompressionType),
            ("SplitType", self.input.split_type, SplitType),
            ("AssembleWith", self.output.assemble_with, AssembleWith),
            ("BatchStrategy", self.batch_strategy, BatchStrategy),
            ("JoinSource", processing.join_source, JoinSource),
        )
        return [
            f"{name} is {value!r} (expected {' or '.join(get_args(allowed))})"
            for name, value, allowed in checked
            if value is not None and value not in get_args(allowed)
        ]

    def _find_processing_problems(self) -> list[str]:
        processing = self.data_processing
        if processing is None or processing == DataProcessing():
            return []
        problems = []
        for name, path in (("InputFilter", processing.input_filter), ("OutputFilter", processing.output_filter)):
            if path is not None and (problem := find_path_problem(path)):
                problems.append(f"{name} {path!r}: {problem}")
        kind = classify_content_type(self.input.content_type)
        if kind is None:
            problems.append(
                f"DataProcessing requires text/csv, application/json or application/jsonlines; ContentType is "
                f"{self.input.content_type!r}"
            )
        if processing.join_source == "Input":
            if classify_content_type(self.output.accept or self.input.content_type) != kind:
                problems.append(
                    f"JoinSource Input: Accept must equal ContentType; they are {self.output.accept!r} and "
                    f"{self.input.content_type!r}"
                )
            if (self.input.split_type or "None") != (self.output.assemble_with or "None"):
                problems.append(
                    "JoinSource Input: AssembleWith must equal SplitType; they are "
                    f"{self.output.assemble_with or 'None'} and {self.input.split_type or 'None'}"
                )
        if kind in ("csv", "jsonlines") and self.input.split_type != "Line":
            problems.append(f"DataProcessing of {self.input.content_type} requires SplitType Line")
        return problems


_MODEL_CLIENT: Final = {
    "InvocationsTimeoutInSeconds": "invocations_timeout_in_seconds",
    "InvocationsMaxRetries": "invocations_max_retries",
}
_DATA_PROCESSING: Final = {"InputFilter": "input_filter", "OutputFilter": "output_filter", "JoinSource": "join_source"}
_RESOURCES: Final = {
    "InstanceType": "instance_type",
    "InstanceCount": "instance_count",
    "VolumeKmsKeyId": "volume_kms_key_id",
    "TransformAmiVersion": "transform_ami_version",
}
_DATA_CAPTURE: Final = {
    "DestinationS3Uri": "uri",
    "KmsKeyId": "kms_key_id",
    "GenerateInferenceId": "generate_inference_id",
}


def _take_structure(document: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a copy of a nested structure that the caller empties field by field; the copy replaces the original."""
    value = document.get(key)
    if not isinstance(value, Mapping):
        raise RequestError(f"CreateTransformJob: {key} is missing")
    document[key] = structure = dict(value)
    return structure


def _take_text(document: dict[str, Any], key: str, where: str) -> str:
    if not isinstance(document.get(key), str):
        raise RequestError(f"CreateTransformJob: {where}.{key} is missing")
    return cast("str", document.pop(key))


def _read_structure(kind: type[Any], names: Mapping[str, str], given: dict[str, Any], key: str) -> Any:
    value = given.pop(key, None)
    if value is None:
        return None
    if unknown := sorted(set(value) - set(names)):
        raise RequestError(f"CreateTransformJob has no field {key}.{unknown[0]}")
    try:
        return kind(**{names[member]: content for member, content in value.items()})
    except TypeError as error:
        required = {field.name for field in fields(kind) if "None" not in str(field.type)}
        missing = sorted(member for member, name in names.items() if member not in value and name in required)
        raise RequestError(f"CreateTransformJob: {key}.{missing[0]} is missing") from error


def _write_structure(value: object, names: Mapping[str, str]) -> dict[str, Any] | None:
    return None if value is None else _drop_none({member: getattr(value, name) for member, name in names.items()})


def _drop_none(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}


#: Defaults of API_CreateTransformJob.
_CONCURRENT: Final = 1
_STRATEGY: Final[BatchStrategy] = "MultiRecord"
_PAYLOAD_IN_MB: Final = 6
_TIMEOUT: Final = 600
_RETRIES: Final = 3

_STRATEGIES: Final[Mapping[str, BatchStrategy]] = {"SINGLE_RECORD": "SingleRecord", "MULTI_RECORD": "MultiRecord"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSettings:
    """The settings of a run.

    ``max_payload`` is in bytes; ``chunked`` (MaxPayloadInMB 0) sends bodies of any size by HTTP's chunked encoding.
    ``timeout`` is in seconds.
    """

    max_concurrent: int
    strategy: BatchStrategy
    max_payload: int
    chunked: bool
    timeout: float
    retries: int


def resolve_settings(job: TransformJob, parameters: Mapping[str, Any] | None = None) -> EffectiveSettings:
    """Return the settings of a job; ``parameters`` is the JSON of the container's /execution-parameters.

    A MaxConcurrentTransforms of 0 counts as not set. Invalid parameters are ignored.
    """
    given = parameters or {}
    payload = _choose(job.max_payload_in_mb, _read_number(given.get("MaxPayloadInMB")), _PAYLOAD_IN_MB)
    payload = min(payload, MAX_PAYLOAD_IN_MB)
    strategy = job.batch_strategy or _STRATEGIES.get(_to_capitals(given.get("BatchStrategy"))) or _STRATEGY
    concurrent = job.max_concurrent_transforms or _read_number(given.get("MaxConcurrentTransforms")) or _CONCURRENT
    client = job.model_client or ModelClientConfig()
    return EffectiveSettings(
        max_concurrent=concurrent,
        strategy=strategy,
        max_payload=payload * 2**20 if payload else MAX_RECORD,
        chunked=payload == 0,
        timeout=float(_choose(client.invocations_timeout_in_seconds, _TIMEOUT)),
        retries=_choose(client.invocations_max_retries, _RETRIES),
    )


def build_container_environment(job: TransformJob) -> dict[str, str]:
    """Return the variables that SageMaker sets in a job's container: its batch settings and the job's own variables.

    The job's variables override the model's. Source: developer guide, "Run Inference Code with Batch Transform".
    """
    environment = {"SAGEMAKER_BATCH": "true"}
    if job.max_payload_in_mb is not None:
        environment["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(job.max_payload_in_mb)
    if job.batch_strategy is not None:
        environment["SAGEMAKER_BATCH_STRATEGY"] = _to_capitals(job.batch_strategy)
    if job.max_concurrent_transforms:
        environment["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(job.max_concurrent_transforms)
    return environment | dict(job.environment or {})


def _to_capitals(strategy: object) -> str:
    """Return SINGLE_RECORD for both SINGLE_RECORD and SingleRecord."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(strategy)).upper()


def _read_number(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _choose(*values: int | None) -> int:
    return next(value for value in values if value is not None)
