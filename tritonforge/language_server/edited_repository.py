"""A repository that is being edited: its files, over which the unsaved texts of the editor win, and its findings.

The directory is read, within the bounds of `tritonforge.validation.tree_reader`; no code in it is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tritonforge.escaping import escape_line
from tritonforge.language_server.definition_tree import DEFINITION, complete_definition_tree, is_definition_directory
from tritonforge.language_server.placement import Fix, group_findings, list_suggestions, replace_text
from tritonforge.validation.context import Context, Options
from tritonforge.validation.findings import Finding
from tritonforge.validation.fixes import find_fixes, with_files
from tritonforge.validation.incremental import IncrementalValidator
from tritonforge.validation.tree import Entry, Tree
from tritonforge.validation.tree_reader import read_tree

__all__ = ["EditedRepository", "find_repository", "is_configuration"]

#: The configuration of a model, and those that --model-config-name chooses.
_CONFIGURATION: Final = re.compile(r"[^/]+/(config|configs/[^/]+)\.pbtxt")


def find_repository(file: Path) -> Path | None:
    """Return the repository of a file: two directories above a config.pbtxt, or those of the model it belongs to.

    None where the file is in no model's directory, or the repository would be a home directory or the whole disk.
    """
    root: Path | None = None
    if file.name == DEFINITION:
        root = file.parent
    elif file.name == "config.pbtxt" and not _is_version(file.parent):
        root = file.parent.parent
    else:  # a label file, configs/NAME.pbtxt, 1/model.py and what it imports
        folders = list(file.parents)[:4]
        root = next((folder.parent for folder in folders if _is_model(folder)), None)
    if root is None or root.parent == root:
        return None
    try:
        return None if root == Path.home() else root
    except RuntimeError:  # the user has no home directory
        return root


def _is_model(folder: Path) -> bool:
    return (folder / "config.pbtxt").is_file() and not _is_version(folder)


def _is_version(folder: Path) -> bool:
    """Return True for a version directory of a model, beside which the model's config.pbtxt is."""
    return folder.name.isdigit() and (folder.parent / "config.pbtxt").is_file()


def is_configuration(path: str) -> bool:
    """Return True if a path in a repository is a model's configuration: label maps and graphs are ``.pbtxt`` as well.

    >>> is_configuration("m/configs/small.pbtxt"), is_configuration("m/1/label_map.pbtxt")
    (True, False)
    """
    return _CONFIGURATION.fullmatch(path) is not None


class EditedRepository:
    """The repository in one directory.

    Attributes:
        root: the directory.
        context: what the last validation saw.
        findings: its findings.
    """

    def __init__(self, root: Path, options: Options) -> None:
        self.root = root
        self.context = Context(Tree({}))
        self.findings: Sequence[Finding] = ()
        self._validator = IncrementalValidator(options)
        self._fix_validator = IncrementalValidator(options)
        self._files = Tree({})
        self._buffers: dict[str, Entry] = {}

    @property
    def checked(self) -> int:
        """The number of models that the last validation checked again."""
        return self._validator.checked

    def read(self) -> None:
        """Read the directory again; one that cannot be read is empty."""
        try:
            tree = read_tree(self.root)
        except OSError:
            tree = Tree({})
        # An unchanged file keeps its entry, which the validator compares by identity.
        kept = self._files.entries
        entries = {path: kept[path] if kept.get(path) == entry else entry for path, entry in tree.entries.items()}
        self._files = Tree(entries, truncated=tree.truncated, external=tree.external)

    def set_buffer(self, path: str, text: str | None) -> None:
        """Set the text that the editor has of a file; None: it is closed."""
        if text is None:
            self._buffers.pop(path, None)
        else:
            content = text.encode("utf-8", "surrogatepass")
            self._buffers[path] = Entry("file", len(content), content=content)

    def validate(self) -> None:
        """Validate the files with the editor's texts.

        Raises:
            DefinitionError: the image, the instance type, or the target or its version is unknown.
        """
        validation = self._validator.validate(self._build_tree())
        self.context, self.findings = validation.context, validation.findings

    def text(self, path: str) -> str | None:
        """Return the text of a file as it was validated; None where it was not read."""
        entry = self.context.tree.entry(path)
        if entry is None or entry.content is None:
            return None
        return entry.content.decode("utf-8", "surrogateescape")

    def group_findings(self) -> Mapping[str, list[tuple[Finding, bool]]]:
        """Return the findings by the file that shows them; see `placement.group_findings`."""
        return group_findings(self.context.tree, self.findings)

    def list_buffers(self) -> Mapping[str, str]:
        """Return the texts that are open in the editor, by path."""
        return {
            path: (entry.content or b"").decode("utf-8", "surrogateescape") for path, entry in self._buffers.items()
        }

    def list_fixes(self, path: str) -> list[Fix]:
        """Return the changes that solve findings in a file: those of ``validate --fix``, and what a help proposes."""
        text = self.text(path)
        if text is None:
            return []
        findings = [finding for finding, _ in self.group_findings().get(path, ())]
        fixes = list(list_suggestions(text, path, findings))
        model = path.partition("/")[0]
        files = find_fixes(self.context.tree, [model])
        if not files:
            return fixes
        after = self._fix_validator.validate(with_files(self.context.tree, files)).findings
        before_keys = {_identify(finding): finding for finding in self.findings}
        after_keys = {_identify(finding) for finding in after}
        if not after_keys < before_keys.keys():
            return fixes
        solved = [finding for key, finding in before_keys.items() if key not in after_keys]
        replacements = [
            replace_text(name, self.text(name) or "", data.decode()) for name, data in files.items() if data
        ]
        created = [name for name in files if self.context.tree.entry(name) is None]
        title = f"Apply the fixes of tritonforge validate --fix to {escape_line(model)}"
        return [Fix(title, replacements, created, solved, is_preferred=True), *fixes]

    def _build_tree(self) -> Tree:
        tree = self._files
        if self._buffers:
            buffers = {tree.real(path) or path: entry for path, entry in self._buffers.items()}
            tree = Tree({**tree.entries, **buffers}, truncated=tree.truncated, external=tree.external)
        return complete_definition_tree(tree) if is_definition_directory(tree) else tree


def _identify(finding: Finding) -> tuple[str, str, str]:
    """Return a finding without its place, since inserted lines move the others."""
    return finding.code, finding.path, finding.message
