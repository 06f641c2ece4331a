"""A local server that speaks as S3 does, with shards in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from moto.server import ThreadedMotoServer


@contextmanager
def serve_s3(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Put the files of `folder` into a bucket; the address there, and the options of the file system."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    storage = {"key": "name", "secret": "word", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
    system = fsspec.filesystem("s3", **storage)
    system.mkdir("bucket")
    system.put(str(folder), "bucket", recursive=True)
    yield f"s3://bucket/{folder.name}", storage
    server.stop()
