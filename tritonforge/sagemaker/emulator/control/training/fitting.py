"""Whether a training job fits the algorithm that it names: channels, hyperparameters, instances. No I/O.

What an algorithm supports is its TrainingSpecification (API CreateAlgorithm); that a job is held to it is AWS's, the
sentences are ours, and all of them are told at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["completed", "problems"]

#: Hyperparameters with this prefix are the training toolkit's own. Source: aws/sagemaker-training-toolkit, params.py.
_RESERVED = "sagemaker_"


def problems(request: Mapping[str, Any], algorithm: Mapping[str, Any]) -> Iterator[str]:
    """What of a CreateTrainingJob request an algorithm (its TrainingSpecification) does not support."""
    yield from _instances(request.get("ResourceConfig") or {}, algorithm)
    mode = request["AlgorithmSpecification"]["TrainingInputMode"]
    yield from _channels(request.get("InputDataConfig") or (), mode, algorithm["TrainingChannels"])
    yield from _hyperparameters(
        request.get("HyperParameters") or {}, algorithm.get("SupportedHyperParameters") or (), strict=True
    )


def completed(request: Mapping[str, Any], algorithm: Mapping[str, Any]) -> Mapping[str, Any]:
    """A request with what an algorithm adds to it: defaults of hyperparameters, and its metric definitions.

    Source: API HyperParameterSpecification.DefaultValue; API CreateAlgorithm, TrainingSpecification.MetricDefinitions.
    """
    if not algorithm:
        return request
    defaults = {
        each["Name"]: each["DefaultValue"]
        for each in algorithm.get("SupportedHyperParameters") or ()
        if each.get("DefaultValue") is not None
    }
    specification = dict(request["AlgorithmSpecification"])
    if algorithm.get("MetricDefinitions"):
        specification.setdefault("MetricDefinitions", algorithm["MetricDefinitions"])
    hyperparameters = {**defaults, **(request.get("HyperParameters") or {})}
    return {**request, "AlgorithmSpecification": specification, "HyperParameters": hyperparameters}


def _instances(resources: Mapping[str, Any], algorithm: Mapping[str, Any]) -> Iterator[str]:
    supported = algorithm["SupportedTrainingInstanceTypes"]
    kind = resources.get("InstanceType")
    if kind is not None and kind not in supported:
        yield f"ResourceConfig.InstanceType is {kind}; the algorithm supports {', '.join(supported)}"
    if (resources.get("InstanceCount") or 1) > 1 and not algorithm.get("SupportsDistributedTraining"):
        yield "ResourceConfig.InstanceCount is more than 1; the algorithm does not support distributed training"


def _channels(given: Any, mode: str, declared: Any) -> Iterator[str]:
    known = {each["Name"]: each for each in declared}
    names = {each["ChannelName"] for each in given}
    for name, channel in known.items():
        if channel.get("IsRequired") and name not in names:
            yield f"InputDataConfig has no channel {name!r}, which the algorithm requires"
    for index, each in enumerate(given):
        place, name = f"InputDataConfig[{index}]", each["ChannelName"]
        if name not in known:
            yield f"{place}.ChannelName is {name!r}; the algorithm has {', '.join(known)}"
            continue
        channel = known[name]
        for what, value, supported in (
            ("InputMode", each.get("InputMode") or mode, channel["SupportedInputModes"]),
            ("ContentType", each.get("ContentType"), channel["SupportedContentTypes"]),
            ("CompressionType", each.get("CompressionType"), channel.get("SupportedCompressionTypes")),
        ):
            if value and supported and value not in supported and value != "None":
                yield f"{place}.{what} is {value}; channel {name!r} of the algorithm supports {', '.join(supported)}"


def _hyperparameters(given: Mapping[str, str], declared: Any, *, strict: bool) -> Iterator[str]:
    known = {each["Name"]: each for each in declared}
    for name, each in known.items():
        if each.get("IsRequired") and name not in given:
            yield f"HyperParameters has no {name!r}, which the algorithm requires"
    for name, value in given.items():
        if name in known:
            yield from _value(name, value, known[name])
        elif strict and known and not name.startswith(_RESERVED):
            near = difflib.get_close_matches(name, known, 1)
            advice = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            yield f"HyperParameters has {name!r}, which the algorithm does not have; {advice}"


def _value(name: str, value: str, declared: Mapping[str, Any]) -> Iterator[str]:
    kind, ranges = declared["Type"], declared.get("Range") or {}
    if kind == "Categorical":
        values = (ranges.get("CategoricalParameterRangeSpecification") or {}).get("Values")
        if values and value not in values:
            yield f"HyperParameters[{name!r}] is {value!r}; it must be one of {', '.join(values)}"
    elif kind in ("Integer", "Continuous"):
        read = int if kind == "Integer" else float
        try:
            number = read(value)
        except ValueError:
            what = "an integer" if kind == "Integer" else "a number"
            yield f"HyperParameters[{name!r}] is {value!r}; it must be {what}"
            return
        limits = ranges.get(f"{kind}ParameterRangeSpecification")
        if limits and not float(limits["MinValue"]) <= number <= float(limits["MaxValue"]):
            yield (
                f"HyperParameters[{name!r}] is {value}; it must be between {limits['MinValue']} and "
                f"{limits['MaxValue']}"
            )
