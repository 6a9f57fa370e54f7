"""`tritonforge manifest`: problems as lines, files whole or not at all, and exit codes that say what happened."""

from __future__ import annotations

import copy
import errno
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.checkout import run_tritonforge
from tests.support.manifest_samples import CAR_LABEL, CARS, THINGS, Run, images, text
from tritonforge import files


@pytest.fixture
def cars(tmp_path: Path) -> Path:
    """Four cars on one line, and a line that is not labelled yet."""
    path = tmp_path / "cars.manifest"
    path.write_bytes(text(CARS, {"source-ref": "s3://sthakur/demo/images/SSDB00005.JPG"}))
    return path


WIDE = "the box reaches to x=1502, outside the image, which is 1280 pixels wide"


def bad_line() -> dict[str, Any]:
    """A line with a box outside of its image, and an empty one."""
    line = copy.deepcopy(CARS)
    line[CAR_LABEL]["annotations"][1]["width"] = 900
    line[CAR_LABEL]["annotations"][2]["height"] = 0
    return line


def test_a_good_manifest_is_summed_up(run: Run, cars: Path) -> None:
    """What is in it, and that nothing is wrong: exit code 0."""
    code, out, _ = run("check", cars)
    assert code == 0
    assert out == (
        f"{cars}: 2 lines; {CAR_LABEL}: boxes on 1 line (car 4)\n{cars}: no problems\n"
    )  # fmt: skip


def test_the_most_frequent_classes_are_summed_up(run: Run, tmp_path: Path) -> None:
    """A dozen, and how many more there are; those without a name by their number."""
    boxes = [{"class_id": number % 15, "left": 1, "top": 1, "width": 1, "height": 1} for number in range(29)]
    line = {"source-ref": "s3://b/x", "b": {"image_size": [{"width": 9, "height": 9}], "annotations": boxes}}
    (tmp_path / "m").write_bytes(text(line))
    assert "boxes on 1 line (0 2, 1 2, 2 2, " in run("check", tmp_path / "m")[1]
    assert "11 2, 3 more)" in run("check", tmp_path / "m")[1]


def test_each_problem_is_one_line(run: Run, tmp_path: Path) -> None:
    """Path, line, attribute and what; a count at the end; exit code 1."""
    path = tmp_path / "m"
    path.write_bytes(text(CARS) + b"{]\n" + text(bad_line()))
    code, out, _ = run("check", path, "--attributes", f"source-ref,{CAR_LABEL},more")
    assert code == 1
    assert out.splitlines() == [
        f"{path}:1: more: the line does not have it (it has source-ref, {CAR_LABEL}, {CAR_LABEL}-metadata)",
        f"{path}:2: the line is not JSON: Expecting property name enclosed in double quotes at character 2",
        f"{path}:3: more: the line does not have it (it has source-ref, {CAR_LABEL}, {CAR_LABEL}-metadata)",
        f"{path}:3: {CAR_LABEL}: annotations[1]: {WIDE}",
        f"{path}:3: {CAR_LABEL}: annotations[2]: the box is empty: 61 x 0 pixels",
        f"{path}: 3 lines; {CAR_LABEL}: boxes on 2 lines (car 8)",
        f"{path}: 5 problems",
    ]


def test_very_many_problems_are_not_all_printed(run: Run, tmp_path: Path) -> None:
    """A hundred, how many more there are, and how to get them."""
    path = tmp_path / "m"
    path.write_bytes(text(*({"source-ref": f"{number}.jpg"} for number in range(130))))
    code, out, _ = run("check", path)
    assert code == 1
    lines = out.splitlines()
    assert lines[99] == (
        f"{path}:100: source-ref: 99.jpg is not on S3, from where SageMaker reads; expected s3://bucket/key "
        "(--local takes paths)"
    )
    assert lines[-3:] == [
        f"{path}: 130 lines",
        "... and 30 problems more (--format json lists 10,000)",
        f"{path}: 130 problems",
    ]
    assert len(json.loads(run("check", path, "--format", "json")[1])["listed"]) == 130
    assert run("check", path, "--local")[0] == 0


