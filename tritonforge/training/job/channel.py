"""Channels: the named inputs of a training job as values. This module does no I/O.

Fields keep the API's names in snake_case; None is a member that the request leaves out. Source: API_Channel,
API_S3DataSource, API_ShuffleConfig. For a job on this machine ``uri`` may be a path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from tritonforge.training.job.members import Structure

__all__ = [
    "CHANNEL",
    "Channel",
    "CompressionType",
    "DataType",
    "Distribution",
    "InputMode",
    "RecordWrapperType",
    "S3Data",
    "ShuffleConfig",
    "Source",
]

InputMode: TypeAlias = Literal["Pipe", "File", "FastFile"]
#: Of the API's values these three are data of a training job; Converse is for jobs without a container.
DataType: TypeAlias = Literal["S3Prefix", "ManifestFile", "AugmentedManifestFile"]
Distribution: TypeAlias = Literal["FullyReplicated", "ShardedByS3Key"]
CompressionType: TypeAlias = Literal["None", "Gzip"]
RecordWrapperType: TypeAlias = Literal["None", "RecordIO"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleConfig:
    """The seed of a channel's order; in Pipe mode every epoch has an order of its own."""

    seed: int
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Data:
    """Objects: all below a prefix, of a manifest, or the lines of an augmented one (``attribute_names`` of each)."""

    uri: str
    data_type: DataType = "S3Prefix"
    distribution: Distribution | None = None
    attribute_names: tuple[str, ...] | None = None
    instance_group_names: tuple[str, ...] | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a channel's data are: ``s3``, or another store, which is carried only (a file system, a data set)."""

    s3: S3Data | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One named input. ``input_mode`` None is the job's own."""

    name: str
    source: Source
    content_type: str | None = None
    compression_type: CompressionType | None = None
    record_wrapper_type: RecordWrapperType | None = None
    input_mode: InputMode | None = None
    shuffle: ShuffleConfig | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> S3Data | None:
        """The S3 data of the channel, None where they are somewhere else."""
        return self.source.s3


_S3_DATA: Final = Structure(
    S3Data,
    {
        "S3DataType": "data_type",
        "S3Uri": "uri",
        "S3DataDistributionType": "distribution",
        "AttributeNames": "attribute_names",
        "InstanceGroupNames": "instance_group_names",
    },
    required=("S3DataType", "S3Uri"),
)

CHANNEL: Final = Structure(
    Channel,
    {
        "ChannelName": "name",
        "DataSource": "source",
        "ContentType": "content_type",
        "CompressionType": "compression_type",
        "RecordWrapperType": "record_wrapper_type",
        "InputMode": "input_mode",
        "ShuffleConfig": "shuffle",
    },
    required=("ChannelName", "DataSource"),
    structures={
        "DataSource": Structure(Source, {"S3DataSource": "s3"}, structures={"S3DataSource": _S3_DATA}),
        "ShuffleConfig": Structure(ShuffleConfig, {"Seed": "seed"}, required=("Seed",)),
    },
)
