"""Many requests at once, some of them corrupt, and every answer checked: for the test and for the longer benchmark."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonforge.errors import ServerError
from tritonforge.inference.client import Client

OUTPUT = "PROBABILITIES"


def corrupt_image(request: int, images: Sequence[bytes]) -> bytes:
    """No image at all, or the first bytes of one."""
    return f"#{request:05d} is not an image".encode() if request // 100 % 2 else images[request % len(images)][:20]


def own(request: int, sentence: str) -> bool:
    """Whether an error is this request's: it quotes how the bytes begin, which no other request shares."""
    return f"#{request:05d}" in sentence if request // 100 % 2 else "#" not in sentence


def run(url: str, images: Sequence[bytes], *, requests: int, clients: int = 8) -> tuple[list[str], int]:
    """Send requests, 1 % of them corrupt; gives a sentence for each wrong answer, and how many answers came."""
    with Client(url) as client:
        alone = np.concatenate([client.infer_raw(image)[OUTPUT] for image in images])
    failures: list[str] = []
    answered = [0] * clients

    def work(worker: int) -> None:
        with Client(url) as client:
            for request in range(worker, requests, clients):
                failure = _ask(client, request, images, alone)
                answered[worker] += 1
                if failure:
                    failures.append(f"request {request} {failure}")

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(clients)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    return failures, sum(answered)


def _ask(client: Client, request: int, images: Sequence[bytes], alone: np.ndarray[Any, Any]) -> str:
    corrupt = request % 100 == 37
    try:
        body = corrupt_image(request, images) if corrupt else images[request % len(images)]
        found = client.infer_raw(body)[OUTPUT]
    except ServerError as error:
        if not corrupt:
            return f"was good and got: {error}"
        return "" if own(request, error.message) else f"got another's error: {error}"
    if corrupt:
        return "was corrupt and got an answer"
    return "" if np.abs(found[0] - alone[request % len(images)]).max() <= 1e-5 else "got another's answer"
