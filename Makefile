# make demo         run the complete way on drawn radiographs; SOURCE=FOLDER EPOCHS=N for real ones
# make test         run lint and every test, the device environment included
# make test-fast    run the quick tests only (about a minute)
# make soak         disturb all commands for 20 minutes; SOAK=2h for longer, KIND=kills for one kind
# make benchmarks   measure for about two hours and update benchmarks/README.md; ONLY=input_pipeline for one
# make peers        install the other readers that `make benchmarks` measures
# make lint         run ruff, mypy and the import contracts
# make docs         build the documentation into site/
# make pictures     draw the pictures of the documentation again
# make constraints  lock the packages of every supported Python; UPGRADE=--upgrade for newer ones
# make audit        look up known vulnerabilities of the locked packages
# make sbom         write the software bill of materials of the device, dist/device.cdx.json
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test test-fast test-device soak benchmarks peers lint docs pictures constraints audit sbom clean

PYTHON ?= python3.11
# Without this TensorFlow logs its search for GPUs at every start.
export TF_CPP_MIN_LOG_LEVEL ?= 3

SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := .venv/$(SCRIPTS)
EDGE := .venv-edge/$(SCRIPTS)
DEVICE := .venv-device/$(SCRIPTS)
CODE := $(shell find cxr_tfds builders export -name '*.py' -not -name '*_test.py' -o -name '*.j2')

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# The locked packages are installed first, each checked by its hash. cxr-tfds follows by itself, because pip takes
# no package without a hash together with packages that have one. The files are complete: pip resolves nothing.
INSTALL := pip install --disable-pip-version-check -q --no-deps
LOCKED := $(INSTALL) --require-hashes

# The workstation: all extras that development needs, installed from the checkout.
.venv/.done: setup.cfg constraints/workstation.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m $(LOCKED) -r constraints/workstation.txt
	$(BIN)/python -m $(INSTALL) --no-build-isolation -e .
	touch $@

# The device: an interpreter and no TensorFlow, installed from the wheel.
# tflite-runtime exists for Python 3.10 and 3.11 on Linux; everything else gets LiteRT.
RUNTIME := $(if $(filter Linux-3.10 Linux-3.11,$(shell uname -s)-$(VERSION)),tflite-runtime,edge)
.venv-edge/.done: .venv/.done constraints/$(RUNTIME).txt $(CODE)
	rm -rf build/lib build/bdist.* dist
	$(BIN)/python -m build --wheel --no-isolation . > build.log || { cat build.log; exit 1; }
	rm build.log
	$(PYTHON) -m venv --clear .venv-edge
	$(EDGE)/python -m $(LOCKED) -r constraints/$(RUNTIME).txt
	$(EDGE)/python -m $(INSTALL) --no-index --find-links dist cxr-tfds
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
	@printf '\n%s\n' '--- On the device, without TensorFlow ---'; cat $(WHERE)/prediction.txt
	@printf '\n%s\n' '--- Files written ---'; ls -d "$(IMAGES)" $(WHERE)/data/*/*/* $(WHERE)/run/* $(WHERE)/export/*

# Two processes instead of one for each core, because each loads TensorFlow. All tests of a file
# run in one process, which shares what they build.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test: lint .venv-edge/.done
	$(PYTEST)

test-fast: .venv/.done
	$(PYTEST) -m 'not slow'

# SEED=N repeats a soak, TRIAL=KIND:N repeats one trial with its SEED. Needs Linux.
SOAK ?= 20m
KIND ?=
SEED ?=
TRIAL ?=
soak: .venv/.done
	PYTHONPATH=tests nice -n 10 $(BIN)/python -m soak --time $(SOAK) \
		$(addprefix --kind ,$(KIND)) $(addprefix --seed ,$(SEED)) $(addprefix --trial ,$(TRIAL))

# Some peers exist for Linux on x86-64 only. Without them, input_pipeline measures the others.
ONLY ?=
benchmarks: .venv/.done
	-$(MAKE) peers
	$(BIN)/python benchmarks/run.py $(ONLY)

# Other readers, which need other versions than TensorFlow.
PEERS := benchmarks/work/peers
peers: $(PEERS)/.done
$(PEERS)/.done: benchmarks/peers.txt
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/$(SCRIPTS)/python -m pip install --disable-pip-version-check -q -r $<
	touch $@

# The device side on any system: the wheel with LiteRT, then the files that `make demo` exported.
# The demo may have run on another machine.
test-device:
	$(PYTHON) -m venv --clear .venv-device
	$(DEVICE)/python -m pip wheel --disable-pip-version-check -q --no-deps -w dist .
	$(DEVICE)/python -m $(LOCKED) -r constraints/edge.txt -r constraints/dicom.txt
	$(DEVICE)/python -m $(INSTALL) --no-index --find-links dist cxr-tfds
	$(DEVICE)/cxr-infer info --model $(MODEL)
	$(DEVICE)/cxr-infer predict --model $(MODEL) "$(IMAGES)/test" --csv
	$(DEVICE)/cxr-infer evaluate --model $(MODEL) "$(IMAGES)/test"
	$(DEVICE)/cxr-infer benchmark --model $(MODEL)

# import-linter and mkdocstrings need the layout of the wheel: builders/ and export/ in cxr_tfds/.
LAYOUT := build/layout
make_layout = rm -rf $(LAYOUT) && mkdir -p $(LAYOUT)/cxr_tfds && \
	ln -s $(CURDIR)/cxr_tfds/* $(CURDIR)/builders $(CURDIR)/export $(LAYOUT)/cxr_tfds/

lint: .venv/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy cxr_tfds export builders
	$(make_layout)
	cd $(LAYOUT) && $(CURDIR)/$(BIN)/lint-imports --no-logo --no-cache $(CURDIR)/pyproject.toml

docs: .venv/.done
	$(make_layout)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site

# Pages need chromium (Debian: apt-get install -y chromium); without it their pictures stay.
pictures: .venv/.done
	$(BIN)/python tools/pictures.py --out docs/pictures

# The files of one extra contain the versions of the workstation, so extras can be combined.
WORKSTATION := train dicom edge tflite-runtime app dask docs sign dev
EXTRAS := train gpu dicom edge tflite-runtime app dask sign
UV ?= $(BIN)/uv
UPGRADE ?=
LOCKS ?= constraints
compile = $(UV) pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate \
	--no-emit-index-url --custom-compile-command 'make constraints' setup.cfg $(addprefix --extra ,$(1))

constraints:
	$(call compile,$(WORKSTATION)) $(UPGRADE) -o $(LOCKS)/workstation.txt
	$(foreach extra,$(EXTRAS),$(call compile,$(extra)) -c $(LOCKS)/workstation.txt -o $(LOCKS)/$(extra).txt &&) true

audit: .venv/.done
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r constraints/workstation.txt

sbom: .venv-edge/.done
	$(BIN)/cyclonedx-py environment --output-reproducible -o dist/device.cdx.json $(EDGE)/python

clean:
	rm -rf .venv .venv-edge .venv-device build dist demo site
