# make demo   the whole way, on drawn radiographs; SOURCE=FOLDER EPOCHS=N for real ones
# make test   everything, the device environment included
# make lint   ruff and mypy
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test lint clean

PYTHON ?= python3.11
# TensorFlow's C++ side otherwise logs its search for GPUs at every start.
export TF_CPP_MIN_LOG_LEVEL ?= 3

BIN := .venv/bin
EDGE := .venv-edge/bin
CODE := $(shell find cxr_tfds builders export -name '*.py' -not -name '*_test.py' -o -name '*.j2')

# The workstation: everything, installed from the checkout.
.venv/.done: setup.cfg constraints/workstation-3.11.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -q -c constraints/workstation-3.11.txt -e '.[train,dev]'
	touch $@

# The device: tflite-runtime and no TensorFlow, installed from the wheel.
.venv-edge/.done: .venv/.done constraints/device-3.11.txt $(CODE)
	rm -rf build/lib build/bdist.* dist
	$(BIN)/python -m build --wheel --no-isolation . > build.log || { cat build.log; exit 1; }
	rm build.log
	$(PYTHON) -m venv --clear .venv-edge
	$(EDGE)/pip install --disable-pip-version-check -q -c constraints/device-3.11.txt "$$(ls dist/*.whl)[tflite-runtime]"
	touch $@

SOURCE ?=
EPOCHS ?= $(if $(SOURCE),30,10)
WHERE := demo/$(if $(SOURCE),real,phantom)
IMAGES := $(if $(SOURCE),$(SOURCE),$(WHERE)/source/chest_xray)
MODEL := $(WHERE)/export/run-int8.tflite

demo: .venv/.done .venv-edge/.done
	$(if $(SOURCE),,$(BIN)/cxr-data phantom --out $(WHERE)/source --overwrite)
	$(BIN)/tfds build builders/chest_xray_pneumonia --manual_dir "$(IMAGES)" --data_dir $(WHERE)/data --overwrite
	$(BIN)/cxr-train --dataset chest_xray_pneumonia/224 --data-dir $(WHERE)/data --out $(WHERE)/run --epochs $(EPOCHS) --overwrite | tee $(WHERE)/metrics.txt
	$(BIN)/cxr-export $(WHERE)/run --out $(WHERE)/export --format int8 --format float32 --overwrite | tee $(WHERE)/export.txt
	$(EDGE)/cxr-infer evaluate --model $(MODEL) "$(IMAGES)/test"
	$(EDGE)/cxr-infer predict --model $(MODEL) "$$(ls "$(IMAGES)"/test/*/* | head -n 1)" "$$(ls "$(IMAGES)"/test/*/* | tail -n 1)" | tee $(WHERE)/prediction.txt
	@printf '\n%s\n' '--- The Keras model ---'; cat $(WHERE)/metrics.txt
	@printf '\n%s\n' '--- The exported files ---'; cat $(WHERE)/export.txt
	@printf '\n%s\n' '--- On the device: tflite-runtime, no TensorFlow ---'; cat $(WHERE)/prediction.txt
	@printf '\n%s\n' '--- Made here ---'; ls -d "$(IMAGES)" $(WHERE)/data/*/*/* $(WHERE)/run/* $(WHERE)/export/*

# Two processes, not one for each core: each loads TensorFlow. A file stays in one, for what its tests share.
test: lint .venv-edge/.done
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: .venv/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy cxr_tfds export builders

clean:
	rm -rf .venv .venv-edge build dist demo
