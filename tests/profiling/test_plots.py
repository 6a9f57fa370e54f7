"""Plots as SVG."""

import xml.etree.ElementTree as ET

import pytest

from tritonforge.profiling.plots import Bar, Point, Series, draw_bars, draw_histogram, draw_points

SVG = "{http://www.w3.org/2000/svg}"

LINES = draw_points(
    [
        Series("requests/s", tuple(Point(2.0**step, 100.0 * step, 90.0 * step, 115.0 * step) for step in range(5))),
        Series("<limit>", (Point(1, 400), Point(16, 400, label="a & b")), is_line=False),
    ],
    title="throughput", x_label="concurrency", y_label="requests/s", is_logarithmic=True,
)  # fmt: skip
BARS = draw_bars(
    [Bar("decode", (1, 2, 3, 0)), Bar("classify", (0, 0, 20, 1), begin=6, note="70 %")],
    ["queue", "input", "infer", "output"],
    title="steps",
    x_label="ms",
)
HISTOGRAM = draw_histogram([0.5, 1, 1, 2, 9.99], title="latency", x_label="ms", marks={"p50": 1.0})


@pytest.mark.parametrize("picture", [LINES, BARS, HISTOGRAM])
def test_a_plot_is_xml_with_title_and_description_in_light_and_dark(picture: str) -> None:
    root = ET.fromstring(picture)
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")
    assert "prefers-color-scheme:dark" in (root.findtext(f"{SVG}style") or "")


def test_names_are_escaped_and_shown() -> None:
    texts = [node.text for node in ET.fromstring(LINES).iter(f"{SVG}text")]
    assert {"<limit>", "a & b", "concurrency", "16"} <= set(texts)


def test_series_differ_without_colours() -> None:
    root = ET.fromstring(LINES)
    assert len(root.findall(f"{SVG}circle")) == 6  # five points and the legend
    assert len([node for node in root.findall(f"{SVG}rect") if node.get("width") == "8"]) == 3


def test_a_fixed_theme_has_no_style() -> None:
    dark = draw_histogram([], title="nothing", x_label="ms", theme="dark")
    assert "<style>" not in dark
    assert 'fill="#0d1117"' in dark


def test_a_bar_begins_where_it_is_placed() -> None:
    root = ET.fromstring(BARS)
    boxes = [node for node in root.findall(f"{SVG}rect") if node.find(f"{SVG}title") is not None]
    begins = [float(node.get("x", "")) for node in boxes]
    assert len(boxes) == 5
    assert begins == sorted(begins)


def test_empty_series_are_drawn() -> None:
    ET.fromstring(draw_points([], title="t", x_label="x", y_label="y"))
    ET.fromstring(draw_bars([], [], title="t", x_label="x"))
