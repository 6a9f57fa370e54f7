"""The publication of algorithms and model packages on SageMaker: their data, creation, validation and result."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.endpoints.observation import find_role_arn, is_missing
from tritonforge.sagemaker.jobs.job_data import (
    LocalChannel,
    find_bucket_name,
    observe_data,
    read_local_channels,
    upload_part,
)
from tritonforge.sagemaker.jobs.kinds import ALGORITHM, MODEL_PACKAGE, JobKind, contains
from tritonforge.sagemaker.jobs.lifecycle import SageMakerJob
from tritonforge.sagemaker.jobs.marketplace_plan import MODEL, ObservedResource, plan_algorithm, plan_model_package
from tritonforge.sagemaker.jobs.publication import (
    TRANSFORM,
    AlgorithmRequest,
    ModelPackageRequest,
    SampleData,
    build_validation_profile,
    build_validation_transform,
)
from tritonforge.sagemaker.jobs.specification import ValidationProfile, read_algorithm
from tritonforge.sagemaker.jobs.training_plan import (
    ChannelContent,
    ObservedData,
    is_local,
)
from tritonforge.sagemaker.plans.plan import Plan, Progress, Step
from tritonforge.training.job.training_job import Channel, Output, S3Data, Source, TrainingJob

__all__ = [
    "AlgorithmPublication",
    "ModelPackagePublication",
    "PublicationResult",
    "PublicationSettings",
]

#: The default prefix of the outputs of a validation in the bucket.
_OUTPUTS: Final = "tritonforge-training/validations/"

#: The newest versions of a group among which an equal one is looked for.
_MAX_VERSIONS: Final = 20

_SERVICE: Final = "sagemaker"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationResult:
    """The end of a publication: its status, and a sentence for each part of the validation that failed."""

    name: str
    arn: str
    status: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationSettings:
    """A publication of either kind.

    Attributes:
        transform: objects of the batch transform that validates inference, None to not validate it.
        output: the S3 address of the validation's outputs, by default below a prefix of the bucket.
        bucket: the bucket of local data, by default SageMaker's own of the region.
        replaces: delete another resource of the name first.
    """

    transform: str | None = None
    output: str | None = None
    bucket: str | None = None
    replaces: bool = False


class _Publication(SageMakerJob[PublicationResult]):
    """Uploads the data of a publication first, and watches the parts of its validation."""

    def __init__(
        self, session: Session, role: str | None, settings: PublicationSettings | None, progress: Progress | None
    ) -> None:
        super().__init__(session, progress=progress)
        self._role = role
        self._settings = settings or PublicationSettings()
        self._channels: Mapping[str, LocalChannel] = {}
        self._parts: dict[str, str] = {}

    def _build_plan(self) -> Plan:
        role = find_role_arn(self.session, self._role or "")
        bucket = find_bucket_name(self.session, self._settings.bucket)
        self.progress.begin("read the local data")
        self._channels = self._files.enter_context(read_local_channels(self._collect_data(), bucket=bucket))
        self.progress.begin("read the state on AWS")
        contents = {name: channel.content for name, channel in self._channels.items()}
        return self._build_request_plan(
            role or None, contents, observe_data(self.session, contents, bucket=self._settings.bucket)
        )

    @abstractmethod
    def _collect_data(self) -> TrainingJob:
        """Return a job whose channels are all data that the publication reads, so that they are uploaded as such."""

    @abstractmethod
    def _build_request_plan(
        self, role: str | None, contents: Mapping[str, ChannelContent], observed: ObservedData
    ) -> Plan:
        """Return the plan of the requests; ``role`` is None while it is not known."""

    def _choose_output(self, observed: ObservedData, name: str) -> str:
        return self._settings.output or f"s3://{observed.bucket.name}/{_OUTPUTS}{name}"

    def _upload(self, step: Step) -> None:
        upload_part(step, self.session, self._channels, account=self.plan().account, progress=self.progress)

    def _read_identifier(self, name: str, response: Mapping[str, Any]) -> str:
        return str(response[self.kind.arn])

    def _read_description(self, description: Mapping[str, Any], on_phase: Callable[[str, str], None]) -> str:
        for part, status, _ in self._read_parts(description):
            if self._parts.get(part) != status:
                self._parts[part] = status
                on_phase(part, status)
        return "".join(f", {part} {status}" for part, status in self._parts.items())

    def _read_result(self, description: Mapping[str, Any]) -> PublicationResult:
        return PublicationResult(
            name=self.identifier.rpartition("/")[2] if self.identifier.startswith("arn:") else self.identifier,
            arn=str(description[self.kind.arn]),
            status=str(description[self.kind.status]),
            reasons=tuple(f"{part}: {reason}" for part, _, reason in self._read_parts(description) if reason),
        )

    def _read_parts(self, description: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        """Yield name, status and failure reason of the parts of a validation."""
        details = description.get(f"{self.kind.status}Details") or {}
        for member, noun in (("ValidationStatuses", "profile"), ("ImageScanStatuses", "image scan")):
            for part in details.get(member) or ():
                name, reason = str(part.get("Name", "")), str(part.get("FailureReason") or "")
                yield f"{noun} {name}".strip(), str(part["Status"]), reason


class AlgorithmPublication(_Publication):
    """Creates an algorithm on SageMaker.

    Args:
        request: the algorithm with its images and its role, without a profile.
        session: calls AWS.
        samples: data of the training that validates it, by channel; without them nothing is validated.
        hyperparameters: of that training.
        settings: where the data of the validation are.
        progress: shows the progress.

    Raises:
        DefinitionError: the samples do not fit the algorithm.
    """

    kind = ALGORITHM

    def __init__(
        self,
        request: AlgorithmRequest,
        *,
        session: Session,
        samples: Mapping[str, SampleData] | None = None,
        hyperparameters: Mapping[str, str] | None = None,
        settings: PublicationSettings | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(session, request.role, settings, progress)
        self._request = request
        self._samples = samples or {}
        self._hyperparameters = hyperparameters
        self._draft = self._build_profile("s3://bucket/")

    def _build_profile(self, output: str) -> ValidationProfile | None:
        if not self._samples:
            return None
        return build_validation_profile(
            self._request.algorithm,
            channels=self._samples,
            output=output,
            hyperparameters=self._hyperparameters,
            transform=self._settings.transform,
        )

    def _collect_data(self) -> TrainingJob:
        return _collect_data(self._draft)

    def _build_request_plan(
        self, role: str | None, contents: Mapping[str, ChannelContent], observed: ObservedData
    ) -> Plan:
        name = self._request.algorithm.name
        profile = self._build_profile(self._choose_output(observed, name))
        return plan_algorithm(
            replace(self._request, role=role, profile=profile),
            contents,
            observed,
            _observe(self.session, ALGORITHM, name),
            replaces=self._settings.replaces,
        )


class ModelPackagePublication(_Publication):
    """Creates a model package on SageMaker, or a version of a model package group.

    ``request`` is the package without the address of its model, ``model`` a local model.tar.gz or its S3 address.
    """

    kind = MODEL_PACKAGE

    def __init__(
        self,
        request: ModelPackageRequest,
        model: str,
        *,
        session: Session,
        settings: PublicationSettings | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(session, request.role, settings, progress)
        self._request = request if is_local(model) else request.with_model(model)
        self._model = model

    def _collect_data(self) -> TrainingJob:
        return _collect_data(None, model=self._model, transform=self._settings.transform)

    def _build_request_plan(
        self, role: str | None, contents: Mapping[str, ChannelContent], observed: ObservedData
    ) -> Plan:
        request = replace(self._request, role=role)
        name, group = request.name or request.group or "", request.group
        if self._settings.transform:
            declared = request.declared or self._read_algorithm()
            output = self._choose_output(observed, name)
            transform = build_validation_transform(declared, self._settings.transform, output=output)
            request = replace(request, profile=ValidationProfile(transform=transform))
        existing = _observe(self.session, MODEL_PACKAGE, request.name or "", group=group)
        plan = plan_model_package(request, contents, observed, existing, replaces=self._settings.replaces)
        if group is not None and existing.has_group and plan.steps:
            version = _find_version(self.session, group, plan.steps[-1].request)
            if version is not None:
                self._identifier = str(version["ModelPackageArn"])
                return replace(plan, steps=(), notes=(f"the version exists: {self._identifier}",))
        return plan

    def _read_algorithm(self) -> Any:
        name = self._request.algorithm_name or ""
        description = _observe(self.session, ALGORITHM, name).description
        if description is None:
            raise DefinitionError(f"algorithm {name}: does not exist. Publish it first")
        return read_algorithm(description)


def _collect_data(
    profile: ValidationProfile | None, *, model: str | None = None, transform: str | None = None
) -> TrainingJob:
    training = None if profile is None else profile.training
    channels = list((training and training.channels) or ())
    if profile is not None and profile.transform is not None:
        transform = profile.transform.input.uri
    for name, uri in ((TRANSFORM, transform), (MODEL, model)):
        if uri is not None:
            channels.append(Channel(name=name, source=Source(s3=S3Data(uri=uri))))
    return TrainingJob(name="", output=Output(uri=""), channels=tuple(channels))


def _observe(session: Session, kind: JobKind, name: str, *, group: str | None = None) -> ObservedResource:
    """Return what AWS has under a name, and whether a group exists. Only reads."""
    description = _describe(session, kind.describe, **{kind.name: name}) if name else None
    if group is None:
        return ObservedResource(description=description)
    has_group = _describe(session, "DescribeModelPackageGroup", ModelPackageGroupName=group) is not None
    return ObservedResource(description=description, has_group=has_group)


def _find_version(session: Session, group: str, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the newest version of a group that equals a request, None if there is no such version. Only reads."""
    listed = _describe(
        session,
        "ListModelPackages",
        ModelPackageGroupName=group,
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=_MAX_VERSIONS,
    )
    expected = {name: value for name, value in request.items() if name not in ("ClientToken", "ModelApprovalStatus")}
    for summary in (listed or {}).get("ModelPackageSummaryList", ()):
        version = session.call(_SERVICE, MODEL_PACKAGE.describe, ModelPackageName=summary["ModelPackageArn"])
        if contains({"ModelPackageGroupName": group, **version}, expected):
            return version
    return None


def _describe(session: Session, operation: str, **request: Any) -> Mapping[str, Any] | None:
    try:
        return session.call(_SERVICE, operation, **request)
    except AwsError as error:
        if is_missing(error):
            return None
        raise
