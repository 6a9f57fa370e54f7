"""The parser of config.pbtxt: values, places, and what the server's own parser refuses."""

import pytest

from tritonforge.pbtxt import MAXIMAL_PROBLEMS, Document, parse

#: Texts that the real server (2.51) takes.
ACCEPTED = [
    "",
    "# only a comment",
    "max_batch_size:0 max_batch_size:3",
    'name:"" name:""',
    "response_cache{enable:false enable:false}",
    "response_cache{enable:t} model_transaction_policy{decoupled:1}",
    'metric_tags{key:"a" value:"\\x41\\101\\u00e9"}',
    "max_batch_size: - 0",
    "max_batch_size: 010",
    "max_batch_size: 0x10",
    "version_policy{latest{num_versions:4294967295}}",
    "instance_group[{kind:KIND_CPU,count:1,}]",
    "instance_group[{kind:KIND_CPU;count:1;}];",
    "instance_group:[{kind:-1 count:1}]",
    "instance_group [ <kind:KIND_CPU> ]",
    "input []",
    "\x0b\x0c",
    "dynamic_batching{max_queue_delay_microseconds:18446744073709551615}",
    "dynamic_batching{preserve_ordering:0x1}",
    "sequence_batching{direct{minimum_slot_utilization:0.5f}}",
    "sequence_batching{direct{minimum_slot_utilization:.5}}",
    "sequence_batching{direct{minimum_slot_utilization:-nan}}",
    "sequence_batching{direct{minimum_slot_utilization:1e400}}",
    'metric_tags:{key:"a",value:"b"}',
    'metric_tags[{key:"a" value:"b"},{key:"c" value:"d"}]',
    'metric_tags{key:"a" value:"1"} metric_tags{key:"a" value:"2"}',
    'parameters{key:"a" value:{string_value:"b" "c" \'d\'}}',
    "input{dims:1,dims:2}",
    "max_batch_size:1 # c\r# d",
    "optimization{priority:PRIORITY_DEFAULT priority:PRIORITY_MIN}",
]

