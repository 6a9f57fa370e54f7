"""IAM's SimulatePrincipalPolicy: allowed, as everything is here. AWS's SDK asks it before it chooses a bucket.

The emulator evaluates no policies, so a principal that exists may do whatever is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from tritonforge.emulator.front import service_errors
from tritonforge.emulator.front.http_request import Incoming
from tritonforge.emulator.front.moto_backend import Neighbours
from tritonforge.emulator.requests import Response

__all__ = ["SERVICE", "answer"]

SERVICE: Final = "iam"

_ACTION: Final = "SimulatePrincipalPolicy"
_NAMESPACE: Final = "https://iam.amazonaws.com/doc/2010-05-08/"
_PRINCIPAL: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(?P<kind>user|role|group)/(?:.*/)?(?P<name>[^/]+)")
_MEMBER: Final = re.compile(r"(?P<list>\w+)\.member\.(?P<index>\d+)")


def answer(incoming: Incoming, neighbours: Neighbours, region: str) -> Response | None:
    """The answer to SimulatePrincipalPolicy; None for every other request."""
    form = parse_qs(incoming.body().decode("utf-8", "replace"), keep_blank_values=True)
    if form.get("Action") != [_ACTION]:
        return None
    arn = form.get("PolicySourceArn", [""])[0]
    actions = _members(form, "ActionNames")
    if not arn or not actions:
        return service_errors.error(
            incoming, 400, "ValidationError", f"{_ACTION} needs PolicySourceArn and ActionNames."
        )
    found = _PRINCIPAL.fullmatch(arn)
    if found is None:
        return service_errors.error(incoming, 400, "InvalidInput", f"Invalid Entity Arn: {arn}")
    if not _exists(neighbours, region, found["kind"], found["name"], arn):
        return service_errors.error(incoming, 404, "NoSuchEntity", f"{found['kind'].title()} {arn} does not exist.")
    resources = _members(form, "ResourceArns") or ["*"]
    members = "".join(_result(action, resource) for action in actions for resource in resources)
    text = (
        f'<{_ACTION}Response xmlns="{_NAMESPACE}"><{_ACTION}Result><IsTruncated>false</IsTruncated>'
        f"<EvaluationResults>{members}</EvaluationResults></{_ACTION}Result></{_ACTION}Response>"
    )
    return Response(200, [("Content-Type", "text/xml")], text.encode())


def _result(action: str, resource: str) -> str:
    return (
        f"<member><EvalActionName>{escape(action)}</EvalActionName><EvalResourceName>{escape(resource)}"
        "</EvalResourceName><EvalDecision>allowed</EvalDecision><MatchedStatements/><MissingContextValues/></member>"
    )


def _members(form: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """A list of the query protocol, in its order."""
    found = {}
    for key, values in form.items():
        member = _MEMBER.fullmatch(key)
        if member is not None and member["list"] == name:
            found[int(member["index"])] = values[0]
    return [found[index] for index in sorted(found)]


def _exists(neighbours: Neighbours, region: str, kind: str, name: str, arn: str) -> bool:
    from botocore.exceptions import ClientError

    client = neighbours.client(SERVICE, region)
    try:
        found = getattr(client, f"get_{kind}")(**{f"{kind.title()}Name": name})[kind.title()]
    except ClientError:
        return False
    return bool(found["Arn"] == arn)
