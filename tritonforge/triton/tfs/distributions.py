"""The Python packages of SageMaker's TensorFlow Serving image, which its handlers can import. This module does no I/O.

Source: aws/deep-learning-containers docker/tensorflow/inference/2.20/cpu/uv.lock with the extra ``sagemaker``, and the
Dockerfile beside it, which adds tensorflow-serving-api without TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["DISTRIBUTIONS", "distribution_of", "has_requirements"]

#: Every distribution in the image's Python environment, by its normalised name.
DISTRIBUTIONS: Final = frozenset(
    {
        "aiohappyeyeballs",
        "aiohttp",
        "aiosignal",
        "attrs",
        "awscli",
        "boto3",
        "botocore",
        "certifi",
        "charset-normalizer",
        "cloudpickle",
        "colorama",
        "cython",
        "docutils",
        "falcon",
        "frozenlist",
        "gevent",
        "greenlet",
        "grpcio",
        "gunicorn",
        "idna",
        "jmespath",
        "joblib",
        "multidict",
        "narwhals",
        "numpy",
        "packaging",
        "pandas",
        "propcache",
        "protobuf",
        "pyasn1",
        "python-dateutil",
        "pyyaml",
        "requests",
        "rsa",
        "s3transfer",
        "scikit-learn",
        "scipy",
        "six",
        "tensorflow-serving-api",
        "threadpoolctl",
        "typing-extensions",
        "urllib3",
        "yarl",
        "zope-event",
        "zope-interface",
    }
)

#: Modules whose distribution has another name.
_OTHERWISE_NAMED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Cython": "cython",
        "attr": "attrs",
        "charset_normalizer": "charset-normalizer",
        "dateutil": "python-dateutil",
        "grpc": "grpcio",
        "sklearn": "scikit-learn",
        "tensorflow_serving": "tensorflow-serving-api",
        "typing_extensions": "typing-extensions",
        "yaml": "pyyaml",
    }
)

_REQUIREMENT_LINE: Final = re.compile(r"^[ \t]*[^\s#]", re.MULTILINE)


def distribution_of(module: str) -> str | None:
    """Return the image's distribution that has a top-level module, or None.

    >>> distribution_of("sklearn"), distribution_of("PIL")
    ('scikit-learn', None)
    """
    name = _OTHERWISE_NAMED.get(module, module)
    return name if name in DISTRIBUTIONS else None


def has_requirements(text: str) -> bool:
    r"""Return whether a requirements file has a line that is not blank and not a comment.

    >>> has_requirements("# images\n\n"), has_requirements("pillow>=10")
    (False, True)
    """
    return _REQUIREMENT_LINE.search(text) is not None
