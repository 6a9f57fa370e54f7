"""Python models that break one rule each, and neighbours that do not: what the real python backend does is beside them.

``LOADED`` are models that the backend refuses or takes when it loads them; ``REQUESTED`` are models that load, with
the message that a request to them gets.
"""

from typing import NamedTuple

IO = (
    'backend: "python"\ninput [{ name: "A" data_type: TYPE_FP32 dims: [1] }]\n'
    'output [{ name: "B" data_type: TYPE_FP32 dims: [1] }]\n'
)
TEXT = IO.replace('"B" data_type: TYPE_FP32', '"B" data_type: TYPE_STRING')
DECOUPLED = "model_transaction_policy { decoupled: true }"
HEAD = "import triton_python_backend_utils as pb_utils\nimport numpy as np\n\n\n"
ONE = "return [pb_utils.InferenceResponse([pb_utils.Tensor('B', {})]) for request in requests]"
ONES = "np.ones(1, np.float32)"


def write_execute(body: str, signature: str = "self, requests") -> str:
    """Return a model with this execute."""
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    return f"{HEAD}class TritonPythonModel:\n    def execute({signature}):\n{lines}"


ECHO = write_execute(ONE.format(ONES))


def write_method(text: str) -> str:
    """Return a model with a further function."""
    return ECHO + "\n" + "".join(f"    {line}\n" for line in text.splitlines())


def write_completion(body: str, signature: str = "config", decorator: str = "@staticmethod") -> str:
    """Return a model with this auto_complete_config."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return write_method(f"{decorator}\ndef auto_complete_config({signature}):\n{lines}")


def write_request(model: str, *, output: str = "B", tensor: str = "A", sent: str = "exec()") -> str:
    """Return a model that sends a request to another one."""
    body = (
        f"answer = pb_utils.InferenceRequest(model_name='{model}', requested_output_names=['{output}'],\n"
        f"    inputs=[pb_utils.Tensor('{tensor}', {ONES})]).{sent}\n"
        "if answer.has_error():\n    raise ValueError(answer.error().message())\n"
    )
    return write_execute(body + ONE.format(ONES))


class Case(NamedTuple):
    """A model: its configuration, its model.py, the rule that it breaks ("" for none) and the backend's message."""

    config: str
    source: str
    code: str = ""
    message: str = ""


_ADD = "config.add_{}({})\nreturn config"
_WHERE = "in auto-complete-config function for model '{name}'"

