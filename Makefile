# Everything a person who just cloned needs. Start with: make quickstart

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# torch and torchvision go first and together, so that the resolver picks two that belong to each other.
TORCH ?= torch torchvision
# Bytecode is made for what is imported, when it is imported: a third of the install time saved.
# So it must be allowed to be kept: without it each of the quickstart's ten commands compiles torch and transformers anew.
PIP_FLAGS ?= --no-compile --disable-pip-version-check --quiet
unexport PYTHONDONTWRITEBYTECODE
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-hub test-optimum test-triton test-scale reliability nightly check format bench system-deps clean clean-all

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

install: $(INSTALLED)  ## make .venv and install everything in it

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found; name it with PYTHON=..." >&2; exit 1; }
	@echo "Installing into $(VENV) (a few minutes, once) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) --upgrade pip
	$(BIN)/python -m pip install $(PIP_FLAGS) $(TORCH)
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[dev]'
	@touch $@

quickstart: $(INSTALLED)  ## the whole path on made-up scenes, in .quickstart
	$(BIN)/vlkd quickstart $(ARGS)

test: $(INSTALLED)  ## the default tests, two at a time: CPU, no network; ARGS="-k word" narrows them
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# Environments of their own, for packages that want other versions than ours. They see what $(VENV) holds, torch above
# all, behind what they install themselves.
OPTIMUM := $(VENV)-optimum
TRITON := $(VENV)-triton

$(VENV)-%/.made: $(INSTALLED)
	$(BIN)/python -m venv $(VENV)-$*
	$(BIN)/python tests/own_environment.py $(VENV)-$*
	@touch $@

$(OPTIMUM)/.installed: $(OPTIMUM)/.made
	$(OPTIMUM)/bin/python -m pip install $(PIP_FLAGS) 'optimum-onnx==0.1.0' 'transformers>=4.57,<4.58'
	@touch $@

$(TRITON)/.installed: $(TRITON)/.made
	$(TRITON)/bin/python -m pip install $(PIP_FLAGS) 'tritonclient[grpc]>=2.60'
	@touch $@

# The default tests' settings make every warning an error, and transformers 4.57 warns.
OWN_PYTEST := -m pytest -o addopts= -o filterwarnings= --import-mode=importlib -q

test-optimum: $(OPTIMUM)/.installed  ## optimum-cli and ORTModel with our models, on transformers 4.57
	rm -rf $(OPTIMUM)/exchange && mkdir -p $(OPTIMUM)/exchange
	HF_HUB_OFFLINE=1 $(BIN)/python tests/export/optimum/exchange.py write $(OPTIMUM)/exchange
	HF_HUB_OFFLINE=1 VLKD_SAVED_BY_5=$(abspath $(OPTIMUM)/exchange) \
		$(OPTIMUM)/bin/python $(OWN_PYTEST) tests/export/optimum/run_in_own_environment.py $(ARGS)
	HF_HUB_OFFLINE=1 $(BIN)/python tests/export/optimum/exchange.py check $(OPTIMUM)/exchange

test-triton: $(TRITON)/.installed  ## the Triton repository, parsed by Triton's own protobuf
	$(TRITON)/bin/python $(OWN_PYTEST) tests/export/triton/run_in_own_environment.py $(ARGS)

# What somebody has who loads a student from the Hub and does not know this package.
VENV_HUB ?= $(VENV)-hub
INSTALLED_HUB := $(VENV_HUB)/.installed

$(INSTALLED_HUB):
	@echo "Installing a second environment into $(VENV_HUB) ..."
	$(PYTHON) -m venv $(VENV_HUB)
	$(VENV_HUB)/bin/python -m pip install $(PIP_FLAGS) $(TORCH) transformers timm
	@touch $@

test-hub: $(INSTALLED) $(INSTALLED_HUB)  ## a pushed student in an environment without vlkd-hub
	VLKD_FRESH_PYTHON=$(abspath $(VENV_HUB))/bin/python $(BIN)/python -m pytest tests/hub/hub/test_fresh_environment.py $(ARGS)

# Ray, for what runs on several machines; nothing else here needs it.
SCALE := $(VENV)/.scale

$(SCALE): $(INSTALLED)
	$(BIN)/python -m pip install $(PIP_FLAGS) --editable '.[scale]'
	@touch $@

test-scale: $(SCALE)  ## Ray Serve and Ray Data: replicas killed under load, a few minutes
	$(BIN)/python -m pytest -m "slow or not slow" tests/serving/scale $(ARGS)

reliability: $(INSTALLED)  ## overload, SIGTERM under load and odd requests, a few minutes
	$(BIN)/python -m pytest -m slow tests/serving/reliability $(ARGS)

nightly: $(INSTALLED) $(SCALE)  ## the long reliability runs, an hour or two; goes on where it stopped; ARGS="fuzz" runs a part
	$(BIN)/python tests/nightly.py $(ARGS)

check: $(INSTALLED)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## put the code in its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## time one caption of the quickstart's student: torch, ONNX
	@test -d .quickstart/bundle || { echo "Run make quickstart first: it makes the student to time." >&2; exit 1; }
	$(BIN)/vlkd bench caption .quickstart/student .quickstart/bundle --data .quickstart/data $(ARGS)

# Best effort: without them the tests that need chromium or Java are skipped and say so.
system-deps:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		missing=""; \
		command -v chromium >/dev/null || missing="$$missing chromium"; \
		command -v java >/dev/null || missing="$$missing default-jre-headless"; \
		if [ -n "$$missing" ]; then \
			echo "Installing$$missing"; \
			{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; } \
				|| echo "Could not install$$missing; the tests that need them will be skipped." >&2; \
		fi; \
	fi

clean:  ## remove caches and builds
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

clean-all: clean  ## remove also the environment and the quickstart's output
	rm -rf $(VENV) $(VENV)-* .quickstart
