"""Prove and measure on an NVIDIA GPU what a CPU cannot; the result is one JSON file, written after every stage.

    python tests/benchmarks/gpu/gpu_check.py --wheels PARTS --work WORK --result gpu.json

needs Python and a GPU, and no network: it installs from a folder of wheels, or of their parts (`collect.py`). A stage
that succeeded is not repeated by a later run with the same --work; one that failed or ran out of time is. Stages:

    environment  the GPU, its driver, Python
    install      a virtual environment of the wheels, and the repository
    dali         model.dali, which was made on a machine without a GPU, loads and runs on this one; images/s
    serve        the wheel's tritonserver 2.51 loads the repository on the GPU and answers
    throughput   images/s of decoding and ResNet-50 as an ensemble, beside the model alone and in process

Exit status: 0 all stages succeeded, 1 one failed, 3 this machine has no NVIDIA GPU.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from parts import join_parts

#: Images/s that the issue states for ResNet-50 batch transforms on two V100 (ml.p3.2xlarge), without and with tuning.
BASELINE: Final = {"two_v100_images_per_second": [139, 208]}

BATCH: Final = 8
SECONDS: Final = 10.0

#: Load: programs, and connections of each. One Python program cannot saturate a GPU.
PROGRAMS: Final = 6
CONNECTIONS: Final = 4

#: Largest difference of a pixel between decoding on the GPU and on the CPU: they round and resize differently.
PIXEL_TOLERANCE: Final = 12.0

NO_GPU: Final = 3

Result = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Run the stages that are not done yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--wheels", type=Path, help="folder of wheels and repository.tar, or of their parts")
    parser.add_argument("--work", type=Path, default=Path("gpu-work"), help="default: %(default)s")
    parser.add_argument("--result", type=Path, default=Path("gpu.json"), help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=9.0, help="stop after this long (default: %(default)s)")
    parser.add_argument("--no-install", action="store_true", help="use the packages of this Python")
    parser.add_argument("--allow-cpu", action="store_true", help="run without a GPU, to test this script")
    parser.add_argument("--stage", help=argparse.SUPPRESS)  # one stage, in the environment that was installed
    parser.add_argument("--load", nargs=4, help=argparse.SUPPRESS)  # url, file of a body, header length, seconds
    options = parser.parse_args(arguments)
    if options.load:
        print(json.dumps(send_load(*options.load)))  # noqa: T201 - to the program that started this one
        return 0
    if options.stage:
        print(json.dumps(STAGES[options.stage](options)))  # noqa: T201
        return 0
    return run_stages(options)


def run_stages(options: argparse.Namespace) -> int:
    """Run stages one after another, and write the result after each one; returns the exit status."""
    deadline = time.monotonic() + 60 * options.minutes
    result: Result = json.loads(options.result.read_text()) if options.result.is_file() else {}
    options.work.mkdir(parents=True, exist_ok=True)
    for name in STAGES:
        if result.get(name, {}).get("ok"):
            continue
        began = time.monotonic()
        result[name] = run_stage(name, options, timeout=deadline - began)
        result[name]["seconds"] = round(time.monotonic() - began, 1)
        has_gpu = name != "environment" or result[name].get("gpu") or options.allow_cpu
        result[name]["ok"] = bool(has_gpu) and result[name]["ok"]  # without one the next run looks again
        write_result(options.result, result)
        print(f"{name}: {json.dumps(result[name])}", flush=True)  # noqa: T201 - a program that is run by hand
        if not has_gpu:
            return NO_GPU
        if not result[name]["ok"]:
            return 1
    return 0


def run_stage(name: str, options: argparse.Namespace, *, timeout: float) -> Result:
    """Return what a stage found out, with ``ok``; later stages run in the environment that was installed."""
    if timeout <= 0:
        return {"ok": False, "error": "no time is left; run this again"}
    if name in ("environment", "install"):
        try:
            return {"ok": True, **STAGES[name](options)}
        except Exception as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}
    command = [find_python(options), str(Path(__file__).absolute()), "--stage", name, "--work", str(options.work)]
    command += ["--allow-cpu"] if options.allow_cpu else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {"ok": False, "error": f"not done after {timeout:.0f} s; run this again"}
    if done.returncode:
        return {"ok": False, "error": done.stderr[-4000:]}
    found: Result = json.loads(done.stdout.splitlines()[-1])
    return {"ok": True, **found}


def find_python(options: argparse.Namespace) -> str:
    """Return the Python that has the packages."""
    return sys.executable if options.no_install else str(options.work.absolute() / "venv" / "bin" / "python")


def write_result(path: Path, result: Result) -> None:
    """Replace the result as a whole."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({**result, "baseline": BASELINE}, indent=1) + "\n")
    partial.replace(path)


