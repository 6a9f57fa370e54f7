"""The formats of a graph: they are equal in every run, well-formed, and nothing in a repository is markup in them."""

from __future__ import annotations

import functools
import itertools
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
import resvg_py

from tests.support.checkout import ROOT
from tests.support.graph_repositories import CALLING, HOSTILE, NESTED, PASSING, WRONG, build_chain
from tests.support.rule_repositories import FIXTURES
from tritonforge.escaping import escape_dot, escape_html, escape_mermaid
from tritonforge.graph.dot import render_dot
from tritonforge.graph.graph_reader import read_graph
from tritonforge.graph.html_page import render_html
from tritonforge.graph.mermaid import render_mermaid
from tritonforge.graph.outline import render_outline
from tritonforge.graph.png import render_png
from tritonforge.graph.svg import render_svg
from tritonforge.validation.tree import Tree

REPOSITORIES = {
    "nested": NESTED,
    "passing": PASSING,
    "calling": CALLING,
    "wrong": WRONG,
    "hostile": HOSTILE,
    "chain": build_chain(20),
}
GRAPHS = {name: read_graph(Tree.of(files)) for name, files in REPOSITORIES.items()}
SVG = "{http://www.w3.org/2000/svg}"

#: What a picture consists of: nothing that runs, loads or embeds.
ELEMENTS = {f"{SVG}{name}" for name in ("svg", "title", "style", "rect", "path", "text", "a")}


@pytest.mark.parametrize("name", GRAPHS)
def test_an_svg_is_well_formed_and_has_only_shapes(name: str) -> None:
    root = ET.fromstring(render_svg(GRAPHS[name], title="a & b"))
    assert {element.tag for element in root.iter()} <= ELEMENTS
    assert not [key for element in root.iter() for key in element.attrib if key.startswith("on") or "href" in key]


def test_an_svg_has_light_colours_in_its_attributes_and_dark_ones_by_preference() -> None:
    graph = GRAPHS["nested"]
    automatic, light, dark = (render_svg(graph, theme=theme) for theme in ("auto", "light", "dark"))
    assert automatic.count("prefers-color-scheme:dark") == 1
    assert 'fill="#ffffff"' in automatic
    assert "class=" not in light
    assert "<style>" not in dark
    assert 'fill="#0d1117"' in dark
    assert re.sub(r' class="[^"]*"|<style>.*</style>\n', "", automatic) == light


def test_an_edge_ends_where_its_head_begins() -> None:
    """Heads point down, and their tip is at the box that the edge leads to."""
    paths = [element.attrib["d"] for element in ET.fromstring(render_svg(GRAPHS["nested"])).iter(f"{SVG}path")]
    heads = 0
    for line, head in itertools.pairwise(paths):
        if not head.endswith("Z"):
            continue
        heads += 1
        x, y, _, back, _ = re.findall(r"[\d.]+", head)
        numbers = re.findall(r"[\d.]+", line)
        assert x in numbers, (line, head)
        assert (float(numbers[-1]), float(back)) == (float(y) - 6, float(y) - 8), (line, head)
    assert heads > 5


def test_findings_are_visible_without_colour() -> None:
    """Their code is a word in the picture, at the place and in the list, and outlines differ."""
    svg = render_svg(GRAPHS["wrong"], theme="light")
    assert svg.count(">1 E337</text>") == 2
    assert svg.count(">4 W348</text>") == 2
    assert svg.count('stroke-dasharray="7 3"') == 2  # the outlines of two models with warnings
    assert "inconsistent shape: [4] is" in svg


@pytest.mark.slow
def test_every_repository_of_the_rules_is_drawn() -> None:
    """Whatever a rule refuses, the picture is well-formed and has each finding in its list."""
    for fixture in FIXTURES.values():
        for files in (fixture.bad, fixture.good):
            graph = read_graph(Tree.of(files))
            root = ET.fromstring(render_svg(graph))
            badges = [text.text for text in root.iter(f"{SVG}text")]
            for number, finding in enumerate(graph.findings[:100], 1):
                assert f"{number} {finding.code}" in badges
            for render in (render_mermaid, render_dot, render_outline):
                assert render(graph)


@pytest.mark.process
def test_the_picture_is_byte_equal_in_another_process() -> None:
    script = (
        "from tests.support.graph_repositories import NESTED\n"
        "from tritonforge.graph.graph_reader import read_graph\n"
        "from tritonforge.graph.svg import render_svg\n"
        "from tritonforge.validation.tree import Tree\n"
        "print(render_svg(read_graph(Tree.of(NESTED))), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONHASHSEED": "7"},
    )
    assert done.stdout == render_svg(GRAPHS["nested"])


def test_a_name_is_no_markup_in_any_format() -> None:
    graph = GRAPHS["hostile"]
    for text in (render_svg(graph), render_html(graph, title="<script>")):
        assert "<script" not in text
        assert "<b>" not in text
    for text in (render_outline(graph), render_mermaid(graph), render_dot(graph), render_svg(graph)):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\n::error" not in text


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.identifiers: set[str | None] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.identifiers |= {value for key, value in attrs if key == "id"}


