"""A client of the language server protocol over the standard streams of a program."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

#: Seconds after which a message that does not come fails the test.
DEADLINE = 60.0


class LanguageClient:
    """An editor: starts the server, sends requests, and keeps the diagnostics that were published last."""

    def __init__(self, folder: Path, *arguments: str, encoding: str = "utf-16", **options: Any) -> None:
        command = [str(Path(sys.executable).with_name("tritonforge")), "lsp", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._number = 0
        self.diagnostics: dict[str, list[dict[str, Any]]] = {}
        self.shown: list[str] = []
        threading.Thread(target=self._receive, daemon=True).start()
        self.capabilities = self.request(
            "initialize",
            {
                "processId": None,
                "rootUri": folder.as_uri(),
                "initializationOptions": options,
                "capabilities": {
                    "general": {"positionEncodings": [encoding]},
                    "textDocument": {"completion": {"completionItem": {"snippetSupport": True}}},
                    "workspace": {"workspaceEdit": {"documentChanges": True, "resourceOperations": ["create"]}},
                },
            },
        )["capabilities"]
        self.notify("initialized", {})

    def __enter__(self) -> LanguageClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.request("shutdown", None)
            self.notify("exit", None)
            assert self._process.wait(DEADLINE) == 0
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def notify(self, method: str, params: Any) -> None:
        """Send a notification."""
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def request(self, method: str, params: Any) -> Any:
        """Send a request, and return its result."""
        self._number += 1
        number = self._number
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        answer = self._wait(lambda message: message.get("id") == number and "method" not in message)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, file: Path, text: str | None = None) -> str:
        """Open a document; return its URI."""
        uri = file.as_uri()
        content = file.read_text() if text is None else text
        item = {"uri": uri, "languageId": "pbtxt", "version": 1, "text": content}
        self.notify("textDocument/didOpen", {"textDocument": item})
        return uri

    def change(self, uri: str, text: str) -> None:
        """Replace the text of a document."""
        params = {"textDocument": {"uri": uri, "version": 2}, "contentChanges": [{"text": text}]}
        self.notify("textDocument/didChange", params)

    def ask(self, feature: str, uri: str, line: int, character: int, **more: Any) -> Any:
        """Send a request about a position."""
        position = {"line": line, "character": character}
        return self.request(f"textDocument/{feature}", {"textDocument": {"uri": uri}, "position": position, **more})

    def wait_for(self, uri: str, condition: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Return the diagnostics of a document when they satisfy a condition."""
        while not condition(self.diagnostics.get(uri, [])):
            self._wait(lambda message: message.get("method") == "textDocument/publishDiagnostics")
        return self.diagnostics.get(uri, [])

    def wait_for_codes(self, uri: str, *codes: str) -> list[dict[str, Any]]:
        """Return the diagnostics of a document when they have these codes."""
        return self.wait_for(uri, lambda listed: sorted(item.get("code", "") for item in listed) == sorted(codes))

    def _wait(self, condition: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        while True:
            message = self._messages.get(timeout=DEADLINE)
            if message.get("method") == "textDocument/publishDiagnostics":
                self.diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]
            elif message.get("method") == "window/showMessage":
                self.shown.append(message["params"]["message"])
            if condition(message):
                return message

    def _send(self, message: Mapping[str, Any]) -> None:
        content = json.dumps(message).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(content), content))
        self._process.stdin.flush()

    def _receive(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while header := stream.readline():
            length = 0
            while header.strip():
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                header = stream.readline()
            self._messages.put(json.loads(stream.read(length)))