LOADED: dict[str, Case] = {
    "whole": Case(IO, ECHO),
    "classless": Case(IO, "x = 1\n", "E830", "AttributeError: module '1.model' has no attribute 'TritonPythonModel'"),
    "textfile": Case(
        IO + 'default_model_filename: "model.txt"', ECHO, "E831",
        'Model name must end with \'.py\'. Model name is \\"model.txt\\".',
    ),
    "dotted": Case(
        IO + 'default_model_filename: "my.model.py"', ECHO, "E831", "ModuleNotFoundError: No module named '1.my'"
    ),
    "init": Case(
        IO, write_method("def __init__(self, args): ..."), "E832",
        "TypeError: TritonPythonModel.__init__() missing 1 required positional argument: 'args'",
    ),
    "initializeshort": Case(
        IO, write_method("def initialize(self): ..."), "E832",
        "TypeError: TritonPythonModel.initialize() takes 1 positional argument but 2 were given",
    ),
    "initializekeyword": Case(
        IO, write_method("def initialize(self, args, *, x): ..."), "E832",
        "TypeError: TritonPythonModel.initialize() missing 1 required keyword-only argument: 'x'",
    ),
    "initializestatic": Case(IO, write_method("@staticmethod\ndef initialize(args): ...")),
    "initializeasync": Case(IO, write_method("async def initialize(self, args): ..."), "W830"),
    "completeself": Case(
        IO, write_completion("return config", "self, config", ""), "E832",
        "TypeError: TritonPythonModel.auto_complete_config() missing 1 required positional argument: 'config'",
    ),
    "completeplain": Case(IO, write_completion("return config", "config", "")),
    "completeclass": Case(IO, write_completion("return config", "cls, config", "@classmethod")),
    "completenone": Case(
        IO, write_completion("config.set_max_batch_size(0)"), "E833",
        "auto_complete_config function in model '{name}' must return a valid pb.ModelConfig object.",
    ),
    "property": Case(
        IO,
        write_completion(_ADD.format("input", "{'name': 'X', 'data_type': 'TYPE_FP32', 'dims': [1], 'shape': [1]}")),
        "E834",
        f"ValueError: input 'X' {_WHERE} contains property other than 'name', 'data_type', 'dims' and 'optional'.",
    ),
    "nameless": Case(
        IO, write_completion(_ADD.format("input", "{'data_type': 'TYPE_FP32', 'dims': [1]}")), "E834",
        f"ValueError: input {_WHERE} is missing 'name' property.",
    ),
    "dimless": Case(
        IO, write_completion(_ADD.format("output", "{'name': 'X', 'data_type': 'TYPE_FP32'}")), "E834",
        f"ValueError: output 'X' {_WHERE} is missing 'dims' property.",
    ),
    "othertype": Case(
        IO, write_completion(_ADD.format("input", "{'name': 'A', 'data_type': 'TYPE_INT32', 'dims': [1]}")), "E834",
        "ValueError: unable to load model '{name}', configuration expects datatype TYPE_FP32 for input 'A', model "
        "provides TYPE_INT32",
    ),
    "otherdims": Case(
        IO, write_completion(_ADD.format("output", "{'name': 'B', 'data_type': 'TYPE_FP32', 'dims': [5]}")), "E834",
        "ValueError: model '{name}', tensor 'B': the model expects dims [5] but the model configuration specifies dims "
        "[1]",
    ),
    "tupledims": Case(
        IO, write_completion(_ADD.format("output", "{'name': 'B', 'data_type': 'TYPE_FP32', 'dims': (1,)}")), "E834",
        "ValueError: model '{name}', tensor 'B': the model expects dims (1,) but the model configuration specifies "
        "dims [1]",
    ),
    "optional": Case(
        IO,
        write_completion(
            _ADD.format("input", "{'name': 'A', 'data_type': 'TYPE_FP32', 'dims': [1], 'optional': True}")
        ),
        "E834",
        "ValueError: model '{name}', tensor 'A': the model expects optional True but the model configuration specifies "
        "optional False",
    ),
    "smallerbatch": Case(
        IO + "max_batch_size: 8", write_completion("config.set_max_batch_size(4)\nreturn config"), "E834",
        f"ValueError: configuration specified max_batch_size 8, but {_WHERE} specified max_batch_size 4",
    ),
    "largerbatch": Case(IO + "max_batch_size: 8", write_completion("config.set_max_batch_size(16)\nreturn config")),
    "scheduler": Case(
        IO + "max_batch_size: 8 sequence_batching {}", write_completion("config.set_dynamic_batching()\nreturn config"),
        "E834",
        "ValueError: Configuration specified scheduling_choice as 'sequence_batching', but auto-complete-config "
        "function for model '{name}' tries to set scheduling_choice as 'dynamic_batching'",
    ),
    "policy": Case(
        IO + "model_transaction_policy { decoupled: false }",
        write_completion("config.set_model_transaction_policy({'decoupled': True})\nreturn config"), "E834",
        "ValueError: trying to change decoupled property in auto-complete-config for model '{name}', which is already "
        "set to 'False'.",
    ),
    "looped": Case(
        'backend: "python"',
        write_completion(
            "inputs = [{'name': name, 'data_type': 'TYPE_FP32', 'dims': [0]} for name in ('A', 'C')]\n"
            "names = [tensor['name'] for tensor in config.as_dict()['input']]\n"
            "for tensor in inputs:\n    if tensor['name'] not in names:\n        config.add_input(tensor)\n"
            "config.add_output({'name': 'B', 'data_type': 'TYPE_FP32', 'dims': [1]})\nreturn config"
        ),
        "E244",
        "model input 'A' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for {name}",
    ),
    "relative": Case(IO, "from .gone import x\n" + ECHO, "E840", "ModuleNotFoundError: No module named '1.gone'"),
    "above": Case(
        IO, "from ..gone import x\n" + ECHO, "E840", "ImportError: attempted relative import beyond top-level package"
    ),
    "guarded": Case(IO, "try:\n    from .gone import x\nexcept ImportError:\n    x = None\n" + ECHO),
}  # fmt: skip

