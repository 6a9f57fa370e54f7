"""The environment of a client of the emulator: the variables that AWS's SDKs and command line read.

Only `write_sdk_config` touches files: it writes the defaults of AWS's SageMaker Python SDK.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tritonforge.emulator.emulated_s3 import make_private_folder
from tritonforge.emulator.front.moto_backend import MotoBackend
from tritonforge.files import write_file

__all__ = ["ENVIRONMENT_PATH", "SDK_CONFIG", "build_client_environment", "build_proxy_environment",
           "create_default_bucket", "create_execution_role", "list_conflicting", "merge_environment",
           "write_sdk_config"]  # fmt: skip

#: The path of the emulator's environment over HTTP. No bucket has this name: S3's have no underscores.
ENVIRONMENT_PATH: Final = "/_tritonforge/environment"

#: Variables that would lead a client elsewhere although the emulator's are set: a profile and other sources of
#: credentials, and addresses of single services.
_CONFLICTING: Final = frozenset(
    {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_DEFAULT_PROFILE",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_PROFILE",
        "AWS_ROLE_ARN",
        "AWS_SECURITY_TOKEN",
        "AWS_SESSION_TOKEN",
        "AWS_USE_DUALSTACK_ENDPOINT",
        "AWS_USE_FIPS_ENDPOINT",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    }
)
_ENDPOINT_OF_A_SERVICE: Final = "AWS_ENDPOINT_URL_"

#: Hosts that are reached without the proxy.
_DIRECT: Final = ("127.0.0.1", "localhost", "::1")

#: The variable that names the defaults of AWS's SageMaker Python SDK.
SDK_CONFIG: Final = "SAGEMAKER_USER_CONFIG_OVERRIDE"

#: The defaults' file of AWS's SageMaker Python SDK, version 2 and 3. Its keys are those of the SDK's config_schema.py.
_SDK_CONFIG_FILE: Final = "sagemaker-config.yaml"


def build_client_environment(*, url: str, region: str, sdk_config: Path) -> dict[str, str]:
    """Return the variables that lead a client to the emulator's own address; any access keys are accepted."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        SDK_CONFIG: str(sdk_config),
    }


def build_proxy_environment(*, proxy_url: str, certificate: Path, bundle: Path) -> dict[str, str]:
    """Return the variables that send requests to every other address through the proxy.

    Both spellings: curl reads the one, Go the other, and a lower-case variable of the user's would win in Python.
    AWS's clients trust the proxy's ``certificate`` only; those that ask AWS through requests, curl, OpenSSL or Node
    trust ``bundle``, which has the public authorities as well.
    """
    direct = ",".join(_DIRECT)
    proxied = {"HTTPS_PROXY": proxy_url, "HTTP_PROXY": proxy_url, "NO_PROXY": direct}
    return {
        **proxied,
        **{name.lower(): value for name, value in proxied.items()},
        "AWS_CA_BUNDLE": str(certificate),
        **dict.fromkeys(("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(bundle)),
        "NODE_EXTRA_CA_CERTS": str(certificate),
    }


def list_conflicting(names: Iterable[str]) -> list[str]:
    """List those variables of ``names`` that conflict with the emulator's."""
    return sorted(name for name in names if name in _CONFLICTING or name.startswith(_ENDPOINT_OF_A_SERVICE))


def merge_environment(environment: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with the emulator's variables added and those that conflict with them removed.

    NO_PROXY is extended: hosts that the user reaches directly stay so.
    """
    merged = {**environment, **ours}
    for name in list_conflicting(environment):
        del merged[name]
    direct = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    for name in ("NO_PROXY", "no_proxy"):
        if name in ours:
            hosts = [host.strip() for host in f"{direct},{ours[name]}".split(",")]
            merged[name] = ",".join(dict.fromkeys(host for host in hosts if host))
    return merged


def write_sdk_config(folder: Path, *, bucket: str) -> Path:
    """Write the SDK's defaults into a folder: the bucket of ``default_bucket()``, and no telemetry. Return the file."""
    modules = {"Session": {"DefaultS3Bucket": bucket}, "TelemetryOptOut": True}
    document = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": modules}}}
    make_private_folder(folder)
    path = folder / _SDK_CONFIG_FILE
    write_file(path, f"{json.dumps(document, indent=1)}\n".encode(), mode=0o600, sync=False)  # JSON is YAML
    return path


#: The role, in the place where SageMaker's console puts its own.
_ROLE: Final = "TritonForgeExecutionRole"
_ROLE_PATH: Final = "/service-role/"

_TRUST: Final = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


def create_execution_role(moto: MotoBackend, region: str) -> str:
    """Create the role that SageMaker may assume where it is missing, and return its ARN."""
    iam = moto.client("iam", region)
    for role in iam.list_roles(PathPrefix=_ROLE_PATH)["Roles"]:
        if role["RoleName"] == _ROLE:
            return str(role["Arn"])
    made = iam.create_role(RoleName=_ROLE, Path=_ROLE_PATH, AssumeRolePolicyDocument=_TRUST)
    return str(made["Role"]["Arn"])


def create_default_bucket(moto: MotoBackend, region: str) -> str:
    """Create the default bucket of AWS's SDK where it is missing, and return its name."""
    s3 = moto.client("s3", region)
    name = f"sagemaker-{region}-{moto.account}"
    if name not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        place = {} if region == "us-east-1" else {"LocationConstraint": region}
        s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": place} if place else {}))
    return name