def test_the_report_for_machines(run: Run, tmp_path: Path) -> None:
    """One JSON object with every problem and every label."""
    path = tmp_path / "m"
    path.write_bytes(text(bad_line(), THINGS))
    code, out, _ = run("check", path, "--format", "json")
    report = json.loads(out)
    assert (code, report["form"], report["lines"], report["problems"]) == (1, "augmented", 2, 2)
    assert report["listed"][1] == {
        "path": str(path),
        "line": 1,
        "attribute": CAR_LABEL,
        "what": "annotations[2]: the box is empty: 61 x 0 pixels",
    }
    assert report["labels"]["things"]["classes"]["8"] == {"name": "clothing", "count": 1}


@pytest.mark.parametrize(
    ("name", "content", "form", "problem"),
    [
        ("classic", b'[{"prefix": "s3://b/"},\n""]', "a classic manifest", ':2: "" is not a key'),
        ("a.json", b'{"images": [],\n "annotations": [5]}', "annotations.json", ": annotations[0]: must be an object"),
        ("a.json", b'{"images": [], "annotations": [5]}', "annotations.json", ": annotations[0]: must be an object"),
        ("x.json", b'{"file": "", "image_size": [],\n"annotations": []}', "documents of the built", ": file: must be"),
        ("x.json", b'{"images": ', "annotations.json", ":1: the document is not JSON"),
        ("m.json", b'{"source-ref": "x"}\n{"a": 1}', "an augmented manifest", ":1: source-ref: x is not on S3"),
        ("m", b'{"source-ref": ', "an augmented manifest", ":1: the line is not JSON"),
        ("m", b"", "an augmented manifest", ": the manifest is empty"),
    ],
)
def test_a_data_set_is_known_by_what_it_holds(
    run: Run, tmp_path: Path, name: str, content: bytes, form: str, problem: str
) -> None:
    """And checked as that."""
    path = tmp_path / name
    path.write_bytes(content)
    code, out, err = run("check", path)
    assert code == 1
    assert f"checking {path}, {form}" in err
    assert out.startswith(f"{path}{problem}")


def test_what_cannot_be_read_is_one_sentence(run: Run, tmp_path: Path) -> None:
    """Exit code 2, also for a folder without documents, and for names that no job may have."""
    for arguments, sentence in (
        (("check", tmp_path / "none"), f"{tmp_path / 'none'}: file not found"),
        (("check", tmp_path), f"{tmp_path}: no .json document in it"),
        (("check", tmp_path, "--from", "classic"), "expected a file for a classic manifest, got a directory"),
        (("check", __file__, "--attributes", ","), "AttributeNames: a name is one line of 1 to 256 characters"),
        (("show", tmp_path / "none", "-o", tmp_path / "x.png"), "file not found"),
        (("split", __file__, "--train", "a", "--validation", "./a"), "must be two files"),
        (("check", "--format", "xml", __file__), "is not one of"),
    ):
        code, _, err = run(*arguments)
        assert code == 2, arguments
        assert sentence in err


def test_there_and_back_again(run: Run, tmp_path: Path) -> None:
    """Augmented manifest, annotations.json, augmented manifest, detector's documents, and the first bytes again."""
    manifest = images(tmp_path, 3)
    train = ("--images", "s3://bucket/train")
    a, b, c = tmp_path / "annotations.json", tmp_path / "b2.manifest", tmp_path / "c.manifest"
    names, folder = tmp_path / "names.json", tmp_path / "train_annotation"
    code, out, _ = run("convert", manifest, "--to", "annotations", "-o", a, *train, "--write-class-names", names)
    assert (code, out) == (0, f"{a}: 3 images, 3 boxes\n")
    assert json.loads(a.read_bytes())["annotations"][1] == {"image_id": 1, "bbox": [4, 20, 24, 30], "category_id": 1}
    assert json.loads(names.read_bytes()) == {"0": "cat", "1": "dog"}
    assert run("convert", a, "--to", "augmented", "-o", b, *train, "--class-names", names, "--label", "b")[0] == 0
    assert b.read_bytes() == manifest.read_bytes().replace(b": ", b":").replace(b", ", b",")
    assert run("convert", b, "--to", "detector", "-o", folder, *train)[0] == 0
    assert sorted(path.name for path in folder.rglob("*.json")) == ["0.json", "1.json", "2.json"]
    assert json.loads((folder / "images/1.json").read_bytes())["file"] == "images/1.png"
    assert run("convert", folder, "--to", "augmented", "-o", c, *train, "--label", "b")[0] == 0
    assert c.read_bytes() == b.read_bytes()
    assert run("check", folder)[0] == run("check", a)[0] == run("check", c)[0] == 0
    code, _, err = run("convert", b, "--to", "detector", "-o", folder, *train)
    assert code == 2
    assert "already exists (expected a new or empty directory)" in err