def test_a_page_loads_nothing_runs_nothing_and_links_badges_to_the_table() -> None:
    page = _Page()
    page.feed(render_html(GRAPHS["wrong"], title="wrong"))
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    links = {value for key, value in page.attributes if key == "href"}
    assert page.identifiers == {f"finding-{number}" for number in range(1, 6)}
    assert links == {f"#{identifier}" for identifier in page.identifiers if identifier != "finding-3"}  # at no part
    assert not [value for key, value in page.attributes if key.startswith("on") or key == "src"]


@pytest.mark.parametrize("name", GRAPHS)
def test_mermaid_has_quoted_labels_of_safe_characters_only(name: str) -> None:
    for line in render_mermaid(GRAPHS[name]).splitlines():
        for label in re.findall(r'"([^"]*)"', line):
            assert re.fullmatch(r"(?:init|flowchart|wrappingWidth|<br>|#\d+;|[\w .,:/+=()\[\]?≤→-])*", label)
        rest = re.sub(r'^%%[{]init: .*[}]%%$|"[^"]*"', "", line)
        assert re.fullmatch(r"[\w\s.,:;#>()\[\]-]*", rest)


@pytest.mark.parametrize("name", GRAPHS)
def test_mermaid_and_dot_have_the_same_nodes_and_edges(name: str) -> None:
    mermaid, dot = render_mermaid(GRAPHS[name]), render_dot(GRAPHS[name])
    nodes = re.findall(r"^ *([tm]\d+)[\[(]", mermaid, re.MULTILINE)
    assert nodes == re.findall(r"^ *([tm]\d+) \[", dot, re.MULTILINE)
    edges = re.findall(r"^ *([tm]\d+) -.*> ([tm]\d+)$", mermaid, re.MULTILINE)
    assert edges == re.findall(r"^ *([tm]\d+) -> ([tm]\d+) \[", dot, re.MULTILINE)
    assert edges


def test_an_output_that_is_an_input_leads_from_it() -> None:
    mermaid = render_mermaid(GRAPHS["passing"])
    inner = re.search(r'(t\d+)\(\["input and output I<br>', mermaid)
    outer = re.search(r'(t\d+)\(\["output R<br>', mermaid)
    assert inner is not None
    assert outer is not None
    assert f'{inner[1]} -- "I" --> {outer[1]}' in mermaid


def test_dot_keeps_a_string_a_string() -> None:
    text = re.sub(r'"(?:[^"\\]|\\.)*"', "", render_dot(GRAPHS["hostile"]))
    assert not re.search(r'["<&\\]', text)


def test_escapes_of_one_format_each() -> None:
    assert escape_html("<a b='c'>&\x00") == "&lt;a b=&#x27;c&#x27;&gt;&amp;\\u0000"
    assert escape_dot('\\N "x"\n&lt;') == '\\\\N \\"x\\"\\\\u000a&amp;lt;'
    assert escape_mermaid("a `b` #35; %%") == "a #96;b#96; #35;35#59; #37;#37;"


def test_an_outline_has_every_step_with_what_it_reads_and_writes() -> None:
    shape = (
        "in ensemble e, ensemble tensor T: inconsistent shape: [4] is inferred from model x while [5] is inferred from"
    )
    held = "the batcher holds a request that is not joined by others for 5 seconds"
    assert render_outline(GRAPHS["wrong"]).splitlines()[:11] == [
        "e: ensemble, version 1, no batching",
        "  input   I  FP32 [4], no batch",
        "  step 0  x: identity, version 1; no batching; default instances",
        "          A <- I",
        "          B -> T  FP32 [4], no batch",
        "  step 1  y: identity, version 1; no batching; default instances",
        "          A <- T",
        f"            ! E337 error: e/config.pbtxt:1: {shape} model y",
        "          B -> U  FP32 [5], no batch",
        "  step 2  late: identity, version 1; max_batch_size 4, dynamic batching (delay 5000000 µs); default instances",
        f"          ! W348 warning: late/config.pbtxt:1: {held}",
    ]


def test_the_text_of_a_png_needs_no_font_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    image = render_png(GRAPHS["calling"])  # it has arrows
    rasterize = resvg_py.svg_to_bytes
    monkeypatch.setattr(resvg_py, "svg_to_bytes", functools.partial(rasterize, skip_system_fonts=True))
    assert render_png(GRAPHS["calling"]) == image
    svg = render_svg(GRAPHS["calling"], theme="light")
    assert rasterize(svg_string=svg, zoom=2, skip_system_fonts=True) != image  # without any font


def test_a_png_has_two_pixels_for_one() -> None:
    image = render_png(GRAPHS["nested"])
    svg = render_svg(GRAPHS["nested"])
    sizes = re.search(r'width="(\d+)" height="(\d+)"', svg)
    assert sizes is not None
    assert struct.unpack(">II", image[16:24]) == (2 * int(sizes[1]), 2 * int(sizes[2]))
    assert image == render_png(GRAPHS["nested"], theme="light")
    assert image != render_png(GRAPHS["nested"], theme="dark")
