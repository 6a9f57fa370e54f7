# Four images, chosen by --target.
#
# 1. tritonforge's command line for CI (the default): builds, checks and serves model repositories without a GPU.
#      docker build -t tritonforge .
#      docker run --rm -v "$PWD:/work" tritonforge build repos/digits --check
#
# 2. sagemaker-tensorflow: AWS's Triton image with a TensorFlow backend again, for models that stay on TensorFlow.
#    AWS's last image with NVIDIA's is 24.09. Log in to the registry of the image first (aws ecr get-login-password);
#    name the image of your region and release, then push the result to a registry of yours:
#      docker build --target sagemaker-tensorflow -t <your registry>/tritonserver-tensorflow:26.05-py3 \
#        --build-arg TRITON_IMAGE=763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:26.05-py3 .
#    To tritonforge that image is 26.05+tensorflow: tritonforge validate REPO --image 26.05+tensorflow
#
# 3. train: the detector's training image (repos/detector), as SageMaker runs it in training jobs and AWS Marketplace in
#    algorithms. CPU only, and without network when it runs:
#      docker build --target train -t <your registry>/detector-train .
#      docker run --rm --network none -v "$PWD/input:/opt/ml/input:ro" -v "$PWD/model:/opt/ml/model" \
#        -v "$PWD/output:/opt/ml/output" <your registry>/detector-train train
#
# 4. serve: the detector's inference image, for endpoints and batch transform: the real tritonserver inside.
#      docker build --target serve -t <your registry>/detector-serve .
#      docker run --rm -p 8080:8080 -v "$PWD/model:/opt/ml/model:ro" <your registry>/detector-serve serve
#
# Without Docker: tritonforge algorithm run train|serve repos/detector ... does the same in namespaces.
ARG TRITON_IMAGE=763104351884.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tritonserver:26.05-py3

# What SageMaker needs stays as AWS made it: the labels (bind to a port, multi-model), `serve` as the command, the ports.
FROM ${TRITON_IMAGE} AS sagemaker-tensorflow

# A folder with a model.py is a backend of Triton's ("python-based"). The packages lie in it, so that the image's own
# Python, which models of the python backend share, stays as it is; nothing is fetched when the container runs.
COPY tritonforge/serving/backends/tensorflow/model.py tritonforge/serving/backends/tensorflow/requirements.txt \
     /opt/tritonserver/backends/tensorflow/
RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--no-deps", "--only-binary=:all:", "--require-hashes", \
     "--target=/opt/tritonserver/backends/tensorflow/packages", \
     "--requirement=/opt/tritonserver/backends/tensorflow/requirements.txt"]
COPY tritonforge /opt/tritonserver/backends/tensorflow/packages/tritonforge

# The detector's images. SageMaker runs `docker run IMAGE train` and `docker run IMAGE serve`: env executes the argument
# from the PATH, where the program folder comes first, and is gone; no shell and no init stands between it and SIGTERM.
# There is no USER: SageMaker expects that a container runs as root, who owns /opt/ml there.
FROM python:3.11-slim-bookworm AS train

COPY repos/detector/requirements/train.txt /opt/requirements.txt
RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--no-deps", "--only-binary=:all:", "--require-hashes", \
     "--root-user-action=ignore", "--requirement=/opt/requirements.txt"]
COPY tritonforge /opt/tritonforge/tritonforge
COPY repos/detector /opt/program
ENV PATH=/opt/program:${PATH} \
    PYTHONPATH=/opt/tritonforge \
    PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8
ENTRYPOINT ["/usr/bin/env"]
CMD ["train"]

FROM python:3.11-slim-bookworm AS serve

COPY repos/detector/requirements/serve.txt /opt/requirements.txt
RUN ["python3", "-m", "pip", "install", "--no-cache-dir", "--no-deps", "--only-binary=:all:", "--require-hashes", \
     "--root-user-action=ignore", "--requirement=/opt/requirements.txt"]
COPY tritonforge /opt/tritonforge/tritonforge
COPY repos/detector /opt/program
ENV PATH=/opt/program:${PATH} \
    PYTHONPATH=/opt/tritonforge \
    PYTHONUNBUFFERED=1 \
    LANG=C.UTF-8
# The program listens on SAGEMAKER_BIND_TO_PORT where the platform sets it (several containers behind one endpoint).
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
EXPOSE 8080
ENTRYPOINT ["/usr/bin/env"]
CMD ["serve"]

# The image with a C compiler, which the wheel's library is made with (hatch_build.py).
FROM python:3.11-bookworm AS wheel

WORKDIR /opt/tritonforge
COPY pyproject.toml README.md hatch_build.py ./
COPY tritonforge ./tritonforge
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm

COPY --from=wheel /wheels /wheels
# The requirements of the wheel are in pyproject.toml.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir /wheels/*.whl 'tritonforge[local,grpc,aws]' \
 && useradd --create-home --uid 1000 forge

USER 1000
WORKDIR /work
ENTRYPOINT ["tritonforge"]
CMD ["--help"]