def test_what_is_wrong_ends_a_conversion_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    """The sentence names file, line and attribute once, and what was there stays."""
    path, target = tmp_path / "m", tmp_path / "out"
    path.write_bytes(text(CARS, bad_line()))
    for to in ("annotations", "detector"):
        code, _, err = run("convert", path, "--to", to, "-o", target)
        assert code == 2
        assert f"error: {path}:2: {CAR_LABEL}: annotations[1]: the box reaches to x=1502, outside the image" in err
    path.write_bytes(text(CARS) + b"{")
    target.write_bytes(b"kept")
    code, _, err = run("convert", path, "--to", "augmented", "-o", target)
    assert code == 2
    assert f"error: {path}:2: the line is not JSON" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "out"]
    assert target.read_bytes() == b"kept"
    code, _, err = run("convert", path, "--to", "augmented", "-o", tmp_path / "none" / "x")
    assert code == 2
    assert f"'-o' / '--output': Directory '{tmp_path / 'none'}' does not exist" in err


def test_lines_without_the_label_are_counted(run: Run, cars: Path, tmp_path: Path) -> None:
    code, out, err = run("convert", cars, "--to", "detector", "-o", tmp_path / "d", "--format", "json")
    report = json.loads(out)
    assert (code, report["images"], report["boxes"], report["left_out"], report["classes"]) == (0, 1, 4, 1, [0])
    assert "note: skipped: 1 line without the label" in err
    code, _, err = run("convert", cars, "--to", "annotations", "-o", tmp_path / "a", "--label", "other")
    assert (code, "no line has the label other" in err) == (2, True)


