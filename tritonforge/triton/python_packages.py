"""What the Python of Triton's images can import: the standard library, and packages that are missing. No I/O.

Sources: the standard libraries of CPython 3.10 and 3.12 (compared by running both); server build.py
`dockerfile_prepare_container_linux`, python/openai/requirements.txt and the wheels' dependencies, r23.12 to r26.08;
server issues 4302 (maintainer: "not installed by default in the Triton container"), 2532, 5461 (a pip list) and 6621.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["MISSING_PACKAGES", "STANDARD_MODULES", "is_missing_module", "is_missing_name", "is_standard_module"]

_Version = tuple[int, int]

#: The modules of the standard libraries of 3.10 and 3.12, without private ones.
STANDARD_MODULES: Final = frozenset(
    {
        "abc", "aifc", "antigravity", "argparse", "array", "ast", "asynchat", "asyncio", "asyncore", "atexit",
        "audioop", "base64", "bdb", "binascii", "binhex", "bisect", "builtins", "bz2", "cProfile", "calendar", "cgi",
        "cgitb", "chunk", "cmath", "cmd", "code", "codecs", "codeop", "collections", "colorsys", "compileall",
        "concurrent", "configparser", "contextlib", "contextvars", "copy", "copyreg", "crypt", "csv", "ctypes",
        "curses", "dataclasses", "datetime", "dbm", "decimal", "difflib", "dis", "distutils", "doctest", "email",
        "encodings", "ensurepip", "enum", "errno", "faulthandler", "fcntl", "filecmp", "fileinput", "fnmatch",
        "fractions", "ftplib", "functools", "gc", "genericpath", "getopt", "getpass", "gettext", "glob", "graphlib",
        "grp", "gzip", "hashlib", "heapq", "hmac", "html", "http", "idlelib", "imaplib", "imghdr", "imp", "importlib",
        "inspect", "io", "ipaddress", "itertools", "json", "keyword", "lib2to3", "linecache", "locale", "logging",
        "lzma", "mailbox", "mailcap", "marshal", "math", "mimetypes", "mmap", "modulefinder", "msilib", "msvcrt",
        "multiprocessing", "netrc", "nis", "nntplib", "nt", "ntpath", "nturl2path", "numbers", "opcode", "operator",
        "optparse", "os", "ossaudiodev", "pathlib", "pdb", "pickle", "pickletools", "pipes", "pkgutil", "platform",
        "plistlib", "poplib", "posix", "posixpath", "pprint", "profile", "pstats", "pty", "pwd", "py_compile",
        "pyclbr", "pydoc", "pydoc_data", "pyexpat", "queue", "quopri", "random", "re", "readline", "reprlib",
        "resource", "rlcompleter", "runpy", "sched", "secrets", "select", "selectors", "shelve", "shlex", "shutil",
        "signal", "site", "smtpd", "smtplib", "sndhdr", "socket", "socketserver", "spwd", "sqlite3", "sre_compile",
        "sre_constants", "sre_parse", "ssl", "stat", "statistics", "string", "stringprep", "struct", "subprocess",
        "sunau", "symtable", "sys", "sysconfig", "syslog", "tabnanny", "tarfile", "telnetlib", "tempfile", "termios",
        "textwrap", "this", "threading", "time", "timeit", "tkinter", "token", "tokenize", "tomllib", "trace",
        "traceback", "tracemalloc", "tty", "turtle", "turtledemo", "types", "typing", "unicodedata", "unittest",
        "urllib", "uu", "uuid", "venv", "warnings", "wave", "weakref", "webbrowser", "winreg", "winsound", "wsgiref",
        "xdrlib", "xml", "xmlrpc", "zipapp", "zipfile", "zipimport", "zlib", "zoneinfo",
    }
)  # fmt: skip

#: Modules of the standard library that one of the images' Pythons does not have: the first and the last with them.
#: distutils is not among them: setuptools, which the images have, brings it back.
_MODULES: Final[Mapping[str, tuple[_Version, _Version | None]]] = MappingProxyType(
    {
        "tomllib": ((3, 11), None),
        "asynchat": ((3, 0), (3, 11)),
        "asyncore": ((3, 0), (3, 11)),
        "binhex": ((3, 0), (3, 10)),
        "imp": ((3, 0), (3, 11)),
        "smtpd": ((3, 0), (3, 11)),
    }
)

#: Names of the standard library that came after 3.10, with the version that brought them.
_ADDED: Final[Mapping[_Version, Mapping[str, str]]] = MappingProxyType(
    {
        (3, 11): {
            "asyncio": "Barrier BrokenBarrierError Runner TaskGroup Timeout timeout timeout_at",
            "contextlib": "chdir",
            "datetime": "UTC",
            "enum": "EnumType FlagBoundary ReprEnum StrEnum EnumCheck global_enum member nonmember verify",
            "hashlib": "file_digest",
            "logging": "getLevelNamesMapping",
            "math": "cbrt exp2",
            "operator": "call",
            "typing": "LiteralString Never NotRequired Required Self TypeVarTuple Unpack assert_never assert_type "
            "clear_overloads dataclass_transform get_overloads reveal_type",
        },
        (3, 12): {
            "asyncio": "create_eager_task_factory eager_task_factory",
            "collections.abc": "Buffer",
            "itertools": "batched",
            "logging": "getHandlerByName getHandlerNames",
            "math": "sumprod",
            "random": "binomialvariate",
            "types": "get_original_bases",
            "typing": "TypeAliasType override",
        },
        (3, 13): {
            "copy": "replace",
            "typing": "NoDefault ReadOnly TypeIs get_protocol_members is_protocol",
            "warnings": "deprecated",
        },
    }
)

#: Names that went, with the first version without them. Those of 3.10 are missing in every image since 23.12.
_REMOVED: Final[Mapping[_Version, Mapping[str, str]]] = MappingProxyType(
    {
        (3, 10): {
            "collections": "AsyncGenerator AsyncIterable AsyncIterator Awaitable ByteString Callable Collection "
            "Container Coroutine Generator Hashable ItemsView Iterable Iterator KeysView Mapping MappingView "
            "MutableMapping MutableSequence MutableSet Reversible Sequence Set Sized ValuesView",
            "fractions": "gcd",
        },
        (3, 11): {"asyncio": "coroutine", "inspect": "ArgSpec formatargspec getargspec"},
        (3, 12): {
            "configparser": "SafeConfigParser",
            "importlib": "find_loader",
            "locale": "format",
            "pkgutil": "ImpImporter ImpLoader",
            "ssl": "match_hostname wrap_socket",
        },
    }
)

#: Packages that Triton's images with all backends do not have, with the distribution that brings them. What an image
#: may have for another reason (requests, PyYAML, SciPy, CuPy, tqdm) is not listed.
MISSING_PACKAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PIL": "pillow",
        "accelerate": "accelerate",
        "albumentations": "albumentations",
        "bitsandbytes": "bitsandbytes",
        "catboost": "catboost",
        "cv2": "opencv-python-headless",
        "datasets": "datasets",
        "diffusers": "diffusers",
        "easyocr": "easyocr",
        "fasttext": "fasttext",
        "faster_whisper": "faster-whisper",
        "flax": "flax",
        "gensim": "gensim",
        "imageio": "imageio",
        "jax": "jax",
        "keras": "keras",
        "langchain": "langchain",
        "librosa": "librosa",
        "lightgbm": "lightgbm",
        "matplotlib": "matplotlib",
        "mmcv": "mmcv",
        "mxnet": "mxnet",
        "nemo": "nemo-toolkit",
        "nltk": "nltk",
        "numba": "numba",
        "onnxruntime": "onnxruntime",
        "optimum": "optimum",
        "paddle": "paddlepaddle",
        "paddleocr": "paddleocr",
        "pandas": "pandas",
        "peft": "peft",
        "polars": "polars",
        "pycocotools": "pycocotools",
        "pytesseract": "pytesseract",
        "pytorch_lightning": "pytorch-lightning",
        "sentence_transformers": "sentence-transformers",
        "sentencepiece": "sentencepiece",
        "shapely": "shapely",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
        "soundfile": "soundfile",
        "spacy": "spacy",
        "tensorflow": "tensorflow",
        "tensorflow_hub": "tensorflow-hub",
        "tensorflow_text": "tensorflow-text",
        "tiktoken": "tiktoken",
        "timm": "timm",
        "tokenizers": "tokenizers",
        "torch": "torch",
        "torchaudio": "torchaudio",
        "torchvision": "torchvision",
        "transformers": "transformers",
        "ultralytics": "ultralytics",
        "whisper": "openai-whisper",
        "xgboost": "xgboost",
    }
)


def is_standard_module(name: str) -> bool:
    """Return True if a top-level module is, or was, in the standard library."""
    return name in STANDARD_MODULES or name in _MODULES or name == "distutils"


def is_missing_module(name: str, python: _Version) -> bool:
    """Return True if a Python does not have a module of the standard library that others have.

    >>> is_missing_module("tomllib", (3, 10)), is_missing_module("imp", (3, 10)), is_missing_module("imp", (3, 12))
    (True, False, True)
    """
    first, last = _MODULES.get(name, ((0, 0), None))
    return python < first or (last is not None and python > last)


def is_missing_name(module: str, name: str, python: _Version) -> bool:
    """Return True if a module of a Python's standard library does not have a name that other versions have.

    >>> is_missing_name("typing", "Self", (3, 10)), is_missing_name("typing", "Self", (3, 12))
    (True, False)
    """
    is_new = any(version > python and name in names.get(module, "").split() for version, names in _ADDED.items())
    return is_new or any(
        version <= python and name in names.get(module, "").split() for version, names in _REMOVED.items()
    )
