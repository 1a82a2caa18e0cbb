# Everything runs from a virtual environment that the first command makes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Only these: to collect the other files means to import what they test.
WAITING = $(shell grep -rl --include='test_*.py' 'mark\.integration' tests)

.PHONY: quickstart test soak gpu-check calibrate setup lint types browser pretrain-embedded clean

quickstart: $(READY)  ## The main job: a small real ablation, end to end
	$(BIN)/advlora ablate quickstart

# Unit tests compute on one core each; of the integration tests two share a machine, for they wait for processes as well.
test: $(READY)  ## Unit and integration tests
	$(BIN)/python -m pytest -m "unit and not gpu and not slow" --numprocesses auto --maxprocesses 4 --dist loadfile --durations=30
	$(BIN)/python -m pytest -m "integration and not gpu and not slow and not browser" --numprocesses 2 --dist loadfile --durations=30 $(WAITING)

soak: $(READY)  ## What takes longer: full-size models, and signals and rivals that meet a study that runs
	$(BIN)/python -m pytest -m "slow and not gpu and not browser"

gpu-check: $(READY)  ## What only a GPU can show: its tests and benchmarks, in one report
	$(BIN)/python -m benchmarks.gpu_check

calibrate: $(READY)  ## Make again what `advlora doctor` compares with
	$(BIN)/python -m scripts.embedded.calibrate

setup: $(READY)  ## Make .venv and install the project into it

# An old pip does not finish resolving these requirements, so it is upgraded first.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(READY)

lint: $(READY)  ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## Static types of both packages
	$(BIN)/mypy

browser: $(READY)  ## Tests that open pages in Chromium
	$(BIN)/python -m pytest -m browser

pretrain-embedded: $(READY)  ## Make the shipped data and model again (about half an hour on two free cores)
	$(BIN)/python -m scripts.embedded.pack
	$(BIN)/python -m scripts.embedded.pack_emoji
	$(BIN)/python -m scripts.embedded.pretrain
	$(BIN)/python -m scripts.embedded.card
	$(BIN)/python -m scripts.embedded.calibrate

clean:  ## Remove the environment and all results
	rm -rf $(VENV) build runs mlflow.db mlartifacts
