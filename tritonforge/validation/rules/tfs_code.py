"""The code of a TensorFlow Serving package: its handlers, their imports, its requirements. Nothing is run; no I/O."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from tritonforge.triton.tfs_layout import CODE, INFERENCE, LIBRARY, REQUIREMENTS
from tritonforge.validation.context import Context
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Rule, Stage, define_advice, define_error, register_check
from tritonforge.validation.tree import Tree

_IMAGE: Final = "aws/deep-learning-containers docker/tensorflow/inference/2.20 (Python 3.12, uv.lock)"
_TOOLKIT: Final = "aws/deep-learning-containers scripts/docker/tensorflow/inference/sagemaker/"
_SERVE: Final = f"{_TOOLKIT}serve.py"
_SERVICE: Final = f"{_TOOLKIT}python_service.py"

# fmt: off
E704 = define_error("E704", "the file is not Python",
    refused_by="tfs", source=f"{_SERVICE} _import_handlers",
    why="The container's Python service imports the file when it starts, and ends where that fails.",
    bad="def handler(data, context) return data",
    good="def handler(data, context): return data.read(), context.accept_header")
E705 = define_error("E705", "Handlers are not implemented correctly in user script.",
    refused_by="tfs", source=f"{_SERVICE} _import_handlers",
    why="inference.py defines handler(data, context), or both of input_handler(data, context) and "
        "output_handler(response, context); half of the pair is none.",
    bad="def input_handler(data, context): ...",
    good="def input_handler(data, context): ...\ndef output_handler(response, context): ...")
E706 = define_error("E706", "the handler cannot be called as the container calls it",
    refused_by=None, source=f"{_SERVICE} _make_handler",
    why="Handlers are plain functions that are given two arguments by position; a coroutine is never awaited. The "
        "container starts, and answers every request with 500.",
    bad="async def handler(data): ...", good="def handler(data, context): ...")
E707 = define_error("E707", "the image has no tensorflow package, and nothing in the package brings it",
    refused_by="tfs", source=_IMAGE,
    why="The container has TensorFlow Serving's program, not Python's tensorflow: the import ends it. To take a "
        "tf.Example apart needs no TensorFlow.",
    bad="import tensorflow as tf\nexample = tf.train.Example.FromString(data.read())",
    good="from tfexample import features   (code/lib/tfexample.py)")
E708 = define_error("E708", "pip finds no such version for the image's Python 3.12, and the container ends",
    refused_by="tfs", source=f"{_SERVE} _setup_gunicorn; {_IMAGE}; PyPI: TensorFlow 2.16 is the first for Python 3.12",
    why="code/requirements.txt is installed when the container starts; what cannot be installed ends it.",
    bad="code/requirements.txt: tensorflow==1.13.1", good="code/requirements.txt: tensorflow-cpu==2.20.0")
W701 = define_advice("W701", "handler is called, and the pair of handlers never is",
    source=f"{_SERVICE} _import_handlers",
    why="Where a file defines handler, the container does not look for input_handler and output_handler.",
    bad="def handler(data, context): ...\ndef input_handler(data, context): ...",
    good="def handler(data, context): ...")
W702 = define_advice("W702", "requirements.txt is ignored: code/lib is there",
    source=f"{_SERVE} _setup_gunicorn",
    why="The container installs the requirements only where the package has no code/lib.",
    bad="code/lib/tfexample.py, code/requirements.txt: pillow", good="code/lib/tfexample.py, code/lib/PIL/")
W703 = define_advice("W703", "the image does not have the module, and nothing in the package brings it",
    source=_IMAGE,
    why="The container has numpy, pandas, scikit-learn, requests, boto3, protobuf and grpc; what else is imported "
        "is installed by code/requirements.txt, or lies in code/lib.",
    bad="from PIL import Image", good="from PIL import Image   (code/requirements.txt: pillow)")
W704 = define_advice("W704", "code without inference.py turns the conversion of JSON lines and CSV off",
    source=f"{_SERVE} _need_python_service; {_SERVICE} default_handler",
    why="With code/requirements.txt or code/lib the Python service takes the requests, and its own handler posts a "
        "body as it came: CSV becomes an error of TensorFlow Serving's.",
    bad="code/requirements.txt", good="code/requirements.txt, code/inference.py")
W705 = define_advice("W705", "415 is meant, and the container answers 500: only falcon's HTTP errors keep their status",
    source=f"{_SERVICE} _handle_invocation_post",
    why="Whatever a handler raises is answered with 500 and the exception's text, except falcon.HTTPError, which is "
        "passed on. A client that sees 500 tries again what can never succeed.",
    bad='raise ValueError("Error: 415, Unsupported content type")',
    good='raise falcon.HTTPUnsupportedMediaType(description="application/x-image is taken")')
# fmt: on

_Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"
#: What each handler's arguments are called in the container's own examples.
_HANDLERS: Final = {
    "handler": "data, context",
    "input_handler": "data, context",
    "output_handler": "response, context",
}
_PAIR: Final = ("input_handler", "output_handler")
#: Modules that are often imported and that the 2.20 image has not, with the distributions that bring them.
_ABSENT: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "PIL": ("pillow", "pillow-simd"),
        "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
        "imageio": ("imageio",),
        "keras": ("keras", "tensorflow", "tensorflow-cpu"),
        "matplotlib": ("matplotlib",),
        "mxnet": ("mxnet",),
        "nltk": ("nltk",),
        "onnxruntime": ("onnxruntime",),
        "pyarrow": ("pyarrow",),
        "pydantic": ("pydantic",),
        "skimage": ("scikit-image",),
        "tensorflow": ("tensorflow", "tensorflow-cpu", "tf-nightly", "intel-tensorflow"),
        "tensorflow_hub": ("tensorflow-hub",),
        "tensorflow_io": ("tensorflow-io",),
        "tensorflow_text": ("tensorflow-text",),
        "torch": ("torch",),
        "tqdm": ("tqdm",),
        "transformers": ("transformers",),
    }
)
#: The first TensorFlow for Python 3.12.
_FIRST_TENSORFLOW: Final = (2, 16)
_REQUIREMENT: Final = re.compile(r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*(?P<rest>[^#;]*)")
_PINNED: Final = re.compile(r"(?P<how>==|~=|<=|<)\s*(?P<version>\d{1,6}(?:\.\d{1,6})*)")


@register_check(Stage.PACKAGE, E704, E705, E706, E707, E708, W701, W702, W703, W704, W705)
def check_code(context: Context) -> Iterator[Finding]:
    """Check a package's code."""
    tree = context.tree
    has_library = tree.kind(LIBRARY) != "missing"
    requirements = _read_requirements(tree)
    if has_library and requirements:
        yield W702.report(
            "requirements.txt is ignored: code/lib is there",
            path=REQUIREMENTS,
            help="put what it asks for into code/lib too (pip install --target), or remove one of the two",
        )
    if not has_library:
        yield from _check_requirements(requirements)
    if tree.is_file(INFERENCE):
        yield from _check_inference(tree, () if has_library else tuple(name for _, name, _ in requirements))
    elif has_library or tree.kind(REQUIREMENTS) != "missing":
        yield W704.report(
            W704.sentence,
            path=CODE,
            help="define handlers in code/inference.py, or leave code out of the package",
        )


