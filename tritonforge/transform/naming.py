"""Naming: what the output of an object is called. This module does no I/O."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Naming", "output_uri", "relative_key"]

#: "relative": the key below the prefix, as the listings of jobs show it. "whole": with the last part of the prefix, as
#: the one example in API_TransformOutput has it.
Naming: TypeAlias = Literal["relative", "whole"]


def relative_key(uri: str, prefix: str, naming: Naming = "relative") -> str:
    """What an object's output is called after: its key below the prefix.

    A prefix is a folder, an object, or the beginning of names: then what follows its last slash is part of them.

    >>> relative_key("s3://b/in/a/1.jpg", "s3://b/in/"), relative_key("s3://b/in/a/1.jpg", "s3://b/in")
    ('a/1.jpg', 'a/1.jpg')
    >>> relative_key("s3://b/in/1.jpg", "s3://b/in/1.jpg"), relative_key("s3://b/in/part-1", "s3://b/in/part-")
    ('1.jpg', 'part-1')
    >>> relative_key("s3://b/in/a/1.jpg", "s3://b/in/", "whole")
    'in/a/1.jpg'
    """
    rest = uri[len(prefix) :]
    if prefix.endswith("/"):
        folder, key = prefix[:-1], rest
    elif rest.startswith("/"):
        folder, key = prefix, rest[1:]
    else:
        folder, slash, _ = prefix.rpartition("/")
        key = uri[len(folder) + len(slash) :]
    if naming == "relative":
        return key
    below = folder.partition("://")[2].partition("/")[2] if "://" in folder else folder  # without the bucket
    last = below.rpartition("/")[2]
    return f"{last}/{key}" if last else key


def output_uri(key: str, folder: str, suffix: str = ".out") -> str:
    """Where the output of a key goes.

    >>> output_uri("a/1.jpg", "s3://b/out")
    's3://b/out/a/1.jpg.out'
    """
    return f"{folder.rstrip('/')}/{key}{suffix}"