def test_a_full_disk_is_reported_with_the_file_that_it_would_be(
    run: Run, cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is full at once or at the end; exit code 1, and nothing is left."""
    full = OSError(errno.ENOSPC, "No space left on device")

    def no_space(*_: object) -> None:
        raise full

    options = ("--train", tmp_path / "t", "--validation", tmp_path / "v", "--fraction", "0")
    report = f"error: {tmp_path / 't'}: cannot write: No space left on device"
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", no_space)
        code, _, err = run("convert", cars, "--to", "augmented", "-o", tmp_path / "t")
    assert (code, report in err) == (1, True)
    write = files.os.fdopen

    def small(handle: int, mode: str) -> Any:
        file = write(handle, mode)
        return SimpleNamespace(write=no_space, close=file.close)

    monkeypatch.setattr(files.os, "fdopen", small)
    code, _, err = run("split", cars, *options)
    assert (code, report in err) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == [cars.name]


def test_notes_of_the_detectors_format(run: Run, tmp_path: Path) -> None:
    """Gaps between classes, and classes without a name."""
    path = tmp_path / "m"
    line = copy.deepcopy(CARS)
    line[CAR_LABEL]["annotations"][0]["class_id"] = 2
    path.write_bytes(text(line))
    _, _, err = run("convert", path, "--to", "detector", "-o", tmp_path / "d")
    assert "classes numbered from 0 without gaps; no box of class 1" in err
    assert "classes without a name: 2" in err


def test_a_classic_manifest_gets_its_labels(run: Run, tmp_path: Path) -> None:
    """Seed 4's manifest: from CSV by order and by key, from JSON lines, and without any."""
    classic, target = tmp_path / "classic", tmp_path / "out"
    keys = ["relative/path/to/data-1", "relative/path/to/data-2"]
    classic.write_text(json.dumps([{"prefix": "s3://foo/"}, *keys]))
    expected = [{"source-ref": f"s3://foo/{key}", "label": str(number)} for number, key in enumerate(keys)]
    for name, content in (
        ("order.csv", "0\n1\n"),
        ("keys.csv", "data-2,1\nrelative/path/to/data-1,0\n"),
        ("whole.csv", "s3://foo/relative/path/to/data-2,1\ndata-1,0\n"),
        ("lines.jsonl", '"0"\n"1"\n'),
    ):
        (tmp_path / name).write_text(content)
        code, _, err = run("convert", classic, "--to", "augmented", "-o", target, "--labels", tmp_path / name)
        assert code == 0, err
        assert [json.loads(line) for line in target.read_bytes().splitlines()] == expected
    assert run("convert", classic, "--to", "augmented", "-o", target)[0] == 0
    assert [json.loads(line) for line in target.read_bytes().splitlines()] == [
        {"source-ref": f"s3://foo/{key}"} for key in keys
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("l.csv", "0\n", "classic: label: there are 1 labels, and more objects; s3://foo/b has none"),
        ("l.csv", "0\n1\n2\n", "classic: label: there are more labels than objects, of which there are 2"),
        ("l.csv", "a,0\n", "l.csv: no label for s3://foo/b"),
        ("l.csv", "a,0\nb,1,2\n", "l.csv: row 2 has 3 fields; expected key,label, or one label"),
        ("l.jsonl", "0\nx\n", "l.jsonl:2: the line is not JSON"),
    ],
)
def test_labels_that_do_not_fit(run: Run, tmp_path: Path, name: str, content: str, sentence: str) -> None:
    """Exit code 2 and one sentence; nothing is written."""
    (tmp_path / "classic").write_text('[{"prefix": "s3://foo/"}, "a", "b"]')
    (tmp_path / name).write_text(content)
    options = ("--to", "augmented", "-o", tmp_path / "out", "--labels", tmp_path / name)
    code, _, err = run("convert", tmp_path / "classic", *options)
    assert code == 2
    assert sentence in err
    assert not (tmp_path / "out").exists()


def test_conversions_that_make_no_sense(run: Run, cars: Path, tmp_path: Path) -> None:
    """Exit code 2, and what to say instead."""
    (tmp_path / "classic").write_text('[{"prefix": "s3://foo/"}, "a"]')
    (tmp_path / "a.json").write_text('{"images": [], "annotations": []}')
    both = {**CARS, "other": CARS[CAR_LABEL]}
    (tmp_path / "two").write_bytes(text(both))
    out = ("-o", tmp_path / "out")
    for arguments, sentence in (
        ((cars, "--to", "augmented", "--labels", cars), "--labels applies to a classic manifest"),
        ((tmp_path / "classic", "--to", "annotations"), "which has no boxes; use --to augmented"),
        ((tmp_path / "a.json", "--to", "augmented"), "--to augmented needs the prefix of the images"),
        (
            (tmp_path / "two", "--to", "annotations"),
            f"several labels: {CAR_LABEL}, other; choose one with --label NAME",
        ),
        (
            (cars, "--to", "annotations", "--images", "s3://x"),
            "source-ref: s3://sthakur/demo/images/SSDB00004.JPG is not below",
        ),
    ):
        code, _, err = run("convert", *arguments, *out)
        assert code == 2, arguments
        assert sentence in err


