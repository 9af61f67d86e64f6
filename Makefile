# Every target makes .venv first where it is missing or out of date.
PYTHON ?= python3
VENV := .venv
CONSTRAINTS := constraints.txt
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help study plain-study lab exercises test test-lowest test-newest test-fast torture docs lint site site-check pictures forum-study lesson-times bench bench-diagnosis bench-diagnosis-full clean
help:
	@echo "make study      the puzzle: a study in which PTQ beats QAT, its cause and its remedy (under three minutes)"
	@echo "make plain-study  digits trained to the end, five seeds (some five minutes)"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make exercises  copy the notebooks without their solutions to the folder exercises/"
	@echo "make test       all tests (20 minutes on two idle cores)"
	@echo "make test-lowest  make test-newest  all tests with the oldest and the newest versions of every dependency"
	@echo "make test-fast  the tests that are not slow"
	@echo "make torture    the long attacks: kills, odd environments, odd inputs (an hour or more)"
	@echo "make docs       docs/causes.md from the causes and their scores, docs/metrics.md from the metrics"
	@echo "make forum-study  data/forum_puzzle, the finished study of the first lesson (half a minute)"
	@echo "make site       all docs and notebooks with outputs, to build/site (NOTEBOOKS=folder takes executed ones)"
	@echo "make site-check open every page of build/site in Chromium and record what it asks for"
	@echo "make pictures   the README's pictures, from a study that is made for them (Chromium)"
	@echo "make lesson-times  notebooks/TIMES.md, how long each notebook takes (15 minutes)"
	@echo "make lint       ruff and mypy"
	@echo "make bench      times and sizes beside alternatives, to benchmarks/results.md (25 minutes; SUBJECT=layers)"
	@echo "make bench-diagnosis  does the diagnosis name known causes? (90 minutes on 2 cores)"
	@echo "make bench-diagnosis-full  every cause on six networks (two hours, resumable)"

# Without constraints everything is as new as pyproject.toml admits.
$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		$(if $(CONSTRAINTS),--constraint $(CONSTRAINTS),--upgrade --upgrade-strategy eager) --editable '.[all,dev]'
	touch $@

study: $(STAMP)
	@echo "One epoch of float training, one of QAT. Seed 1 was picked because PTQ is far ahead of QAT with it;"
	@echo "of twenty seeds PTQ was ahead with eight (data/one_epoch_sweep.csv)."
	$(BIN)/qinspect study --preset one-epoch --seed 1 --repeats 1 --out study
	$(BIN)/qinspect diagnose study --write-fix study/fix.py
	test -e study/fixed.tflite || $(BIN)/python study/fix.py

plain-study: $(STAMP)
	$(BIN)/qinspect study --out plain-study

lab: $(STAMP)
	$(BIN)/qinspect lab

exercises: $(STAMP)
	$(BIN)/qinspect lab exercises --exercises --no-start

# Whole files go to one of two processes, so that what a file trains is trained once; in the order
# of tests/conftest.py, not by their number of tests.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What measures times runs by itself, after everything else.
test: $(STAMP)
	$(PYTEST) -m "not timing and not torture"
	$(BIN)/python -m pytest -m timing

# Both ends of what pyproject.toml admits, each in an environment of its own.
test-lowest:
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt

test-newest:
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

test-fast: $(STAMP)
	$(PYTEST) -m "not slow and not timing and not torture"

torture: $(STAMP)
	$(BIN)/python -m pytest -m torture -rP --timeout 7200

docs: $(STAMP)
	$(BIN)/python -m qinspect.causes data/diagnosis_full_cases.csv qinspect_bench.faults:NOT_INJECTED > docs/causes.md
	$(BIN)/python -m qinspect.metrics > docs/metrics.md

forum-study: $(STAMP)
	$(BIN)/python -m qinspect_bench.forum_study data/forum_puzzle

lesson-times: $(STAMP)
	$(BIN)/python -m qinspect_bench.lesson_times notebooks/TIMES.md

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy

site: $(STAMP)
	$(BIN)/python website/build.py $(if $(NOTEBOOKS),--notebooks $(NOTEBOOKS))

site-check: $(STAMP)
	$(BIN)/python website/check.py --browser build/site

pictures: $(STAMP)
	$(BIN)/python -m pytest -m "" website/pictures.py

bench-diagnosis: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/diagnosis.py --work work/bench-diagnosis --out data

bench-diagnosis-full: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/diagnosis.py --full --work work/bench-diagnosis --out data

bench: $(STAMP)
	$(BIN)/python benchmarks/bench.py $(SUBJECT) $(if $(SUBJECT),,--out benchmarks/results.md)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
