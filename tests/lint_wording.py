"""Check the wording of code, messages and documentation: ``python tests/lint_wording.py [PATH ...]``.

Refused, with the reason beside each rule:

- words of a private idiom in docstrings, comments, strings, names and Markdown (`WORDS`);
- functions named with a bare participle (``held``, ``checked_plan``) where a verb belongs (``hold``, ``check_plan``);
- ``each`` and ``found`` as loop variables: a loop variable names the thing.

Prints one line per place and exits with 1 if there is any. ``--summary`` counts by directory instead.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

#: Pattern and what to write. Searched without regard to case in text; a pattern of one word also in names.
WORDS = {
    r"told": "tell the reader what happens: 'is passed', 'is set', 'reports'",
    r"tells?": "'reports', 'states', 'returns'",
    r"said": "'states', 'is set', or drop it",
    r"nobody": "name who does not, or use the passive",
    r"anybody(?:'s)?": "name who, or use the passive",
    r"somebody(?:'s)?": "name who, or use the passive",
    r"mend(?:s|ed|ing)?": "'fix', 'correct'",
    r"houses?": "name the component",
    r"room": "'space', 'directory', 'buffer'",
    r"wings?": "'package'",
    r"ground floor": "'lowest package'",
    r"be had": "'is available', 'is installed'",
    r"goes on": "'continues', 'is still running'",
    r"over by this": "'completed'",
    r"makes it so": "name the action",
    r"in place of": "'instead of'",
    r"stands": "'is'",
    r"(?<!there )is no": "'is not a'",
    r"(?<!there )are no": "'are not'",
    r"there is none": "'not found', 'missing'",
    r"there are none": "'not found', 'missing'",
    r"is to be": "'must be', 'invalid'",
    r"are to be": "'must be', 'invalid'",
    r"say(?=[,.;:)])": "'for example'",
    r"wants?": "code does not want: 'requires', 'expects'",
    r"knows": "code does not know: 'supports', 'accepts', 'stores'",
    r"so many": "'that many', 'the given number of'",
    r"of ours": "name the project or the code",
    r"without us": "'is still running'",
    r"was called off": "'cancelled'",
    r"forgets?": "'removes', 'discards'",
    r"forgotten": "'removed', 'missing'",
}  # fmt: skip

#: Past participles that do not end in "ed".
IRREGULAR = frozenset(
    [
        "begun",
        "broken",
        "built",
        "chosen",
        "done",
        "drawn",
        "found",
        "given",
        "gone",
        "heard",
        "held",
        "hidden",
        "kept",
        "left",
        "lost",
        "made",
        "meant",
        "sent",
        "shown",
        "seen",
        "taken",
        "thrown",
        "told",
        "understood",
        "written",
    ]
)
#: Words in "ed" that are not participles.
NOT_PARTICIPLES = frozenset(["embed", "exceed", "feed", "need", "proceed", "seed", "speed", "succeed"])

#: Places that keep a refused word, each with its reason: (path, text of the line that is refused).
ALLOWED: dict[tuple[str, str], str] = {
    ("tritonforge/sagemaker/client/async_transport.py", "def tell(self) -> int:"): "io.RawIOBase names it",
    ("tritonforge/testing.py", "def emulated("): "a public name, in tests of users",
    (
        "tritonforge/serving/backend_utils.py",
        "def requested_output_names(self) -> list[str]:",
    ): "a method of Triton's python backend",
    (
        "tritonforge/repository/build_tree.py",
        '_NOTES: Final = "said"  # the key in manifests of this format',
    ): "manifests that earlier builds wrote have this key",
    (
        "repos/detector/checkpoint.py",
        '_STATE_ARRAY: Final = "told"',
    ): "the name of an array in checkpoints that exist already",
    (
        "tests/end_to_end/test_detector_refusals.py",
        'arrays = {"told": state}',
    ): "the name of an array in checkpoints that exist already",
    (
        "tritonforge/validation/rules/warmup.py",
        '"input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting "',  # noqa: E501 - the line itself
    ): "a sentence of Triton",
    (
        "tests/support/rule_repositories.py",
        '"each input shape. If you want to specify the full shape including the batch dim in your input dims "',
    ): "a sentence of Triton",
    (
        "tests/serving/test_backend_configuration.py",
        r'"encountered:\n\n{}\nCurrent pipeline object is no longer valid."',
    ): "a sentence of DALI",
    (
        "tests/serving/tfs/test_contract.py",
        'hasattr(data, "seek"), hasattr(data, "tell")]), None',
    ): "a method of files",
}

#: This file states the words; fixtures of other projects keep their authors' words.
SKIPPED = (
    "tests/lint_wording.py",
    "tests/fixtures/",
    "tests/sagemaker/peers/seed_",
    "tests/training/sandbox/programs/seed",
)

#: One word boundary before all patterns lets the engine skip quickly; text is searched in lower case.
_TEXT = re.compile(rf"\b(?:{'|'.join(WORDS)})\b")
_NAME_WORDS = {word: fix for word, fix in WORDS.items() if re.fullmatch(r"[a-z]+(?:\?|\(\?:[^)]*\)\??)?", word)}
_NAME = re.compile("|".join(f"(?:{word})" for word in _NAME_WORDS))


class Problem(NamedTuple):
    """One refused place."""

    path: str
    line: int
    text: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.sentence}"


def check_file(path: Path, name: str) -> Iterator[Problem]:
    """Yield what is refused in a Python or Markdown file."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()

    def problem(line: int, sentence: str) -> Problem:
        return Problem(name, line, lines[line - 1].strip() if line <= len(lines) else "", sentence)

    if path.suffix != ".py":
        for number, line in enumerate(lines, 1):
            yield from (problem(number, sentence) for sentence in check_text(line))
        return
    names = set()
    # Tokens are slow to read: only those of a file that has a refused word somewhere.
    tokens = tokenize.generate_tokens(io.StringIO(text).readline) if _TEXT.search(text.lower()) else iter(())
    for token in tokens:
        if token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            for offset, line in enumerate(token.string.splitlines()):
                yield from (problem(token.start[0] + offset, sentence) for sentence in check_text(line))
    for node in ast.walk(ast.parse(text)):
        for line, identifier in defined_names(node):
            if identifier not in names:
                names.add(identifier)
                yield from (problem(line, sentence) for sentence in check_name(identifier))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_noun(node, name):
            first = node.name.lstrip("_").split("_")[0]
            if is_participle(first):
                yield problem(
                    node.lineno, f"function {node.name}: begin with a verb, not with the participle {first!r}"
                )
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            for target in ast.walk(node.target):
                if isinstance(target, ast.Name) and target.id in ("each", "found"):
                    yield problem(target.lineno, f"loop variable {target.id}: name the thing")


