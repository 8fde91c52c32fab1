PYTHON ?= python3
BIN := .venv/bin
DEMO := results/demo

.PHONY: install demo test test-slow test-cluster bench gpu parity speed lint clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $@

demo: install
	$(BIN)/psdbench run --methods sds,psd --prompts prompts/demo.txt --reward hps --seeds 2 --out $(DEMO)
	$(BIN)/psdbench report $(DEMO)
	@echo "report: $(DEMO)/report/report.html   pictures: $(DEMO)/report/contact/overview.png"

test: install
	$(BIN)/python -m pytest

test-slow: install
	$(BIN)/python -m pytest -m slow

# SLURM comes from Debian's packages, which only root can install and only root can start
test-cluster: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[slurm,ray]'
	if test "$$(id -u)" = 0 && ! command -v slurmctld munged >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; fi
	$(BIN)/python -m pytest tests/cluster -m cluster -rs

bench: install
	mkdir -p .benchmarks
	$(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-only -m 'not gpu' \
	  --benchmark-json .benchmarks/bench.json
	$(BIN)/python tests/benchmarks/make_page.py .benchmarks/bench.json

# what was measured is written down even where a test failed
gpu: install
	mkdir -p .benchmarks
	status=0; $(BIN)/python -m pytest -m gpu --benchmark-enable --benchmark-json .benchmarks/gpu.json -rs || status=$$?; \
	  $(BIN)/python tests/benchmarks/make_page.py .benchmarks/gpu.json --gpu && exit $$status

parity: install
	$(BIN)/python tests/parity/make_parity.py $(PARITY)

speed: install
	$(BIN)/python tests/parity/make_speed.py $(SPEED)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
