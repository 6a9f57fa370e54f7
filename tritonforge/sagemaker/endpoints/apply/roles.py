"""The IAM role that a deployment names: a name becomes the ARN that IAM knows, with the role's path. An edge."""

from __future__ import annotations

from typing import Final

from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session

__all__ = ["role_arn"]

_MISSING: Final = "NoSuchEntity"


def role_arn(session: Session, role: str) -> str:
    """The ARN of a role that is given by ARN or by name; SageMaker's own console makes roles below ``service-role/``.

    Where the caller may not read IAM the name is given back as it is, and stands for a role without a path.

    Raises:
        DefinitionError: the account has no such role.
    """
    if role.startswith("arn:") or not role:
        return role
    name = role.rpartition("/")[2]
    try:
        found = session.call("iam", "GetRole", RoleName=name)
    except AwsError as error:
        if error.code == _MISSING:
            raise DefinitionError(
                f"IAM has no role {name!r} in account {session.account()}; give the ARN or the name of one that it has"
            ) from error
        if error.denied:
            return role
        raise
    return str(found["Role"]["Arn"])