def check_text(line: str) -> Iterator[str]:
    """Yield a sentence for each refused word of a line of text."""
    lower = line.lower()
    for match in _TEXT.finditer(lower):
        fix = next(fix for word, fix in WORDS.items() if re.compile(rf"\b{word}\b").match(lower, match.start()))
        yield f"{match[0]!r}: write {fix}"


def check_name(identifier: str) -> Iterator[str]:
    """Yield a sentence for each refused word of an identifier."""
    for word in re.findall(r"[A-Z]?[a-z]+", identifier):
        if _NAME.fullmatch(word.lower()):
            yield f"name {identifier}: choose a standard word for {word.lower()!r}"


def defined_names(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of what a node defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.lineno, node.name
    elif isinstance(node, ast.arg):
        yield node.lineno, node.arg
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.attr


def is_noun(node: ast.FunctionDef | ast.AsyncFunctionDef, path: str) -> bool:
    """Return True for functions that are read as values: properties, fixtures, and tests' own helpers."""
    if path.startswith("tests/") and not path.startswith("tests/support/"):
        return True
    decorators = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
    return "property" in decorators or "fixture" in decorators or ".setter" in decorators


def is_participle(word: str) -> bool:
    """Return True for a past participle."""
    return word in IRREGULAR or (word.endswith("ed") and word not in NOT_PARTICIPLES and len(word) > 3)


def tracked_files(arguments: list[str]) -> list[str]:
    """Return the Python and Markdown files that git tracks, below the given paths if there are any."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "--", *arguments]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [name for name in listed if name.endswith((".py", ".md")) and not name.startswith(SKIPPED)]


def main() -> int:
    """Check the files, print the problems and return the exit code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--summary"]
    problems = [
        problem
        for name in tracked_files(arguments)
        if (ROOT / name).is_file()
        for problem in check_file(ROOT / name, name)
        if (problem.path, problem.text) not in ALLOWED
    ]
    if "--summary" in sys.argv:
        counted = Counter("/".join(problem.path.split("/")[:3]) for problem in problems)
        for place, count in sorted(counted.items()):
            print(f"{count:6} {place}")
    else:
        print("\n".join(map(str, problems)))
    print(f"{len(problems)} problems of wording")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