REQUESTED: dict[str, Case] = {
    "echo": Case(IO, ECHO),
    "executeless": Case(IO, "class TritonPythonModel: ...\n", "E835", "does not implement `execute` method."),
    "selfless": Case(
        IO, write_execute("return []", "requests"), "E836",
        "TypeError: TritonPythonModel.execute() takes 1 positional argument but 2 were given",
    ),
    "single": Case(
        IO, write_execute("return pb_utils.InferenceResponse([])"), "E837",
        "Expected a list in the execute return, found type '<class 'c_python_backend_utils.InferenceResponse'>'.",
    ),
    "mapping": Case(
        IO, write_execute("answer = {}\nreturn answer"), "E837",
        "Expected a list in the execute return, found type '<class 'dict'>'.",
    ),
    "inputname": Case(
        IO,
        write_execute(
            "for request in requests:\n"
            "    tensor = pb_utils.get_input_tensor_by_name(request, 'X')\n    shape = tensor.as_numpy().shape\n"
            + ONE.format(ONES)
        ),
        "E850", "AttributeError: 'NoneType' object has no attribute 'as_numpy'",
    ),
    "outputname": Case(IO, ECHO.replace("'B'", "'Z'"), "W850", '"outputs":[]'),
    "strings": Case(TEXT, write_execute(ONE.format("np.array(['a', 'b'])")), "E856", "NumPy dtype is not supported."),
    "converted": Case(
        TEXT, write_execute(ONE.format("np.ones(1).astype(str)")), "E856", "NumPy dtype is not supported."
    ),
    "listed": Case(
        IO, write_execute(ONE.format("[1.0]")), "E856", "TypeError: __init__(): incompatible constructor arguments"
    ),
    "bytestrings": Case(TEXT, write_execute(ONE.format("np.array([b'a'])"))),
    "objects": Case(TEXT, write_execute(ONE.format("np.array(['a'], dtype=np.object_)"))),
    "sends": Case(IO, write_request("echo")),
    "sendsnowhere": Case(
        IO, write_request("nosuch"), "E851",
        "Failed for execute the inference request. Model 'nosuch' is not ready.",
    ),
    "sendsoutput": Case(
        IO, write_request("echo", output="Q"), "E853", "unexpected inference output 'Q' for model 'echo'"
    ),
    "sendsinput": Case(
        IO, write_request("echo", tensor="Q"), "E853", "unexpected inference input 'Q' for model 'echo'"
    ),
    "sendsdecoupled": Case(
        IO, write_request("streams"), "E854",
        "Model streams is using the decoupled. The current BLS request call doesn't support models using the decoupled "
        "transaction policy.",
    ),
    "streams": Case(IO + DECOUPLED, write_execute("return None")),
}  # fmt: skip


def build_files(cases: dict[str, Case]) -> dict[str, str]:
    """Return the repository of these models, each in a directory with its name."""
    files = {}
    for name, case in cases.items():
        filename = case.config.partition("default_model_filename: ")[2].strip('"') or "model.py"
        files[f"{name}/config.pbtxt"] = case.config
        files[f"{name}/1/{filename}"] = case.source
    return files
