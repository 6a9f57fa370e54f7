"""Has a process read AWS's service models once, for the clients that are forked from it."""

import functools

import botocore.session
from botocore.loaders import JSONFileLoader

_read = JSONFileLoader.load_file
_read_once = functools.cache(lambda path: _read(JSONFileLoader(), path))
JSONFileLoader.load_file = lambda self, file_path: _read_once(file_path)
_session = botocore.session.Session()
for _service in ("s3", "sagemaker", "sagemaker-runtime", "sts"):
    _session.create_client(
        _service, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )
