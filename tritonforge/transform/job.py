"""A transform job as a value: every field of CreateTransformJob. This module does no I/O.

Fields keep the API's names in snake_case, and None is a field that the request leaves out, so that
``TransformJob.from_request(request).to_request() == request``. For a job on this machine the two addresses may be
folders; `problems` tells what the API's schema cannot say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from tritonforge.errors import RequestError
from tritonforge.records import AssembleWith, BatchStrategy, SplitType
from tritonforge.transform import jsonpath
from tritonforge.triton.service_limits import TRANSFORM_PAYLOAD

__all__ = [
    "MAX_PAYLOAD_IN_MB",
    "CompressionType",
    "DataCapture",
    "DataProcessing",
    "DataType",
    "JoinSource",
    "ModelClient",
    "Resources",
    "TransformInput",
    "TransformJob",
    "TransformOutput",
]

#: Source: API_TransformS3DataSource (of its values, these two can be transformed), API_TransformInput,
#: API_DataProcessing.
DataType: TypeAlias = Literal["S3Prefix", "ManifestFile"]
CompressionType: TypeAlias = Literal["None", "Gzip"]
JoinSource: TypeAlias = Literal["None", "Input"]

#: Megabytes of a request, also times `MaxConcurrentTransforms`.
MAX_PAYLOAD_IN_MB: Final = TRANSFORM_PAYLOAD.value

#: Content types that data processing knows. Source: SageMaker developer guide, "Associate Prediction Results with Input
#: Records".
_CSV: Final = "text/csv"
_JSON: Final = "application/json"
_JSON_LINES: Final = ("application/jsonlines", "application/x-jsonlines", "application/jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformInput:
    """Where the input is (``data_type`` S3Prefix or ManifestFile), what it is, and how objects become records."""

    uri: str
    data_type: DataType = "S3Prefix"
    content_type: str | None = None
    compression_type: CompressionType | None = None
    split_type: SplitType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformOutput:
    """Where the output goes, which type the model is asked for, and how answers become objects."""

    uri: str
    accept: str | None = None
    assemble_with: AssembleWith | None = None
    kms_key_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelClient:
    """How long an answer is waited for (seconds, default 600), and how often it is asked for again (default 3)."""

    invocations_timeout_in_seconds: int | None = None
    invocations_max_retries: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataProcessing:
    """What of a record the model gets, whether the answer is joined to it, and what of that is kept (JSONPath)."""

    input_filter: str | None = None
    output_filter: str | None = None
    join_source: JoinSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """SageMaker's machines for the job."""

    instance_type: str
    instance_count: int
    volume_kms_key_id: str | None = None
    transform_ami_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCapture:
    """Where SageMaker keeps what went in and came out."""

    uri: str
    kms_key_id: str | None = None
    generate_inference_id: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformJob:
    """A transform job. ``resources``, ``name`` and ``model_name`` are SageMaker's, a job on this machine needs none."""

    name: str = ""
    model_name: str = ""
    input: TransformInput
    output: TransformOutput
    max_concurrent_transforms: int | None = None
    max_payload_in_mb: int | None = None
    batch_strategy: BatchStrategy | None = None
    model_client: ModelClient | None = None
    environment: Mapping[str, str] | None = None
    data_processing: DataProcessing | None = None
    resources: Resources | None = None
    data_capture: DataCapture | None = None
    tags: tuple[tuple[str, str], ...] | None = None
    experiment: Mapping[str, str] | None = field(default=None)

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> TransformJob:
        """The job of a CreateTransformJob request; raises RequestError for a field that there is not."""
        given = dict(request)
        source = _taken(given, "TransformInput")
        place = _taken(_taken(source, "DataSource"), "S3DataSource")
        output = _taken(given, "TransformOutput")
        tags = given.pop("Tags", None)
        job = cls(
            name=given.pop("TransformJobName", ""),
            model_name=given.pop("ModelName", ""),
            input=TransformInput(
                uri=_required(place, "S3Uri", "TransformInput.DataSource.S3DataSource"),
                data_type=place.pop("S3DataType", "S3Prefix"),
                content_type=source.pop("ContentType", None),
                compression_type=source.pop("CompressionType", None),
                split_type=source.pop("SplitType", None),
            ),
            output=TransformOutput(
                uri=_required(output, "S3OutputPath", "TransformOutput"),
                accept=output.pop("Accept", None),
                assemble_with=output.pop("AssembleWith", None),
                kms_key_id=output.pop("KmsKeyId", None),
            ),
            max_concurrent_transforms=given.pop("MaxConcurrentTransforms", None),
            max_payload_in_mb=given.pop("MaxPayloadInMB", None),
            batch_strategy=given.pop("BatchStrategy", None),
            model_client=_nested(ModelClient, _MODEL_CLIENT, given, "ModelClientConfig"),
            environment=given.pop("Environment", None),
            data_processing=_nested(DataProcessing, _DATA_PROCESSING, given, "DataProcessing"),
            resources=_nested(Resources, _RESOURCES, given, "TransformResources"),
            data_capture=_nested(DataCapture, _DATA_CAPTURE, given, "DataCaptureConfig"),
            tags=None if tags is None else tuple((each["Key"], each["Value"]) for each in tags),
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
        """The CreateTransformJob request of this job."""
        place = {"S3DataType": self.input.data_type, "S3Uri": self.input.uri}
        request: dict[str, Any] = {
            "TransformJobName": self.name or None,
            "ModelName": self.model_name or None,
            "MaxConcurrentTransforms": self.max_concurrent_transforms,
            "ModelClientConfig": _written(self.model_client, _MODEL_CLIENT),
            "MaxPayloadInMB": self.max_payload_in_mb,
            "BatchStrategy": self.batch_strategy,
            "Environment": None if self.environment is None else dict(self.environment),
            "TransformInput": _without_none(
                {
                    "DataSource": {"S3DataSource": place},
                    "ContentType": self.input.content_type,
                    "CompressionType": self.input.compression_type,
                    "SplitType": self.input.split_type,
                }
            ),
            "TransformOutput": _without_none(
                {
                    "S3OutputPath": self.output.uri,
                    "Accept": self.output.accept,
                    "AssembleWith": self.output.assemble_with,
                    "KmsKeyId": self.output.kms_key_id,
                }
            ),
            "DataCaptureConfig": _written(self.data_capture, _DATA_CAPTURE),
            "TransformResources": _written(self.resources, _RESOURCES),
            "DataProcessing": _written(self.data_processing, _DATA_PROCESSING),
            "Tags": None if self.tags is None else [{"Key": key, "Value": value} for key, value in self.tags],
            "ExperimentConfig": None if self.experiment is None else dict(self.experiment),
        }
        return _without_none(request)

    def problems(self) -> tuple[str, ...]:
        """What the documentation forbids and the API's schema cannot say, a sentence each; empty when all is well."""
        return (*self._limits(), *self._values(), *self._processing())

    def _limits(self) -> list[str]:
        found = []
        payload, concurrent = self.max_payload_in_mb, self.max_concurrent_transforms
        if payload is not None and not 0 <= payload <= MAX_PAYLOAD_IN_MB:
            found.append(f"MaxPayloadInMB is {payload}; it cannot be greater than {MAX_PAYLOAD_IN_MB}, nor negative")
        elif payload and concurrent and payload * concurrent > MAX_PAYLOAD_IN_MB:
            found.append(
                f"MaxConcurrentTransforms * MaxPayloadInMB is {concurrent} * {payload} = {concurrent * payload}; "
                f"it cannot exceed {MAX_PAYLOAD_IN_MB} MB"
            )
        if concurrent is not None and concurrent < 0:
            found.append(f"MaxConcurrentTransforms is {concurrent}; it cannot be negative")
        if self.model_client is not None:
            retries = self.model_client.invocations_max_retries
            timeout = self.model_client.invocations_timeout_in_seconds
            if retries is not None and not 0 <= retries <= 3:
                found.append(f"InvocationsMaxRetries is {retries}; it must be from 0 to 3")
            if timeout is not None and not 1 <= timeout <= 3600:
                found.append(f"InvocationsTimeoutInSeconds is {timeout}; it must be from 1 to 3600")
        return found

    def _values(self) -> list[str]:
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
            f"{name} is {value!r}; batch transform takes {' or '.join(get_args(allowed))}"
            for name, value, allowed in checked
            if value is not None and value not in get_args(allowed)
        ]

    def _processing(self) -> list[str]:
        processing = self.data_processing
        if processing is None or processing == DataProcessing():
            return []
        found = []
        for name, path in (("InputFilter", processing.input_filter), ("OutputFilter", processing.output_filter)):
            if path is not None and (wrong := jsonpath.problem(path)):
                found.append(f"{name} {path!r}: {wrong}")
        kind = data_kind(self.input.content_type)
        if kind is None:
            found.append(
                f"DataProcessing works on text/csv, application/json and application/jsonlines; ContentType is "
                f"{self.input.content_type!r}"
            )
        if processing.join_source == "Input":
            if data_kind(self.output.accept or self.input.content_type) != kind:
                found.append(
                    f"JoinSource Input: Accept must be what ContentType is; they are {self.output.accept!r} and "
                    f"{self.input.content_type!r}"
                )
            if (self.input.split_type or "None") != (self.output.assemble_with or "None"):
                found.append(
                    "JoinSource Input: AssembleWith must be what SplitType is; they are "
                    f"{self.output.assemble_with or 'None'} and {self.input.split_type or 'None'}"
                )
        if kind in ("csv", "jsonlines") and self.input.split_type != "Line":
            found.append(f"DataProcessing of {self.input.content_type} needs SplitType Line")
        return found


