"""The serve script's rules, beside what the script itself printed when it was run with a stand-in for tritonserver.

The repository of multi-model mode stood for a scratch folder there; here it is the script's own /tmp/sagemaker.
"""

import pytest

from tritonforge.emulator.hosting.container_images import FolderListing, run_serve_script

START = "--allow-sagemaker=true --allow-http=false --model-control-mode=explicit --model-repository=/opt/ml/model/"
NAMESPACING = "--model-namespacing=true"
OFF = "--allow-grpc=false --allow-metrics=false --log-verbose=true"
SHM = "--backend-config=python,shm-default-byte-size=16777216 --backend-config=python,shm-growth-byte-size=1048576"
USUAL = f"{START} {NAMESPACING} {OFF} {SHM} --load-model="
MULTI = f"{USUAL.removesuffix(' --load-model=')}".replace("/opt/ml/model/", "/tmp/sagemaker")
ONE = FolderListing(("m1",))
TWO = FolderListing(("m2", "m1"))
DEFAULT = "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"
WARNING = (
    "WARNING: No SAGEMAKER_TRITON_DEFAULT_MODEL_NAME provided.",
    "         Starting with the only existing model directory m1",
)


def several(*names: str) -> tuple[str, ...]:
    """The script's error for several directories."""
    return (
        "ERROR: More than 1 model directory found in model repository.",
        f"       Either provide a single directory or set {DEFAULT} to run the ensemble backend.",
        f"       Directories found in model repository: {' '.join(names)}",
    )


ALL = {
    "SAGEMAKER_BIND_TO_PORT": "8081",
    "SAGEMAKER_SAFE_PORT_RANGE": "9000-9100",
    "SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--strict-model-config=true",
    "SAGEMAKER_TRITON_ALLOW_GRPC": "true",
    "SAGEMAKER_TRITON_ALLOW_METRICS": "true",
    "SAGEMAKER_TRITON_BUFFER_MANAGER_THREAD_COUNT": "3",
    "SAGEMAKER_TRITON_DISABLE_MODEL_NAMESPACING": "true",
    "SAGEMAKER_TRITON_GRPC_PORT": "2",
    "SAGEMAKER_TRITON_LOG_ERROR": "0",
    "SAGEMAKER_TRITON_LOG_INFO": "0",
    "SAGEMAKER_TRITON_LOG_VERBOSE": "0",
    "SAGEMAKER_TRITON_LOG_WARNING": "0",
    "SAGEMAKER_TRITON_METRICS_PORT": "1",
    "SAGEMAKER_TRITON_SHM_DEFAULT_BYTE_SIZE": "5",
    "SAGEMAKER_TRITON_SHM_GROWTH_BYTE_SIZE": "6",
    "SAGEMAKER_TRITON_TENSORFLOW_VERSION": "2",
    "SAGEMAKER_TRITON_THREAD_COUNT": "4",
}
ALL_ARGUMENTS = (
    f"{START} {NAMESPACING} --sagemaker-port=8081 --sagemaker-safe-port-range=9000-9100 --allow-grpc=true "
    "--allow-metrics=true --metrics-port=1 --grpc-port=2 --buffer-manager-thread-count=3 --sagemaker-thread-count=4 "
    "--log-verbose=0 --log-info=0 --log-warning=0 --log-error=0 --backend-config=python,shm-default-byte-size=5 "
    "--backend-config=python,shm-growth-byte-size=6 --backend-config=tensorflow,version=2 --strict-model-config=true "
    "--load-model=m1"
)

