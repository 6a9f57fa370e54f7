"""The folders and files that a container of SageMaker finds below /opt/ml. An edge.

    input/config/{hyperparameters,inputdataconfig,resourceconfig}.json    what the job says
    input/data/<channel>/, input/data/<channel>_<epoch>                   its data: `channels`
    model/  output/data/  output/failure  checkpoints/                    what training leaves

Nothing is read before it is asked for, so that a program needs only the files that it uses. Source: SageMaker developer
guide, "How Amazon SageMaker Provides Training Information" and "... Processes Training Output"; the toolkit's
``SAGEMAKER_BASE_DIR``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tritonforge.training.algorithm.channels import ChannelInput
from tritonforge.training.algorithm.failures import InputError
from tritonforge.training.algorithm.stopping import Stopping

__all__ = ["BASE", "Container", "Resources"]

#: Where SageMaker puts everything.
BASE: Final = Path("/opt/ml")


@dataclass(frozen=True, slots=True)
class Resources:
    """Which machines train, and which of them this is; ``hosts`` are sorted, as SageMaker gives them."""

    current_host: str
    hosts: tuple[str, ...]
    current_instance_type: str = ""
    current_group_name: str = ""
    network_interface_name: str = ""
    instance_groups: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """What SageMaker lays out for a program, below ``base``."""

    base: Path
    job_name: str = ""
    stopping: Stopping = field(default_factory=Stopping, compare=False, repr=False)

    @classmethod
    def here(cls, base: Path | None = None, *, stopping: Stopping | None = None) -> Container:
        """The container that this process runs in: below ``base``, else SAGEMAKER_BASE_DIR, else /opt/ml.

        ``job_name`` is TRAINING_JOB_NAME, "" outside a training job. What waits for data ends when ``stopping`` is set.
        """
        found = base or Path(os.environ.get("SAGEMAKER_BASE_DIR") or BASE)
        return cls(found, os.environ.get("TRAINING_JOB_NAME", ""), Stopping() if stopping is None else stopping)

    @property
    def config_dir(self) -> Path:
        """Where the job's settings are."""
        return self.base / "input" / "config"

    @property
    def data_dir(self) -> Path:
        """Where the channels are."""
        return self.base / "input" / "data"

    @property
    def model_dir(self) -> Path:
        """What lies here at the end of training is packed as model.tar.gz; here serving finds it again."""
        return self.base / "model"

    @property
    def output_data_dir(self) -> Path:
        """What lies here at the end of training is packed as output.tar.gz."""
        return self.base / "output" / "data"

    @property
    def checkpoint_dir(self) -> Path:
        """What lies here is copied to S3 as it changes, and is there again when the job is started anew."""
        return self.base / "checkpoints"

    @property
    def failure_file(self) -> Path:
        """Its first 1024 characters are the FailureReason of a job that fails."""
        return self.base / "output" / "failure"

    @property
    def hyperparameters(self) -> Mapping[str, str]:
        """The job's hyperparameters, unread strings. Raises InputError."""
        found = self._document("hyperparameters.json")
        for name, value in found.items():
            if not isinstance(value, str):
                raise InputError(
                    f"{self.config_dir / 'hyperparameters.json'}: {name} is {json.dumps(value)}; "
                    "SageMaker gives every value as a string, so put it in quotes"
                )
        return found

    @property
    def has_channels(self) -> bool:
        """Whether the job says anything of channels."""
        return (self.config_dir / "inputdataconfig.json").exists()

    @property
    def channels(self) -> Mapping[str, ChannelInput]:
        """The job's channels by name. Raises InputError."""
        path = self.config_dir / "inputdataconfig.json"
        found: dict[str, ChannelInput] = {}
        for name, each in self._document(path.name).items():
            if not isinstance(each, dict):
                raise InputError(f"{path}: channel {name} is {json.dumps(each)}; write an object")
            text: dict[str, str] = {}
            for key, known in _CHANNEL.items():
                value = each.get(key)
                if isinstance(value, str) and value in (known or (value,)):
                    text[key] = value
                elif value is not None:
                    wanted = " or ".join(known) or "a string"
                    raise InputError(f"{path}: {key} of channel {name} is {json.dumps(value)}; write {wanted}")
            found[name] = ChannelInput(
                name,
                folder=self.data_dir / name,
                mode=text.get("TrainingInputMode", "File"),
                content_type=text.get("ContentType", ""),
                record_wrapper=text.get("RecordWrapperType", "None"),
                distribution=text.get("S3DistributionType", "FullyReplicated"),
                stopping=self.stopping,
            )
        return found

    @property
    def resources(self) -> Resources:
        """The machines of the job. Raises InputError."""
        # AWS Marketplace's guide spells the file resourceConfig.json, the developer guide and the platform otherwise.
        other = self.config_dir / "resourceConfig.json"
        path = other if other.exists() else self.config_dir / "resourceconfig.json"
        found = self._document(path.name)
        hosts, host = found.get("hosts"), found.get("current_host")
        if not isinstance(hosts, list) or not hosts or not all(isinstance(each, str) for each in hosts):
            raise InputError(f"{path}: hosts is {json.dumps(hosts)}; write the names of the machines")
        if not isinstance(host, str) or host not in hosts:
            raise InputError(f"{path}: current_host is {json.dumps(host)}, which is not one of {', '.join(hosts)}")
        groups = found.get("instance_groups")
        return Resources(
            current_host=host,
            hosts=tuple(sorted(hosts)),
            current_instance_type=str(found.get("current_instance_type") or ""),
            current_group_name=str(found.get("current_group_name") or ""),
            network_interface_name=str(found.get("network_interface_name") or ""),
            instance_groups=tuple(groups) if isinstance(groups, list) else (),
        )

    def make_folders(self) -> None:
        """Make the folders that training writes to, where the platform did not. Raises OSError."""
        for each in (self.model_dir, self.output_data_dir, self.checkpoint_dir):
            each.mkdir(parents=True, exist_ok=True)

    def _document(self, name: str) -> dict[str, Any]:
        path = self.config_dir / name
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise InputError(
                f"{path} is missing; SageMaker writes it, and outside it set SAGEMAKER_BASE_DIR to a folder that has it"
            ) from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:  # UnicodeDecodeError too
            raise InputError(f"{path} is no JSON: {error}") from error
        except RecursionError as error:
            raise InputError(f"{path} is no JSON that anybody reads: it is nested too deep") from error
        if not isinstance(found, dict):
            raise InputError(f"{path} holds {json.dumps(found)[:60]}; write an object")
        return found


#: What of a channel is read, and which values it may have; any where there are none.
_CHANNEL: Final[Mapping[str, Sequence[str]]] = {
    "TrainingInputMode": ("File", "FastFile", "Pipe"),
    "ContentType": (),
    "RecordWrapperType": ("None", "RecordIO"),
    "S3DistributionType": ("FullyReplicated", "ShardedByS3Key"),
}