def test_a_split_keeps_every_line_as_it_was(run: Run, tmp_path: Path) -> None:
    """Each is on one side, in its order; the report says how many, and what is on one side only."""
    manifest, train, validation = images(tmp_path, 40), tmp_path / "train", tmp_path / "validation"
    code, out, _ = run("split", manifest, "--train", train, "--validation", validation, "--fraction", "0.25")
    assert code == 0
    lines = manifest.read_bytes().splitlines()
    sides = [train.read_bytes().splitlines(), validation.read_bytes().splitlines()]
    assert sorted(sides[0] + sides[1]) == sorted(lines)
    assert [line for line in lines if line in sides[1]] == sides[1]
    share = len(sides[1]) / 40
    assert out.splitlines()[1] == f"{validation}: {len(sides[1])} lines, {share:.1%} of all (requested: 25.0%)"
    (tmp_path / "other").write_bytes(b"\n".join(reversed(lines[::2])))
    run("split", tmp_path / "other", "--train", train, "--validation", validation, "--fraction", "0.25")
    assert set(validation.read_bytes().splitlines()) == set(sides[1]) & set(lines[::2])
    options = ("--format", "json", "--seed", "5", "--fraction", "0.02")
    code, out, err = run("split", manifest, "--train", train, "--validation", validation, *options)
    report = json.loads(out)
    assert (report["train"] + report["validation"], report["asked"]) == (40, 0.02)
    assert report["fraction"] == report["validation"] / 40
    assert set(report["on_one_side_only"]) <= {"b: class 0", "b: class 1"}
    assert all(label in err for label in report["on_one_side_only"])
    train.write_bytes(b"\n".join(lines[:2]))
    for number, seed in enumerate(("0", "1", "2", "3", "4", "5", "6", "7")):
        files = (tmp_path / f"t{number}", tmp_path / f"v{number}")
        options = ("--seed", seed, "--fraction", "0.5", "--train", files[0], "--validation", files[1])
        err = run("split", train, *options)[2]
        for kept, name in zip(files, ("train", "validation"), strict=True):
            for line in kept.read_bytes().splitlines() if kept.read_bytes().count(b"\n") == 1 else ():
                (box,) = json.loads(line)["b"]["annotations"]
                assert f"b: class {box['class_id']} is on lines of {name} only" in err


def test_a_split_without_what_it_goes_by(run: Run, tmp_path: Path) -> None:
    """Names the line, and leaves nothing."""
    options = ("--train", tmp_path / "t", "--validation", tmp_path / "v")
    (tmp_path / "m").write_bytes(b"")
    code, _, err = run("split", tmp_path / "m", *options)
    assert (code, f"{tmp_path / 'm'}: the manifest is empty" in err) == (2, True)
    (tmp_path / "m").write_bytes(text(CARS, {"source": "text"}))
    code, _, err = run("split", tmp_path / "m", *options)
    assert code == 2
    assert f"error: {tmp_path / 'm'}:2: source-ref: the line does not have it" in err
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_names_of_classes_from_any_file(run: Run, tmp_path: Path) -> None:
    """JSON by number or in a list, or one name a line."""
    manifest, target = images(tmp_path, 2), tmp_path / "n.json"
    lines = manifest.read_bytes().replace(b'"class-map": {"0": "cat", "1": "dog"}, ', b"")
    manifest.write_bytes(lines)
    for content in ('{"0": "cat", "1": "dog"}', '["cat", "dog"]', "cat\ndog\n"):
        (tmp_path / "names").write_text(content)
        options = ("--class-names", tmp_path / "names", "--write-class-names", target)
        assert run("convert", manifest, "--to", "annotations", "-o", tmp_path / "a.json", *options)[0] == 0
        assert json.loads(target.read_bytes()) == {"0": "cat", "1": "dog"}
    for content in ('{"x": "cat"}', "[1]", "[", '{"0": "a", "0": "b"}'):
        (tmp_path / "names").write_text(content)
        options = ("--class-names", tmp_path / "names")
        code, _, err = run("convert", manifest, "--to", "annotations", "-o", tmp_path / "a.json", *options)
        assert (code, str(tmp_path / "names") in err) == (2, True)


@pytest.mark.process
def test_the_command_runs_as_a_user_runs_it(tmp_path: Path) -> None:
    """From a shell, with its help, and a report of a failure for machines."""
    assert "check" in run_tritonforge("manifest", "--help").stdout
    done = run_tritonforge("manifest", "check", str(tmp_path / "none"), "--format", "json")
    assert done.returncode == 2
    assert json.load(io.StringIO(done.stdout))["error"]["message"].endswith("file not found")