def check_environment(options: argparse.Namespace) -> Result:
    """The machine."""
    program = shutil.which("nvidia-smi")
    gpus: list[str] = []
    if program is not None:
        query = [program, "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
        gpus = done.stdout.split("\n")[:-1] if done.returncode == 0 else []
    return {
        "gpu": gpus,
        "python": platform.python_version(),
        "system": " ".join(os.uname()[index] for index in (0, 2, 4)),
        "libc": " ".join(platform.libc_ver()),
        "cores": os.cpu_count(),
    }


def install(options: argparse.Namespace) -> Result:
    """The wheels into an environment of their own, and the repository, on the GPU where there is one."""
    files = options.work / "files"
    if options.wheels is not None and (missing := join_parts(options.wheels, files)):
        raise FileNotFoundError(f"parts are missing of {', '.join(missing)}; bring them and run this again")
    with tarfile.open(files / "repository.tar") as archive:
        archive.extractall(options.work, filter="data")
    place_models(options.work / "repository", kind="KIND_GPU" if check_environment(options)["gpu"] else "KIND_CPU")
    if options.no_install:
        return {"wheels": []}
    wheels = sorted(path.name for path in files.glob("*.whl"))
    environment = options.work / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", environment], check=True)
    (pip,) = files.glob("pip-*.whl")
    # pip runs out of its own wheel: not every Python has it.
    command = [str(environment / "bin" / "python"), str(pip / "pip"), "install", "--no-index", "--no-deps"]
    command += ["--no-compile", *(str(files / name) for name in wheels)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return {"wheels": wheels}


def place_models(repository: Path, *, kind: str) -> None:
    """Ask for one GPU for each step, and run the network by `resnet_model.py`: the local ONNX backend uses the CPU."""
    for name in ("preprocess_resnet50", "resnet50"):
        path = repository / name / "config.pbtxt"
        lines = path.read_text().splitlines()
        lines = [line for line in lines if not line.startswith(("platform:", "instance_group", "default_model"))]
        lines.append(f"instance_group {{ count: 1 kind: {kind} }}")
        if name == "resnet50":
            lines.append('backend: "python"')
            shutil.copyfile(Path(__file__).with_name("resnet_model.py"), repository / name / "1" / "model.py")
        path.write_text("\n".join(lines) + "\n")


def check_dali(options: argparse.Namespace) -> Result:
    """Load ``model.dali`` on the GPU, compare its pixels with those of the CPU, and time it."""
    import numpy as np
    from nvidia import dali

    from tritonforge.model_files.dali_pipeline import move_to_cpu, read_signature

    data = (options.work / "repository" / "preprocess_resnet50" / "1" / "model.dali").read_bytes()
    on_gpu = bool(check_environment(options)["gpu"])
    images = [np.frombuffer(image, np.uint8) for image in read_images(options.work, 32)]
    name = read_signature(data).inputs[0].name
    pixels, rates = {}, {}
    for device in ("cpu", *(["gpu"] if on_gpu else [])):
        pipeline = dali.Pipeline.deserialize(
            serialized_pipeline=data if device == "gpu" else move_to_cpu(data),
            batch_size=len(images), num_threads=4, device_id=0 if device == "gpu" else None, prefetch_queue_depth=1,
        )  # fmt: skip
        pipeline.build()

        def decode(pipeline: Any = pipeline) -> Any:
            pipeline.feed_input(name, images)
            return np.array(pipeline.run()[0].as_cpu().as_array())

        pixels[device] = decode()
        rates[device] = len(images) * measure_rate(decode)
    found: Result = {"dali": dali.__version__, "images_per_second": rates, "shape": list(pixels["cpu"].shape)}
    if on_gpu:
        found["largest_difference"] = float(np.abs(pixels["gpu"] - pixels["cpu"]).max())
        found["mean_difference"] = float(np.abs(pixels["gpu"] - pixels["cpu"]).mean())
        if found["mean_difference"] > PIXEL_TOLERANCE:
            raise ValueError(f"the GPU gives other pixels than the CPU: {found}")
    return found


def measure_rate(call: Callable[[], Any], seconds: float = 3.0) -> float:
    """Return calls per second, after one that is not counted."""
    call()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - began)


def start_server(options: argparse.Namespace) -> Any:
    """Return a running server of the repository."""
    # The server's libraries are linked to NVIDIA's, which wheels bring into folders of their own.
    import importlib.util

    from tritonforge.serving.server import Server

    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else [
        str(path) for place in spec.submodule_search_locations or () for path in Path(place).glob("*/lib")
    ]  # fmt: skip
    os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([*folders, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
    return Server(
        options.work / "repository",
        sagemaker_port=None,
        http_port=0,
        grpc_port=None,
        metrics_port=None,
        log=options.work / "server.log",
    )


def check_serving(options: argparse.Namespace) -> Result:
    """Start the server and send one request to the ensemble."""
    began = time.monotonic()
    with start_server(options) as server:
        ready = time.monotonic() - began
        scores = send_request(server.http_url, "ensemble_resnet50", build_body(options, "ensemble_resnet50"))
        log = (options.work / "server.log").read_text(errors="replace")
    return {
        "ready_seconds": round(ready, 1),
        "warnings": list(server.warnings),
        "answer_bytes": len(scores),
        "gpu_instances": log.count("(GPU device"),
        "cuda_lines": [line[:300] for line in log.splitlines() if "CUDA" in line or "dcgm" in line.lower()][:10],
    }


def measure_throughput(options: argparse.Namespace) -> Result:
    """Images/s through the server for the ensemble and the model alone, in turn, and in process."""
    import onnxruntime

    rates: dict[str, list[float]] = {"ensemble_resnet50": [], "resnet50": []}
    with start_server(options) as server:
        for name in rates:
            send_request(server.http_url, name, build_body(options, name))
        for _ in range(2):
            for name, values in rates.items():
                values.append(run_load(server.http_url, name, build_body(options, name), options.work))
    found: Result = {f"{name}_images_per_second": max(values) for name, values in rates.items()}
    found["rounds"] = rates
    found["ratio_of_ensemble_to_model"] = max(rates["ensemble_resnet50"]) / max(rates["resnet50"])
    found["onnxruntime"] = onnxruntime.__version__
    found["in_process_images_per_second"] = measure_in_process(options)
    return found


def measure_in_process(options: argparse.Namespace) -> float:
    """Images/s of the network alone in this process, in batches of 32."""
    import numpy as np
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    if check_environment(options)["gpu"]:
        onnxruntime.preload_dlls()
        providers = ["CUDAExecutionProvider"]
    path = options.work / "repository" / "resnet50" / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=providers)
    batch = np.zeros((32, 224, 224, 3), np.float32)
    name = session.get_inputs()[0].name
    return 32 * measure_rate(lambda: session.run(None, {name: batch}))


def read_images(work: Path, count: int) -> list[bytes]:
    """Two photographs in turn."""
    return [(work / "images" / ("china.jpg", "flower.jpg")[index % 2]).read_bytes() for index in range(count)]


def build_body(options: argparse.Namespace, model: str) -> tuple[bytes, int]:
    """Return the body of a request of one batch, and the length of its JSON header."""
    import numpy as np

    from tritonforge.inference.wire import encode_request, pad_batch

    batch: Any = np.zeros((BATCH, 224, 224, 3), np.float32)
    if model == "ensemble_resnet50":
        batch = pad_batch(read_images(options.work, BATCH))
    payload = encode_request({"INPUT" if model == "ensemble_resnet50" else "input": batch})
    return b"".join(bytes(buffer) for buffer in payload.buffers), payload.header_length


def send_request(url: str, model: str, body: tuple[bytes, int]) -> bytes:
    """Return the answer to one request; raises RuntimeError unless it is 200."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    connection.request("POST", f"/v2/models/{model}/infer", body[0], {"Inference-Header-Content-Length": str(body[1])})
    response = connection.getresponse()
    answer = response.read()
    if response.status != http.client.OK:
        raise RuntimeError(f"{model}: {response.status} {answer[:1000].decode(errors='replace')}")
    return answer


def run_load(url: str, model: str, body: tuple[bytes, int], work: Path) -> float:
    """Return images/s of several programs with several connections each."""
    path = work / f"{model}.body"
    path.write_bytes(body[0])
    command = [sys.executable, str(Path(__file__).absolute()), "--load", f"{url}/v2/models/{model}/infer", str(path)]
    command += [str(body[1]), str(SECONDS)]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROGRAMS)]
    rates = [json.loads(program.communicate()[0]) for program in programs]
    return float(sum(rates)) * BATCH


def send_load(url: str, path: str, header_length: str, seconds: str) -> float:
    """Return requests per second of this program's connections."""
    host, _, target = url.removeprefix("http://").partition("/")
    body, counts, ended = Path(path).read_bytes(), [0] * CONNECTIONS, time.perf_counter() + float(seconds)

    def work(index: int) -> None:
        connection = http.client.HTTPConnection(host, timeout=120)
        while time.perf_counter() < ended:
            connection.request("POST", f"/{target}", body, {"Inference-Header-Content-Length": header_length})
            response = connection.getresponse()
            response.read()
            if response.status != http.client.OK:
                traceback.print_stack()
                os._exit(1)
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(CONNECTIONS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


STAGES: Final[dict[str, Callable[[argparse.Namespace], Result]]] = {
    "environment": check_environment,
    "install": install,
    "dali": check_dali,
    "serve": check_serving,
    "throughput": measure_throughput,
}


if __name__ == "__main__":
    sys.exit(main())
