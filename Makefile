# Two commands do everything on a fresh machine: `make demo` and `make test`. Both install into .venv, a virtual environment of this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml

# Processes that share the suite; tests that start Ray follow one by one, as they use all cores themselves.
PROCESSES ?= 2

.PHONY: demo test check docs pasted notebooks weights clean

demo: $(VENV)/installed
	$(BIN)/heal demo --out runs/demo --overwrite $(DEMO_ARGS)

test: check
	$(BIN)/python -m pytest -m "not ray" --numprocesses $(PROCESSES) --dist loadfile
	$(BIN)/python -m pytest -m ray

# The commands of README and docs, pasted into a shell in a short form, and the notebooks as they stand.
pasted: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m pasted --numprocesses $(PROCESSES) --dist loadscope tests/docs

# The notebooks, run as they stand, with the outputs and pictures that are shown.
notebooks: $(VENV)/installed-dev
	PATH=$(CURDIR)/$(BIN):$$PATH jupyter nbconvert --to notebook --inplace --execute --ExecutePreprocessor.record_timing=False docs/notebooks/*.ipynb
	$(BIN)/jupyter nbconvert --to notebook --inplace --coalesce-streams docs/notebooks/*.ipynb

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation, in site/; every warning is an error. The table of rooms in docs/rooms.md is refreshed on the way.
docs: $(VENV)/installed-dev
	$(BIN)/python docs/draw_rooms.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The shipped weights of configs/demo/alliance, made from nothing: a base with m1 on two kinds of town, then the other types, one by one.
# Each rendered instant is of another town: a roadside unit's pictures of one town differ too little.
render = $(BIN)/heal generate runs/town-all --preset demo --split $(1) --frames $(2) --seed 1 --sensors all --image-px 256x192 --no-smooth \
    --frames-per-town 1 --depth-step-m 0.05
align = $(BIN)/heal train agent --type demo/agents/$(1) --base runs/town-base/alliance --data runs/town-all --config demo/agent.yaml \
    --set training.epochs=$(2) --set training.agents_of=$(3) --out runs/town-base/alliance

weights: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[imagenet]'
	$(BIN)/heal generate runs/town --preset demo --split train --frames 800 --seed 1 --sensors lidar
	$(BIN)/heal generate runs/town --preset crossing --split train --frames 200 --seed 1 --sensors lidar
	$(BIN)/heal train base --data runs/town --config demo/base.yaml --out runs/town-base
	$(call render,train,500)
	$(call render,validate,40)
	$(call align,m2,9,vehicle)
	$(call align,m3,3,any)
	$(call align,m4,10,roadside) --init runs/town-base/alliance/m2
	$(call align,m5,2,any)
	$(BIN)/heal alliance statistics runs/town-base/alliance --towns 40
	rm -rf configs/demo/alliance && cp -r runs/town-base/alliance configs/demo/alliance

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info[:2] <= (3, 14) else f"Python 3.10 to 3.14 is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/installed: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[town,view]'
	tools/system_libraries.sh $(BIN)/python
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info runs/demo
