"""AWS's SageMaker SDK 2 as its users use it: a script of this machine runs as a processing job.

Run in the environment that `tritonforge emulate --env` prints; the argument is the image. Nothing of tritonforge is
imported.
"""

import json
import sys
import tempfile
from pathlib import Path

import sagemaker
from sagemaker.processing import ProcessingInput, ProcessingOutput, ScriptProcessor

SCRIPT = """
import pathlib, sys
print("the script runs with", *sys.argv[1:], flush=True)
base = pathlib.Path("/opt/ml/processing")
text = " ".join(path.read_text() for path in sorted((base / "in").iterdir()))
(base / "out" / "upper.txt").write_text(text.upper())
pathlib.Path("/opt/ml/output/message").write_text("done")
"""

session = sagemaker.Session()
folder = Path(tempfile.mkdtemp())
(folder / "script.py").write_text(SCRIPT)
data = Path(tempfile.mkdtemp())
for name, text in {"1.txt": "one", "2.txt": "two"}.items():
    (data / name).write_text(text)
processor = ScriptProcessor(
    image_uri=sys.argv[1],
    command=["python3"],
    role=sagemaker.get_execution_role(),
    instance_count=1,
    instance_type="ml.m5.large",
    sagemaker_session=session,
)
processor.run(
    code=str(folder / "script.py"),
    inputs=[ProcessingInput(source=str(data), destination="/opt/ml/processing/in")],
    outputs=[ProcessingOutput(source="/opt/ml/processing/out", output_name="upper")],
    arguments=["--shout"],
)
job = processor.latest_job.describe()
uri = job["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
bucket, _, prefix = uri.removeprefix("s3://").partition("/")
report = {
    "status": job["ProcessingJobStatus"],
    "message": job["ExitMessage"],
    "outputs": [key.removeprefix(f"{prefix}/") for key in session.list_s3_files(bucket, prefix)],
    "content": session.read_s3_file(bucket, f"{prefix}/upper.txt"),
}
Path(sys.argv[2]).write_text(json.dumps(report))
