# Everything is installed into .venv. If the machine has no uv, that goes into .uv. The system stays as it is.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

VENV := .venv
BIN := $(VENV)/bin
# A shim that cannot run counts as absent.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .uv/bin/uv)
PYTHON ?= $(shell for name in python3 python python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& command -v "$$name" && break; done)
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV
EXTRAS := s3 gcs azure timm efficientnet-lite
COMMA := ,
INSTALL = $(UV) pip install --quiet --python $(BIN)/python -c requirements.lock

##@ Use

demo: $(VENV)/.runtime ## the whole pipeline on real handwritten digits: minutes, no download
	$(BIN)/edc-ray run digits

##@ Test

# Two processes: one waits for Ray to start while the other computes. Tests that share a Ray run in one process.
test: lint types docs ## everything that runs on a CPU without network: lint, types, documents, all tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests

check: lint types ## lint, types, architecture: under a minute
	$(BIN)/python -m pytest -q tests/architecture

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright

test-goldens: $(VENV)/.dev ## equality with the official code's numbers; `EDC_RAY_GOLDENS=DIR make ...` reads them in DIR
	$(BIN)/python -m pytest --continue-on-collection-errors tests/goldens

test-nightly: $(VENV)/.nightly ## the long tests; EDC_RAY_IMAGENET_SAMPLE=FILE.parquet adds those on real 224x224 images
	$(BIN)/python -m pytest -m nightly tests

fuzz: $(VENV)/.dev ## FUZZ_SECONDS=120 of coverage-guided fuzzing for each reader of foreign bytes
	$(INSTALL) -e '.[dev,s3,fuzz]'
	@set -e; for name in $$($(BIN)/python -c 'from tests.fuzz.readers import READERS; print(*READERS)'); do \
		echo "$$name"; $(BIN)/python -m tests.fuzz.fuzz_readers "$$name" $(or $(FUZZ_SECONDS),120); done

test-gpu: $(VENV)/.dev ## the tests that need a CUDA device; without one they are skipped, with the reason
	$(BIN)/python -m pytest -m gpu tests

s3-server: $(VENV)/.dev ## start a real S3 server (Ceph) on 127.0.0.1; `make s3-server-stop` ends it
	tests/s3/ceph.sh start

s3-server-stop: ## end the S3 server and delete what it stored
	tests/s3/ceph.sh stop

bench: $(VENV)/.dev ## the short form of every benchmarks/bench_*.py: under ten minutes on two cores
	@set -e; for file in $(wildcard benchmarks/bench_*.py); do \
		echo; echo "$$file"; $(BIN)/python "$$file" --short; done

# If PYTHON is given, that interpreter runs it. It needs torch with CUDA, but no Ray (benchmarks/gpu.py names the rest).
bench-gpu: $(if $(filter file,$(origin PYTHON)),$(VENV)/.dev) ## all benchmarks at the paper's sizes on CUDA, recorded; MINUTES=10 stops then; `PYTHON=python3 make ...` does without .venv
	$(if $(filter file,$(origin PYTHON)),$(BIN)/python,'$(PYTHON)') benchmarks/gpu.py $(if $(MINUTES),--minutes $(MINUTES))

##@ Work on the code

format: $(VENV)/.dev ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

configs: $(VENV)/.dev ## write the resolved configs of all datasets and methods (tests/config/resolved)
	$(BIN)/python -m tests.config.write_resolved

docs: $(VENV)/.dev ## check the documents: every link resolves, every edc-ray command in them is understood
	$(BIN)/python docs/check_documents.py
	$(BIN)/python docs/draw_architecture.py --check

diagram: $(VENV)/.dev ## draw the imports between layers into ARCHITECTURE.md
	$(BIN)/python docs/draw_architecture.py

lock: | $(UV) ## bring requirements.lock up to pyproject.toml; LOCK_FLAGS=--upgrade takes newer versions
	$(UV) pip compile --quiet --universal $(LOCK_FLAGS) pyproject.toml --extra s3 --extra dev \
		--extra timm --extra efficientnet-lite --no-emit-index-url --no-header --no-annotate -p 3.11 -o requirements.lock

install: $(VENV)/.dev ## only install, with the developer's tools

extra: $(VENV)/.runtime ## install an extra: EXTRA=s3, gcs, azure, timm or efficientnet-lite; or several, with commas
	@test -n '$(EXTRA)' -a -z '$(filter-out $(EXTRAS),$(subst $(COMMA), ,$(EXTRA)))' \
		|| { echo 'Name one or more: make extra EXTRA=s3,timm. There are $(EXTRAS)'; exit 1; }
	$(INSTALL) -e '.[$(EXTRA)]'

clean: ## delete .venv, .uv and caches; runs/ stays
	rm -rf $(VENV) .uv .pytest_cache .ruff_cache .hypothesis

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Stamps: the installation is repeated when these files change.

$(VENV)/.runtime: pyproject.toml requirements.lock | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml requirements.lock | $(BIN)/python
	$(INSTALL) -e '.[dev,s3]'
	@touch $(VENV)/.runtime $@

$(VENV)/.nightly: $(VENV)/.dev
	$(INSTALL) -e '.[dev,s3,timm,efficientnet-lite]'
	@touch $@

$(BIN)/python: | $(UV)
	@test -n '$(PYTHON)' || { echo 'No Python from 3.11 to 3.13 on PATH. Give one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11'; exit 1; }
	rm -rf $(VENV)
	$(UV) venv --quiet --python '$(PYTHON)' $(VENV)

# Debian's python3 may lack venv. Then pip, if it exists, puts uv into the same folder.
.uv/bin/uv:
	@test -n '$(PYTHON)' || { echo 'No Python from 3.11 to 3.13 on PATH. Give one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11'; exit 1; }
	rm -rf .uv
	'$(PYTHON)' -m venv .uv && .uv/bin/python -m pip install --quiet uv \
		|| { rm -rf .uv; '$(PYTHON)' -m pip install --quiet --target .uv uv; } \
		|| { rm -rf .uv; echo 'uv could not be installed: the Python above needs the module venv or pip'; exit 1; }

.PHONY: demo fuzz test check lint types test-goldens test-nightly test-gpu s3-server s3-server-stop bench bench-gpu format configs docs diagram \
	lock install extra clean help
