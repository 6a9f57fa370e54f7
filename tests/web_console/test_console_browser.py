"""The console as a person uses it: a real Chromium on a real tritonserver that runs `repos/digits`."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import open_browser
from tests.support.checkout import ROOT
from tests.support.hostile_console import HostileRepository
from tests.support.step_models import write_caller, write_steps
from tritonforge.serving.server import Server
from tritonforge.web_console import open_console
from tritonforge.web_console.console_server import ConsoleServer

pytestmark = [pytest.mark.server, pytest.mark.framework, pytest.mark.process]

SAMPLES = ROOT / "repos" / "digits" / "tests"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def console(digits_server: Server) -> Iterator[ConsoleServer]:
    with open_console(digits_server, model=None, port=0, samples=SAMPLES) as opened:
        yield opened


@contextmanager
def open_page(browser: Any, url: str, *, width: int = 1280) -> Iterator[Any]:
    """A page of a new profile; what it logs or asks of another host fails the test."""
    context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if _is_foreign(request.url, url) else None)
    try:
        page.goto(url)
        yield page
        assert not problems
    finally:
        context.close()


def _is_foreign(address: str, url: str) -> bool:
    return not address.startswith((url.partition("#")[0], "data:", "blob:"))


def send(page: Any, sample: str) -> str:
    """Choose a sample by its name; return the result in words."""
    page.locator("#samples button", has_text=sample).click()
    return await_result(page, sample)


def await_result(page: Any, name: str) -> str:
    page.wait_for_function("name => document.querySelector('#status').textContent.startsWith(name + ':')", arg=name)
    return str(page.locator("#status").inner_text())


def test_a_sample_shows_every_tensor_where_it_flows(browser: Any, console: ConsoleServer) -> None:
    with open_page(browser, console.url) as page:
        assert "seven: seven" in send(page, "seven")
        assert "bit for bit" in page.locator("#status").inner_text()
        assert page.locator("#steps .tensor figcaption strong").all_inner_texts() == [
            "IMAGE",
            "pixels",
            "PROBABILITIES",
        ]
        assert page.locator("#steps .bars .label").first.inner_text() == "seven"
        assert page.locator("#steps .time").count() == 2
        assert page.locator("#graph .place.value.filled").count() == 3
        assert page.locator("#graph .place.timing.answered").count() == 2
        for picture in page.locator("#steps .pictures img").all():
            assert picture.evaluate("image => image.complete && image.naturalWidth") == 32
        # The bytes of the request add up, and the header ends where the content type states it.
        rows = page.locator(".segments tbody tr")
        sizes = [int(row.locator(".length").inner_text()) for row in rows.all()]
        offsets = [int(row.locator(".offset").inner_text()) for row in rows.all()]
        assert offsets == [sum(sizes[:index]) for index in range(len(sizes))]
        assert page.locator(".content-type code").nth(2).inner_text() == str(offsets[-1])
        page.wait_for_selector("svg.chart")
        assert "No findings" in page.locator("#findings").inner_text()
        assert "token" not in page.url


def test_dropped_files_are_sent_one_after_another(browser: Any, console: ConsoleServer) -> None:
    contents = {name: base64.b64encode((SAMPLES / name).read_bytes()).decode() for name in ("seven.png", "six.jpg")}
    with open_page(browser, console.url) as page:
        page.wait_for_selector("#samples button")
        page.evaluate(
            """files => {
              const transfer = new DataTransfer();
              for (const [name, content] of Object.entries(files)) {
                transfer.items.add(new File([Uint8Array.from(atob(content), (byte) => byte.charCodeAt(0))], name));
              }
              document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
            }""",
            contents,
        )
        assert "six.jpg: six" in await_result(page, "six.jpg")
        page.locator("#history button", has_text="seven.png").click()
        assert "seven.png: seven" in page.locator("#status").inner_text()


def test_a_corrupt_image_has_its_error_at_the_step_that_refused_it(browser: Any, console: ConsoleServer) -> None:
    with open_page(browser, console.url) as page:
        assert "decode refused the request" in send(page, "corrupt image")
        refused = page.locator("#steps .step.failed")
        assert "is a JPEG that was cut off" in refused.locator(".refusal").inner_text()
        assert page.locator("#steps .step.skipped h3").inner_text().split()[1] == "classify"
        assert page.locator("#graph .place.timing.failed").count() == 1
        page.locator("#graph .place.timing.failed").click()
        assert refused.evaluate("node => node === document.activeElement")


def test_the_page_fits_the_width_of_its_window(browser: Any, console: ConsoleServer) -> None:
    with open_page(browser, console.url) as page:
        send(page, "seven")
        for width in (320, 360, 700, 1920):
            page.set_viewport_size({"width": width, "height": 780})
            assert page.evaluate("document.documentElement.scrollWidth") == width
            small = page.evaluate(
                """[...document.querySelectorAll("button:enabled, select:enabled, #drop")]
                   .filter((node) => node.checkVisibility()).map((node) => node.getBoundingClientRect())
                   .filter((box) => Math.min(box.width, box.height) < 24).length"""
            )
            assert small == 0  # WCAG 2.2, 2.5.8: targets of at least 24 pixels


def test_everything_is_reached_with_the_keyboard(browser: Any, console: ConsoleServer) -> None:
    with open_page(browser, console.url) as page:
        page.wait_for_selector("#samples button")
        page.wait_for_selector("#graph .canvas")
        visited: list[str] = []
        for _ in range(12):
            page.keyboard.press("Tab")
            visited.append(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
            if visited[-1].startswith("seven"):
                break
        assert visited[0] == "Skip to the result"
        assert "file" in visited
        page.keyboard.press("Enter")
        await_result(page, "seven")
        page.locator("#graph .place.value").last.focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.dataset.tensor") == "PROBABILITIES"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert page.locator("#status").get_attribute("aria-live") == "polite"


def test_a_model_that_code_requests_has_its_times_within_those_of_its_caller(browser: Any, tmp_path: Path) -> None:
    repository = write_steps(tmp_path, {"first": 0.002, "second": 0.001})
    write_caller(repository, "pipeline", called="first", times=2)
    with (
        Server(repository, sagemaker_port=None, http_port=0, grpc_port=None, metrics_port=None) as server,
        open_console(server, model=None, port=0, samples=None) as console,
        open_page(browser, console.url) as page,
    ):
        page.wait_for_selector("#graph .canvas")
        page.select_option("#model", "pipeline")
        page.wait_for_selector("#graph .place.called")
        send(page, "generated inputs")
        (called,) = page.locator("#steps .called-models li").all_inner_texts()
        assert called.startswith("first\n2 requests of")
        parts = page.locator("#steps .step.answered .parts").first.inner_text()
        assert "in calls" in parts
        page.wait_for_function("() => document.querySelector('#graph .place.called').textContent.includes('queue')")
        assert page.locator("#graph .place.called").count() == 1


def test_a_page_without_the_token_has_no_data(browser: Any, console: ConsoleServer) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(console.url.partition("#")[0])
    assert "needs its token" in page.locator("#banner").inner_text()
    page.goto(console.url.partition("#")[0] + "?again#token=wrong")
    page.wait_for_function("document.querySelector('#banner').textContent.includes('wrong')")
    assert "digits" not in page.content()
    context.close()


def test_a_page_of_another_origin_gets_nothing(browser: Any, console: ConsoleServer, tmp_path: Path) -> None:
    address, _, token = console.url.partition("#token=")
    with serve_page(tmp_path) as other:
        context = browser.new_context()
        page = context.new_page()
        page.goto(other)
        for options in ("{}", f"{{headers: {{Authorization: 'Bearer {token}'}}}}"):
            answer = page.evaluate(
                f"fetch('{address}api/repository', {options}).then(() => 'answered', () => 'refused')"
            )
            assert answer == "refused"
        answer = page.evaluate(f"import('{address}main.js').then(() => 'answered', () => 'refused')")
        assert answer == "refused"
        context.close()


@contextmanager
def serve_page(folder: Path) -> Iterator[str]:
    """The address of an empty page on another port."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Log nothing."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!DOCTYPE html><title>other</title>")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_names_of_a_repository_are_text_wherever_they_appear(browser: Any) -> None:
    """Names, labels, errors and findings with markup neither run nor become elements."""
    with ConsoleServer(HostileRepository()) as console, open_page(browser, console.url) as page:  # type: ignore[arg-type]  # a stand-in
        page.wait_for_selector("#graph .canvas")
        page.locator("#samples button").first.click()
        page.wait_for_selector("#steps .steps")
        page.wait_for_selector("#findings li")
        assert page.evaluate("window.attacked") is None
        assert page.locator("img[src=x], script:not([src='main.js']), iframe, b.attack, [onerror]").count() == 0
        assert "<img" in page.locator("#steps").inner_text()