def _check_inference(tree: Tree, installed: Sequence[str]) -> Iterator[Finding]:
    entry = tree.entry(INFERENCE)
    if entry is None or entry.content is None:
        return
    try:
        module = ast.parse(entry.content)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: nested too deeply
        line = getattr(error, "lineno", None) or 1
        problem = error.msg if isinstance(error, SyntaxError) else str(error) or "it is nested too deeply"
        yield _report_at(E704, f"the file is not Python: {problem}", line, "correct the line")
        return
    yield from _check_handlers(module)
    yield from _check_imports(tree, module, installed)
    yield from _check_status_415(module)


def _check_handlers(module: ast.Module) -> Iterator[Finding]:
    bound, everything = _find_bindings(module)
    has_pair = all(name in bound for name in _PAIR)
    if "handler" not in bound and not has_pair and not everything:
        half = [name for name in _PAIR if name not in bound] if any(name in bound for name in _PAIR) else []
        advice = f"define {half[0]}, too" if half else "define handler(data, context), or the pair of handlers"
        yield _report_at(E705, E705.sentence, 1, advice)
    if "handler" in bound and any(name in bound for name in _PAIR):
        yield _report_at(
            W701,
            W701.sentence,
            bound["handler"].lineno,
            "remove handler, or the pair; handler may call them by itself",
        )
    called = ["handler"] if "handler" in bound else _PAIR
    for name in called:
        node = bound.get(name)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (problem := _explain_not_callable(node)):
            yield _report_at(E706, problem, node.lineno, f"write def {name}({_HANDLERS[name]}):")


def _explain_not_callable(node: _Function) -> str:
    """Return why the container cannot call this function with two arguments by position; "" where it can."""
    if isinstance(node, ast.AsyncFunctionDef):
        return f"{node.name} is a coroutine function: the container calls it and never awaits it"
    if node.decorator_list:
        return ""  # a decorator may change what it takes
    arguments = node.args
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    if required > 2 or (positional < 2 and arguments.vararg is None) or None in arguments.kw_defaults:
        return f"{node.name} cannot be called with the two arguments {_HANDLERS[node.name]}"
    return ""


