"""`tritonforge deploy` and `tritonforge destroy`, as a user runs them, on the emulated AWS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.command import tritonforge
from tests.support.deployments import everything, make_repository
from tritonforge.cli.main import cli
from tritonforge.emulator import Emulator
from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.package import write_package

pytestmark = pytest.mark.process


@pytest.fixture
def flags(emulator: Emulator, name: str) -> list[str]:
    """What every deployment needs."""
    return ["--name", name, "--image", "24.09", "--role", emulator.role_arn, "--instance-type", "ml.m5.xlarge"]


def run(*arguments: str | Path, code: int = 0) -> Result:
    """Run the command line in this process; without a terminal."""
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    assert done.return_value == code, done.output
    return done


def test_plan_deploy_deploy_again_and_destroy(session: Session, repository: Path, flags: list[str], name: str) -> None:
    """A plan shows every request and changes nothing; the second run has nothing to do; destroy leaves nothing."""
    shown = run("deploy", repository, *flags, "--plan").output
    assert "+ endpoint configuration" in shown
    assert '"ModelDataUrl": "s3://sagemaker-' in shown
    assert "Plan: " in shown
    assert not any(everything(session, name).values())
    assert run("deploy", repository, *flags, "--plan", "--detailed-exitcode", code=3)
    assert "is in service" in run("deploy", repository, *flags, "--yes").output
    assert "Nothing to do" in run("deploy", repository, *flags, "--yes").output
    run("deploy", repository, *flags, "--plan", "--detailed-exitcode")
    assert "- endpoint" in run("destroy", name, "--plan").output
    assert everything(session, name)["endpoints"] == [name]
    run("destroy", name, "--yes")
    assert not any(everything(session, name).values())
    assert "There is nothing of" in run("destroy", name, "--yes").output


def test_the_document_for_machines(repository: Path, flags: list[str], name: str) -> None:
    """One JSON document on standard output, of the plan and of what was done."""
    plan = json.loads(run("deploy", repository, *flags, "--plan", "--json").stdout)
    assert (plan["format"], plan["name"], plan["changes"]) == (1, name, True)
    assert plan["upload_bytes"] > 1000
    operations = [step["operation"] for step in plan["steps"]]
    assert operations[-4:] == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint", "DescribeEndpoint"]
    done = json.loads(run("deploy", repository, *flags, "--yes", "--format", "json").stdout)
    assert done["applied"] is True
    again = json.loads(run("deploy", repository, *flags, "--yes", "--json").stdout)
    assert again["steps"] == []


def test_the_routing_strategy_is_in_the_request(repository: Path, flags: list[str]) -> None:
    shown = run("deploy", repository, *flags, "--routing-strategy", "LEAST_OUTSTANDING_REQUESTS", "--plan").output
    assert '"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"' in shown


def test_confirmation_needs_a_terminal(session: Session, repository: Path, flags: list[str], name: str) -> None:
    """Changes: exit code 2, the way out, nothing written. No changes: exit code 0, as a scheduled run expects."""
    done = tritonforge("deploy", str(repository), *flags)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert not any(everything(session, name).values())
    run("deploy", repository, *flags, "--yes")
    done = tritonforge("deploy", str(repository), *flags)
    assert (done.returncode, "Nothing to do" in done.stdout) == (0, True)
    done = tritonforge("destroy", name)
    assert (done.returncode, "--yes" in done.stderr) == (2, True)
    assert everything(session, name)["endpoints"]


def test_a_role_by_name_gets_its_path_from_iam(repository: Path, name: str, emulator: Emulator) -> None:
    """The name becomes the ARN with the role's path; a role that is not there is reported before anything is made."""
    wanted = ["--name", name, "--image", "24.09", "--instance-type", "ml.m5.xlarge", "--plan", "--json", "--role"]
    received = json.loads(run("deploy", repository, *wanted, emulator.role_arn.rpartition("/")[2]).stdout)
    (model,) = (step["request"] for step in received["steps"] if step["operation"] == "CreateModel")
    assert model["ExecutionRoleArn"] == emulator.role_arn
    assert "/service-role/" in emulator.role_arn
    with pytest.raises(DefinitionError, match="IAM has no role 'missing'"):
        run("deploy", repository, *wanted, "missing")