#: Texts that it refuses, with the words of its protobuf and the line and column where we put them.
REFUSED = [
    ("max_batch_size:1 max_batch_size:1", 'Non-repeated field "max_batch_size" is specified multiple times.', 1, 18),
    ("version_policy{} version_policy{}", 'Non-repeated field "version_policy" is specified multiple times.', 1, 18),
    ('model_warmup{inputs{key:"" key:"a"}}', 'Non-repeated field "key" is specified multiple times.', 1, 28),
    (
        "version_policy{all{} latest{}}",
        'Field "latest" is specified along with field "all", another member of oneof "policy_choice".',
        1,
        22,
    ),
    ("max_batch_size:4input{}", "Need space between number and identifier.", 1, 17),
    ('metric_tags{key:"a\nb"}', "String literals cannot cross line boundaries.", 1, 17),
    ('metric_tags{key:"\\q"}', "Invalid escape sequence in string literal.", 1, 18),
    ('metric_tags{key:"a', "Unexpected end of string.", 1, 17),
    ("max_batch_size: 4.", "Expected integer, got: 4.", 1, 17),
    ("max_batch_size: 08", "Numbers starting with leading zero must be in octal.", 1, 17),
    ("max_batch_size: 0x", '"0x" must be followed by hex digits.', 1, 17),
    ("max_batch_size: +4", "Expected integer, got: +", 1, 17),
    ("max_batch_size: 2147483648", "Integer out of range (2147483648)", 1, 17),
    ("max_batch_size: [4]", "Expected integer, got: [", 1, 17),
    ("instance_group[{kind:KIND_CPU}]]", "Expected identifier, got: ]", 1, 32),
    ("instance_group{kind:KIND_CPU", "Expected identifier, got: ", 1, 29),
    ("instance_group[{kind:KIND_GPUS}]", 'Unknown enumeration value of "KIND_GPUS" for field "kind".', 1, 22),
    ("instance_group[{kind:KIND_CPU},]", 'Expected "{", found "]".', 1, 32),
    ("instance_group[{} {}]", 'Expected ",", found "{".', 1, 19),
    ("\x01", "Invalid control characters encountered in text.", 1, 1),
    ("\nä", "Interpreting non ascii codepoint 195.", 2, 1),
    ("\ufeffname:'m'", "Interpreting non ascii codepoint 239.", 1, 1),
    ("dynamic_batching{max_queue_delay_microseconds:-1}", "Expected integer, got: -", 1, 47),
    ("dynamic_batching{preserve_ordering:2}", "Integer out of range (2)", 1, 36),
    (
        "dynamic_batching{preserve_ordering:yes}",
        'Invalid value for boolean field "preserve_ordering". Value: "yes".',
        1,
        36,
    ),
    ("sequence_batching{direct{minimum_slot_utilization:x}}", "Expected double, got: x", 1, 51),
    ("Name:'m'", 'Message type "inference.ModelConfig" has no field named "Name".', 1, 1),
    ("parameters{key:'a' value:'x'}", 'Expected "{", found "\'x\'".', 1, 26),
    ("name 'm'", 'Expected ":", found "\'m\'".', 1, 6),
    ("name: m", "Expected string, got: m", 1, 7),
    ("// comment", "Expected identifier, got: /", 1, 1),
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_the_server_takes_has_no_problem(text: str) -> None:
    """Texts that the server's parser takes."""
    assert parse(text).problems == ()


@pytest.mark.parametrize(("text", "message", "line", "column"), REFUSED)
def test_problems_are_in_the_servers_words(text: str, message: str, line: int, column: int) -> None:
    """Texts that the server's parser refuses: the first problem has its words, and the place."""
    first = parse(text).problems[0]
    assert (first.message, first.line, first.column) == (message, line, column)


def test_values_have_types_and_places() -> None:
    """Values are read as what they are, problem with its line, column and path."""
    document = parse('name: "m"\ninput [\n  { name: "A" dims: [ -1, 0x10 ] },\n  { optional: true }\n]\n')
    first, second = document.messages("input")
    assert document.text("name") == "m"
    assert first.integers("dims") == (-1, 16)
    assert second.flag("optional")
    node = first.get("dims")[1]
    assert (node.line, node.column, node.path) == (3, 27, "input[0].dims[1]")
    assert document.integer("max_batch_size") == 0
    assert document.message("version_policy") is None


def test_strings_are_unescaped_and_joined() -> None:
    """Escapes, adjacent literals and bytes that are not UTF-8 are read as protobuf does."""
    document = parse(b'name: "a\\n\\x41" \'b\' platform: "\xff\\377"')
    assert document.text("name") == "a\nAb"
    assert document.text("platform").encode("utf-8", "surrogateescape") == b"\xff\xff"


def test_a_map_keeps_the_last_of_equal_keys() -> None:
    """Entries of a map by key."""
    entries = parse('parameters{key:"a" value{string_value:"1"}} parameters{key:"a" value{string_value:"2"}}').entries(
        "parameters"
    )
    value = entries["a"].message("value")
    assert value is not None
    assert value.text("string_value") == "2"


def test_all_problems_are_collected() -> None:
    """The first problem does not hide the others."""
    document = parse(
        "max_batchsize: 4\ninput [{ nme: 'A' data_type: TYPE_FLOAT32 }]\nmax_batch_size: ${size}\n{{ more }}"
    )
    assert [(problem.kind, problem.line) for problem in document.problems] == [
        ("unknown", 1),
        ("unknown", 2),
        ("enum", 2),
        ("placeholder", 3),
        ("placeholder", 4),
    ]
    assert document.problems[0].hint == "did you mean max_batch_size?"
    assert document.problems[1].field == "input[0].nme"


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "input {" * 100_000,
        "x {" * 200_000,
        "[" * 300_000,
        '"' * 300_000,
        "x: " + "9" * 1_000_000,
        "max_batch_size: " + "9" * 1_000_000,
        "#" * 4_000_000,
        "name: '" + "\\" * 1_000_000,
        "\n" * 4_000_000,
        "a " * 2_000_000,
        "max_batch_size: 0x" + "f" * 100_000,
        "sequence_batching{direct{minimum_slot_utilization:" + "9" * 100_000 + "}}",
    ],
    ids=lambda text: text[:16],
)
def test_large_and_deep_texts_are_bounded(text: str) -> None:
    """A text of any size and depth gives a document and a bounded number of problems."""
    document = parse(text)
    assert isinstance(document, Document)
    assert len(document.problems) <= MAXIMAL_PROBLEMS