def data_kind(content_type: str | None) -> Literal["csv", "json", "jsonlines"] | None:
    """What data processing takes a content type for, None where it knows no such data."""
    essence = (content_type or "").partition(";")[0].strip().lower()
    if essence in _JSON_LINES:
        return "jsonlines"
    return "csv" if essence == _CSV else "json" if essence == _JSON else None


_MODEL_CLIENT: Final = {
    "InvocationsTimeoutInSeconds": "invocations_timeout_in_seconds",
    "InvocationsMaxRetries": "invocations_max_retries",
}
_DATA_PROCESSING: Final = {
    "InputFilter": "input_filter",
    "OutputFilter": "output_filter",
    "JoinSource": "join_source",
}
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


def _taken(document: dict[str, Any], key: str) -> dict[str, Any]:
    """A nested structure, to be emptied field by field."""
    value = document.get(key)
    if not isinstance(value, Mapping):
        raise RequestError(f"CreateTransformJob: {key} is missing")
    document[key] = taken = dict(value)
    return taken


def _required(document: dict[str, Any], key: str, where: str) -> str:
    if not isinstance(document.get(key), str):
        raise RequestError(f"CreateTransformJob: {where}.{key} is missing")
    return cast("str", document.pop(key))


def _nested(kind: type[Any], names: Mapping[str, str], given: dict[str, Any], key: str) -> Any:
    value = given.pop(key, None)
    if value is None:
        return None
    if unknown := sorted(set(value) - set(names)):
        raise RequestError(f"CreateTransformJob has no field {key}.{unknown[0]}")
    try:
        return kind(**{names[name]: each for name, each in value.items()})
    except TypeError as error:
        missing = sorted(name for name, each in names.items() if name not in value and _is_needed(kind, each))
        raise RequestError(f"CreateTransformJob: {key}.{missing[0]} is missing") from error


def _is_needed(kind: type[Any], name: str) -> bool:
    return any(each.name == name and "None" not in str(each.type) for each in fields(kind))


def _written(value: object, names: Mapping[str, str]) -> dict[str, Any] | None:
    return None if value is None else _without_none({name: getattr(value, each) for name, each in names.items()})


def _without_none(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}