@pytest.mark.parametrize("reply", ["y", "n"])
def test_a_person_is_asked(
    session: Session, repository: Path, flags: list[str], name: str, reply: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is shown, and carried out only when the answer is yes."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    done = CliRunner().invoke(cli, ["deploy", str(repository), *flags], input=f"{reply}\n", standalone_mode=False)
    assert "+ endpoint" in done.output
    assert "Apply this plan?" in done.output
    assert bool(everything(session, name)["endpoints"]) is (reply == "y")


def test_an_archive_is_deployed_as_it_is(
    session: Session, repository: Path, flags: list[str], name: str, tmp_path: Path
) -> None:
    """The very file goes up, and the same repository as a folder is the same deployment."""
    archive = tmp_path / "model.tar.gz"
    write_package(repository, archive)
    run("deploy", archive, *flags, "--yes")
    (key,) = everything(session, name)["objects"]
    bucket = f"sagemaker-{session.region}-{session.get_account()}"
    assert session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read() == archive.read_bytes()
    assert "Nothing to do" in run("deploy", repository, *flags, "--yes").output


def test_the_definition_says_what_and_flags_win(
    emulator: Emulator, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`deployment = Deployment(...)` in the definition; of several, the one that is named."""
    place = tmp_path / "repos" / "mine"
    place.mkdir(parents=True)
    (place / "definition.py").write_text(
        "from tritonforge import Input, Output, Python, File, TYPE_FP32\n"
        "from tritonforge.sagemaker.endpoints import Deployment\n"
        "echo = Python('echo', max_batch_size=4, input=[Input('IN', TYPE_FP32, [4])],\n"
        "              output=[Output('OUT', TYPE_FP32, [4])], artifact=File(path='model.py'))\n"
        f"deployment = Deployment(name='{name}', image='24.09', instance_type='ml.c5.large',\n"
        f"                        execution_role_arn='{emulator.role_arn}', environment={{'LEVEL': '1'}})\n"
    )
    (place / "model.py").write_text("class TritonPythonModel:\n    def execute(self, requests): ...\n")
    monkeypatch.chdir(tmp_path)
    plan = json.loads(run("deploy", place, "--plan", "--json", "--env", "MORE=2", "--instance-count", "2").stdout)
    requests = {step["operation"]: step["request"] for step in plan["steps"]}
    assert plan["name"] == name
    assert (tmp_path / "build" / "mine" / "echo" / "config.pbtxt").is_file()
    variant = requests["CreateEndpointConfig"]["ProductionVariants"][0]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.c5.large", 2)
    container = requests["CreateModel"]["PrimaryContainer"]
    assert container["Environment"]["LEVEL"] == "1"
    assert container["Environment"]["MORE"] == "2"
    text = (place / "definition.py").read_text()
    (place / "definition.py").write_text(text + f"other = Deployment(name='{name}-b', image='24.09')\n")
    with pytest.raises(DefinitionError, match=f"{name}, {name}-b; choose one with --name"):
        run("deploy", place, "--plan")
    assert json.loads(run("deploy", place, "--plan", "--json", "--name", name).stdout)["name"] == name
    with pytest.raises(DefinitionError, match="choose one with --name"):
        run("destroy", place, "--yes")


def test_variants_and_multi_model_from_the_command_line(
    session: Session, flags: list[str], name: str, tmp_path: Path
) -> None:
    """Several repositories by weight, or behind one container."""
    one, two = (make_repository(tmp_path / item, seed=seed) for seed, item in enumerate(("one", "two")))
    run("deploy", *flags, "--variant", f"a={one}:0.75", "--variant", f"b={two}:0.25", "--yes")
    endpoint = session.client("sagemaker").describe_endpoint(EndpointName=name)
    assert {variant["VariantName"]: variant["CurrentWeight"] for variant in endpoint["ProductionVariants"]} == {
        "a": 0.75,
        "b": 0.25,
    }
    run("deploy", one, two, *flags, "--multi-model", "--yes", "--prune")
    keys = everything(session, name)["objects"]
    assert sorted(key.rpartition("/")[2] for key in keys) == ["one.tar.gz", "two.tar.gz"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--detailed-exitcode"], "needs --plan"),
        (["--keep", "2"], "needs --prune"),
        (["--env", "A"], "expected NAME=VALUE"),
        (["--variant", "a"], "expected NAME=PATH"),
        (["--autoscaling", "1:2"], "MIN:MAX:TARGET"),
        (["--canary", "10%", "--rolling", "10%"], "exclude each other"),
        (["--wait-interval", "60"], "needs --canary, --linear or --rolling"),
        (["--rolling", "10%", "--termination-wait", "60"], "does not apply to --rolling"),
        (["--subnet", "subnet-1"], "need each other"),
        (["--serverless", "lots"], "MB:N"),
    ],
)
def test_flags_that_cannot_be_meant(repository: Path, flags: list[str], arguments: list[str], sentence: str) -> None:
    """One sentence, exit code 2, nothing called."""
    import click

    with pytest.raises(click.UsageError, match=sentence):
        run("deploy", repository, *flags, "--yes", *arguments)


def test_nothing_that_is_secret_is_printed(repository: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither credentials nor variables that are named like secrets, in a plan, in JSON or in an error."""
    hidden = {"AWS_SECRET_ACCESS_KEY": "sEcReT-of-aws", "AWS_ACCESS_KEY_ID": "AKIAHIDDENHIDDEN0001"}
    for name, value in hidden.items():
        monkeypatch.setenv(name, value)
    for extra in (["--plan"], ["--plan", "--json"], ["--yes", "--role", "arn:aws:iam::123456789012:role/absent"]):
        done = tritonforge("deploy", str(repository), *flags, "--env", "HF_TOKEN=hf_hidden", *extra)
        message = done.stdout + done.stderr
        assert message
        assert not any(value in message for value in (*hidden.values(), "hf_hidden"))
