"""Neovim with the set-up of docs/editors.md, word by word, on `tritonforge lsp`: `make test-editors`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import ROOT
from tests.support.rule_repositories import e, x

pytestmark = pytest.mark.process

NVIM = os.environ.get("NVIM") or shutil.which("nvim")
#: What a user does, by the commands of Neovim's keys; writes what it saw as JSON.
SESSION = r"""
local function wait(what, condition)
  assert(vim.wait(30000, condition, 20), "time is over: " .. what)
end
local function ask(method, line, character)
  local params = {
    textDocument = vim.lsp.util.make_text_document_params(0),
    position = { line = line, character = character },
  }
  for _, answer in pairs(vim.lsp.buf_request_sync(0, method, params, 30000)) do
    return answer.result
  end
end
local function read_codes()
  return vim.tbl_map(function(item) return item.code end, vim.diagnostic.get(0))
end
local function act(kind)
  vim.lsp.buf.code_action({
    apply = true,
    range = { start = { 1, 0 }, ["end"] = { 1, 0 } },
    filter = function(action) return action.kind == kind end,
  })
end
local seen = {}
local ok, problem = pcall(function()
  wait("a client", function() return #vim.lsp.get_clients({ bufnr = 0 }) == 1 end)
  seen.filetype = vim.bo.filetype
  seen.encoding = vim.lsp.get_clients({ bufnr = 0 })[1].offset_encoding
  wait("findings", function() return #vim.diagnostic.get(0) > 0 end)
  seen.codes = read_codes()
  act("quickfix")
  local function read_line() return vim.api.nvim_buf_get_lines(0, 0, 1, false)[1] end
  wait("the fix", function() return not read_line():find('"old"', 1, true) end)
  vim.cmd("wall")
  wait("no finding", function() return #vim.diagnostic.get(0) == 0 end)
  seen.fixed = read_line()
  local column = seen.fixed:find('model_name: "x"', 1, true) + 12
  seen.hover = ask("textDocument/hover", 0, column).contents.value
  local key = seen.fixed:find('key: "A"', 1, true) + 5
  seen.completion = ask("textDocument/completion", 0, key)[1].textEdit.newText
  vim.api.nvim_buf_set_text(0, 0, 0, 0, 0, { "max_bach_size: 1 " })
  wait("a finding while typing", function() return #vim.diagnostic.get(0) > 0 end)
  vim.api.nvim_buf_set_text(0, 0, 0, 0, 17, {})
  wait("no finding", function() return #vim.diagnostic.get(0) == 0 end)
  vim.api.nvim_win_set_cursor(0, { 1, column })
  vim.lsp.buf.definition()
  wait("the definition", function() return vim.fn.expand("%:p:h:t") == "x" end)
  seen.definition = vim.fn.expand("%:p")
  wait("its client", function() return #vim.lsp.get_clients({ bufnr = 0 }) == 1 end)
end)
seen.problem = ok and "" or tostring(problem)
vim.fn.writefile({ vim.json.encode(seen) }, vim.env.SEEN)
vim.cmd("qall!")
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a session in an ensemble with a wrong name and without a version saw."""
    if NVIM is None:
        pytest.skip("nvim is not installed, and NVIM does not name it: make test-editors")
    version = subprocess.run([NVIM, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < (0, 11):
        pytest.skip(f"Neovim {version}: the set-up needs 0.11")
    folder = tmp_path_factory.mktemp("neovim").resolve()
    files = {**x(), "e/config.pbtxt": f'name: "old" {e()["e/config.pbtxt"]}'}
    for path, text in files.items():
        place = folder / "models" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir() if path.endswith("/") else place.write_text(str(text))
    (setup,) = re.findall(r"```lua\n(.*?)```", (ROOT / "docs" / "editors.md").read_text(), re.DOTALL)
    (folder / "init.lua").write_text(setup)
    (folder / "session.lua").write_text(SESSION)
    done = subprocess.run(
        [NVIM, "--headless", "-n", "-i", "NONE", "-u", folder / "init.lua", "-c", f"luafile {folder / 'session.lua'}",
         folder / "models" / "e" / "config.pbtxt"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "HOME": str(folder), "SEEN": str(folder / "seen.json"),
             "XDG_STATE_HOME": str(folder), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert (folder / "seen.json").is_file(), done.stderr
    result: dict[str, Any] = json.loads((folder / "seen.json").read_text())
    assert not result["problem"], f"{result}\n{done.stderr}"
    return {**result, "folder": folder}


def test_a_session_shows_findings_and_applies_a_fix_that_creates_a_file(seen: dict[str, Any]) -> None:
    assert seen["filetype"] == "pbtxt"
    assert "E104" in seen["codes"]
    assert seen["fixed"].startswith('name: "e" ')
    assert (seen["folder"] / "models/e/1/.gitkeep").is_file()
    assert (seen["folder"] / "models/e/config.pbtxt").read_text().startswith('name: "e" ')


def test_a_session_shows_documentation_proposals_and_definitions(seen: dict[str, Any]) -> None:
    assert seen["hover"].startswith("**x** identity")
    assert seen["completion"] == '"A"'
    assert seen["definition"] == str(seen["folder"] / "models/x/config.pbtxt")
