"""A process that uploads a file or a folder, to be stopped by a test: ``uploading.py <address> <path> <s3://...>``."""

import sys
from pathlib import Path

from tests.support.small_parts import PART, send_small_parts
from tritonforge.sagemaker.client import Session, Store

if __name__ == "__main__":
    url, path, uri = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    with Session(endpoint_url=url) as session, send_small_parts():
        store = Store(session, part_size=PART)
        if path.is_dir():
            store.upload_tree({path.name: path for path in path.iterdir()}, uri)
        else:
            store.upload(path, uri, digest="sha256:" + "1" * 64)
