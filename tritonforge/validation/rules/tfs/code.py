"""The code of a package: its handlers, what they import, and what is installed for them. Nothing is run; no I/O."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final, TypeAlias

from tritonforge.triton.tfs_layout import CODE, INFERENCE, LIBRARY, REQUIREMENTS
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule
from tritonforge.validation.rules.tfs import definitions as rules
from tritonforge.validation.tree import Tree

__all__ = ["check"]

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


def check(tree: Tree) -> Iterator[Finding]:
    """What is to be said of a package's code."""
    has_library = tree.kind(LIBRARY) != "missing"
    requirements = _requirements(tree)
    if has_library and requirements:
        yield rules.W702.finding(
            "requirements.txt is ignored: code/lib is there",
            path=REQUIREMENTS,
            help="put what it asks for into code/lib too (pip install --target), or remove one of the two",
        )
    if not has_library:
        yield from _check_requirements(requirements)
    if tree.is_file(INFERENCE):
        yield from _check_inference(tree, () if has_library else tuple(name for _, name, _ in requirements))
    elif has_library or tree.kind(REQUIREMENTS) != "missing":
        yield rules.W704.finding(
            rules.W704.summary,
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
        said = error.msg if isinstance(error, SyntaxError) else str(error) or "it is nested too deeply"
        yield _at(rules.E704, f"the file is not Python: {said}", line, "mend the line")
        return
    yield from _check_handlers(module)
    yield from _check_imports(tree, module, installed)
    yield from _check_refusal(module)


def _check_handlers(module: ast.Module) -> Iterator[Finding]:
    bound, everything = _bound(module)
    pair = all(name in bound for name in _PAIR)
    if "handler" not in bound and not pair and not everything:
        half = [name for name in _PAIR if name not in bound] if any(name in bound for name in _PAIR) else []
        helped = f"define {half[0]}, too" if half else "define handler(data, context), or the pair of handlers"
        yield _at(rules.E705, rules.E705.summary, 1, helped)
    if "handler" in bound and any(name in bound for name in _PAIR):
        yield _at(
            rules.W701,
            rules.W701.summary,
            bound["handler"].lineno,
            "remove handler, or the pair; handler may call them by itself",
        )
    called = ["handler"] if "handler" in bound else _PAIR
    for name in called:
        node = bound.get(name)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (said := _not_callable(node)):
            yield _at(rules.E706, said, node.lineno, f"write def {name}({_HANDLERS[name]}):")


def _not_callable(node: _Function) -> str:
    """Why two arguments by position do not make this function answer; "" where they do."""
    if isinstance(node, ast.AsyncFunctionDef):
        return f"{node.name} is a coroutine function: the container calls it and never awaits it"
    if node.decorator_list:
        return ""  # a decorator may change what it takes
    arguments = node.args
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    wanted = [
        each.arg for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if not default
    ]
    if required > 2 or (positional < 2 and arguments.vararg is None) or wanted:
        return f"{node.name} cannot be called with the two arguments {_HANDLERS[node.name]}"
    return ""


def _check_imports(tree: Tree, module: ast.Module, installed: Sequence[str]) -> Iterator[Finding]:
    for name, line, certain in _imported(module):
        brings = _ABSENT.get(name)
        if brings is None or any(each in installed for each in brings) or _lies_beside(tree, name):
            continue
        ignored = tree.kind(LIBRARY) != "missing"
        way = f"put it into code/lib (pip install --target code/lib {brings[0]})"
        helped = way if ignored else f"{way}, or name {brings[0]} in code/requirements.txt"
        if name == "tensorflow" and certain:
            yield _at(
                rules.E707,
                rules.E707.summary,
                line,
                f"a tf.Example is read without TensorFlow by a few lines in code/lib; else {helped}",
            )
        else:
            yield _at(rules.W703, f"the image does not have {name}, and nothing in the package brings it", line, helped)


def _lies_beside(tree: Tree, name: str) -> bool:
    """Whether the package itself has a module of this name where the container looks for it."""
    return any(tree.is_dir(f"{folder}/{name}") or tree.is_file(f"{folder}/{name}.py") for folder in (CODE, LIBRARY))


def _imported(module: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """The first names of the modules that are imported, each once, and whether importing the file must import them."""
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
        for name in (each.partition(".")[0] for each in names):
            if name not in seen:
                seen.add(name)
                yield name, node.lineno, id(node) in certain


def _check_refusal(module: ast.Module) -> Iterator[Finding]:
    """A 415 in a file that does not know falcon; where the number stands is the place."""
    if any(name == "falcon" for name, _, _ in _imported(module)):
        return
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and (node.value == 415 or node.value == "415"):
            yield _at(
                rules.W705,
                rules.W705.summary,
                node.lineno,
                "import falcon, which the container has, and raise falcon.HTTPUnsupportedMediaType(description=...)",
            )
            return


def _bound(module: ast.Module) -> tuple[dict[str, ast.stmt], bool]:
    """The names that a module binds at its top, with the statements that do, and whether it may bind any other."""
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
            for each in ast.walk(node):
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                    bound.setdefault(each.id, node)
            waiting += [each for each in _nested(node) if isinstance(each, ast.stmt)]
            everything |= any(isinstance(each, ast.Name) and each.id in ("globals", "exec") for each in ast.walk(node))
    return bound, everything


def _nested(node: ast.stmt) -> Iterator[ast.AST]:
    """The statements of a compound statement, whose names are the module's too."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.ExceptHandler | ast.match_case):
            yield from each.body
        else:
            yield each


def _requirements(tree: Tree) -> list[tuple[int, str, str]]:
    """(line, name in lower case with dashes, what follows the name) of each requirement."""
    entry = tree.entry(REQUIREMENTS)
    if entry is None or entry.content is None:
        return []
    found = []
    for number, line in enumerate(entry.content.decode("utf-8", "replace").splitlines(), start=1):
        if line.lstrip().startswith(("#", "-")):
            continue
        match = _REQUIREMENT.match(line)
        if match is not None:
            name = re.sub(r"[-_.]+", "-", match["name"]).lower()
            found.append((number, name, match["rest"].strip()))
    return found


def _check_requirements(requirements: Sequence[tuple[int, str, str]]) -> Iterator[Finding]:
    for line, name, rest in requirements:
        if name not in ("tensorflow", "tensorflow-cpu", "tensorflow-gpu"):
            continue
        match = _PINNED.search(rest)
        if match is None:
            continue
        version = tuple(int(part) for part in match["version"].split(".")[:2])
        if version < _FIRST_TENSORFLOW or (version == _FIRST_TENSORFLOW and match["how"] == "<"):
            yield rules.E708.finding(
                f"pip finds no {name}{rest} for the image's Python 3.12, and the container ends",
                path=REQUIREMENTS,
                field=f"line {line}",
                help="name 2.16 or later; to read a tf.Example no TensorFlow is needed",
            )


def _at(rule: Rule, message: str, line: int, helped: str) -> Finding:
    """The finding of a rule at a line of inference.py."""
    return replace(rule.finding(message, path=INFERENCE, help=helped), line=line, column=1)