#: environment, what lies in the folder, what was printed, the exit status or tritonserver's arguments
RECORDED = {
    "an empty folder": ({}, FolderListing(), ("ERROR: No model found in model repository",), 1),
    "one directory": ({}, ONE, WARNING, f"{USUAL}m1"),
    "default model": ({DEFAULT: "m1"}, ONE, (), f"{USUAL}m1"),
    "a default model that is not there": (
        {DEFAULT: "zz"},
        ONE,
        ("ERROR: Directory with provided SAGEMAKER_TRITON_DEFAULT_MODEL_NAME zz does not exist",),
        1,
    ),
    "two directories": ({}, TWO, several("m2", "m1"), 1),
    "two directories, default m2": ({DEFAULT: "m2"}, TWO, (), f"{USUAL}m2"),
    "a model and code/": ({}, FolderListing(("code", "m1")), several("code", "m1"), 1),
    "config.pbtxt at the top": (
        {},
        FolderListing(("1",), has_config=True),
        ("ERROR: Incorrect directory structure.", "       Model directory needs to contain the top level folder"),
        1,
    ),
    "a hidden directory": ({}, FolderListing((".git", "m1")), several(".git", "m1"), 1),
    "a link to a directory": ({}, FolderListing(("m1",), ("linked",)), WARNING, f"{USUAL}m1"),
    "multi-model": (
        {"SAGEMAKER_MULTI_MODEL": "true"},
        FolderListing(),
        ('Triton is running in SageMaker MME mode. Using Triton ping mode: "live"',),
        MULTI,
    ),
    "multi-model, misspelt": ({"SAGEMAKER_MULTI_MODEL": "True"}, ONE, WARNING, f"{USUAL}m1"),
    "multi-model, another ping mode": (
        {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_TRITON_OVERRIDE_PING_MODE": "ready"},
        FolderListing(),
        ('Triton is running in SageMaker MME mode. Using Triton ping mode: "ready"',),
        MULTI,
    ),
    "every variable": (ALL, ONE, WARNING, ALL_ARGUMENTS),
    "an inference type that does not exist": (
        {"SAGEMAKER_TRITON_INFERENCE_TYPE": "foo"},
        ONE,
        (
            "ERROR: Invalid SAGEMAKER_TRITON_INFERENCE_TYPE 'foo'",
            "       Must be one of: infer, generate, generate_stream",
        ),
        1,
    ),
    "generate": ({"SAGEMAKER_TRITON_INFERENCE_TYPE": "generate"}, ONE, WARNING, f"{USUAL}m1"),
    "a ping mode of its own": ({"SAGEMAKER_TRITON_PING_MODE": "ready"}, ONE, WARNING, f"{USUAL}m1"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_the_script_is_followed_to_the_letter(name: str) -> None:
    """Printed lines, exit status, arguments and their order are those of the script."""
    environment, listing, printed, expected = RECORDED[name]
    outcome = run_serve_script(environment, listing)
    assert outcome.output == printed
    if isinstance(expected, int):
        assert (outcome.exit_code, outcome.arguments) == (expected, ())
    else:
        assert (outcome.exit_code, " ".join(outcome.arguments)) == (0, expected)


def test_the_default_model_is_exported() -> None:
    """The script sets the variable for tritonserver where it found the model by itself; none in multi-model mode."""
    assert run_serve_script({}, ONE).exports == {DEFAULT: "m1"}
    assert run_serve_script({"SAGEMAKER_MULTI_MODEL": "true"}, ONE).exports == {}


def test_older_scripts_do_not_read_newer_variables() -> None:
    """A value that 25.04 refuses is nothing to the script of 24.09, and 23.01 has no additional arguments."""
    environment = {
        "SAGEMAKER_TRITON_INFERENCE_TYPE": "foo",
        "SAGEMAKER_TRITON_ADDITIONAL_ARGS": "--exit-on-error=false",
    }
    assert run_serve_script(environment, ONE, release="25.04").exit_code == 1
    of_2409, of_2301 = (
        run_serve_script(environment, ONE, release="24.09"),
        run_serve_script(environment, ONE, release="23.01"),
    )
    assert "--exit-on-error=false" in of_2409.arguments
    assert of_2301.exit_code == 0
    assert "--exit-on-error=false" not in of_2301.arguments


def test_values_are_split_at_blanks_as_the_shell_does() -> None:
    """What follows a blank in a value is an argument of its own: a habit in the wild for older images."""
    environment = {"SAGEMAKER_TRITON_LOG_INFO": "false --load-model=encoder"}
    assert {"--log-info=false", "--load-model=encoder", "--load-model=m1"} <= set(
        run_serve_script(environment, ONE).arguments
    )


def test_the_error_is_one_sentence() -> None:
    """The reason joins the lines of the error; without one it is empty."""
    assert run_serve_script({}, TWO).reason == (
        "More than 1 model directory found in model repository. Either provide a single directory or set "
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME to run the ensemble backend. Directories found in model repository: m2 m1"
    )
    assert run_serve_script({}, ONE).reason == ""
