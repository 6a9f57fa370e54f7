# tritonforge's command line for CI: builds, checks and serves model repositories without a GPU.
#   docker build -t tritonforge .
#   docker run --rm -v "$PWD:/work" tritonforge build repos/digits --check
FROM python:3.11-slim-bookworm

WORKDIR /opt/tritonforge
COPY pyproject.toml README.md ./
COPY tritonforge ./tritonforge
RUN pip install --no-cache-dir '.[local,grpc,aws]' \
 && useradd --create-home --uid 1000 forge

USER forge
WORKDIR /work
ENTRYPOINT ["tritonforge"]
CMD ["--help"]