def _check_imports(tree: Tree, module: ast.Module, installed: Sequence[str]) -> Iterator[Finding]:
    for name, line, certain in _list_imports(module):
        distributions = _ABSENT.get(name)
        if (
            distributions is None
            or any(distribution in installed for distribution in distributions)
            or _has_module(tree, name)
        ):
            continue
        ignored = tree.kind(LIBRARY) != "missing"
        from_library = f"put it into code/lib (pip install --target code/lib {distributions[0]})"
        advice = from_library if ignored else f"{from_library}, or name {distributions[0]} in code/requirements.txt"
        if name == "tensorflow" and certain:
            yield _report_at(
                E707,
                E707.sentence,
                line,
                f"a tf.Example is read without TensorFlow by a few lines in code/lib; else {advice}",
            )
        else:
            yield _report_at(
                W703, f"the image does not have {name}, and nothing in the package brings it", line, advice
            )


def _has_module(tree: Tree, name: str) -> bool:
    """Return True if the package itself has a module of this name where the container looks for it."""
    return any(tree.is_dir(f"{folder}/{name}") or tree.is_file(f"{folder}/{name}.py") for folder in (CODE, LIBRARY))


def _list_imports(module: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Yield the top-level modules that are imported, with the line, and whether importing the file must import them."""
    seen: set[str] = set()
    certain = {id(node) for node in module.body}
    nodes = sorted(
        (node for node in ast.walk(module) if isinstance(node, ast.Import | ast.ImportFrom)),
        key=lambda node: (id(node) not in certain, node.lineno),
    )
    for node in nodes:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        if isinstance(node, ast.ImportFrom) and node.level:
            continue
        for name in (dotted.partition(".")[0] for dotted in names):
            if name not in seen:
                seen.add(name)
                yield name, node.lineno, id(node) in certain


def _check_status_415(module: ast.Module) -> Iterator[Finding]:
    """Find a 415 in a file that does not import falcon; the place is that of the number."""
    if any(name == "falcon" for name, _, _ in _list_imports(module)):
        return
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and (node.value == 415 or node.value == "415"):
            yield _report_at(
                W705,
                W705.sentence,
                node.lineno,
                "import falcon, which the container has, and raise falcon.HTTPUnsupportedMediaType(description=...)",
            )
            return


def _find_bindings(module: ast.Module) -> tuple[dict[str, ast.stmt], bool]:
    """Return the names that a module binds, with the statements that do, and whether it may bind any other name."""
    bound: dict[str, ast.stmt] = {}
    everything = False
    waiting: list[ast.stmt] = list(module.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                everything |= alias.name == "*"
                bound[alias.asname or alias.name.partition(".")[0]] = node
        else:
            names = [name for name in ast.walk(node) if isinstance(name, ast.Name)]
            for name in names:
                if isinstance(name.ctx, ast.Store):
                    bound.setdefault(name.id, node)
            waiting += [statement for statement in _list_nested(node) if isinstance(statement, ast.stmt)]
            everything |= any(name.id in ("globals", "exec") for name in names)
    return bound, everything


def _list_nested(node: ast.stmt) -> Iterator[ast.AST]:
    """Yield the statements of a compound statement, whose names are the module's too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ExceptHandler | ast.match_case):
            yield from child.body
        else:
            yield child


def _read_requirements(tree: Tree) -> list[tuple[int, str, str]]:
    """Return (line, name in lower case with dashes, what follows the name) of each requirement."""
    entry = tree.entry(REQUIREMENTS)
    if entry is None or entry.content is None:
        return []
    requirements = []
    for number, line in enumerate(entry.content.decode("utf-8", "replace").splitlines(), start=1):
        if line.lstrip().startswith(("#", "-")):
            continue
        match = _REQUIREMENT.match(line)
        if match is not None:
            name = re.sub(r"[-_.]+", "-", match["name"]).lower()
            requirements.append((number, name, match["rest"].strip()))
    return requirements


def _check_requirements(requirements: Sequence[tuple[int, str, str]]) -> Iterator[Finding]:
    for line, name, rest in requirements:
        if name not in ("tensorflow", "tensorflow-cpu", "tensorflow-gpu"):
            continue
        match = _PINNED.search(rest)
        if match is None:
            continue
        version = tuple(int(part) for part in match["version"].split(".")[:2])
        if version < _FIRST_TENSORFLOW or (version == _FIRST_TENSORFLOW and match["how"] == "<"):
            yield E708.report(
                f"pip finds no {name}{rest} for the image's Python 3.12, and the container ends",
                path=REQUIREMENTS,
                field=f"line {line}",
                help="name 2.16 or later; to read a tf.Example no TensorFlow is needed",
            )


def _report_at(rule: Rule, message: str, line: int, advice: str) -> Finding:
    """Report at a line of inference.py."""
    return rule.report(message, path=INFERENCE, line=line, column=1, help=advice)
