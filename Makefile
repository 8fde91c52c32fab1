PYTHON ?= python3
BIN := .venv/bin
DEMO := results/demo
BROWSER_AND_TEX := chromium texlive-latex-base texlive-latex-recommended
HASTY := -o Acquire::Retries=0 -o Acquire::http::Timeout=20

.PHONY: install demo test test-packages test-slow test-cluster bench gpu parity speed lint clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $@

demo: install
	$(BIN)/psdbench run --methods sds,psd --prompts prompts/demo.txt --reward hps --seeds 2 --out $(DEMO)
	$(BIN)/psdbench report $(DEMO)
	@echo "report: $(DEMO)/report/report.html   pictures: $(DEMO)/report/contact/overview.png"

# A process per core, up to four; each test has one thread, and a file's tests stay together for what they share.
test: install
	$(BIN)/python -m pytest -rs -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The report is opened in a browser and its table compiled: Debian's packages, which only root can install. Where they
# are not to be had, those tests skip and say so.
test-packages:
	@if test "$$(id -u)" = 0 && ! { command -v chromium && kpsewhich booktabs.sty; } >/dev/null 2>&1; then \
	  { apt-get $(HASTY) update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get $(HASTY) install -y -qq --no-install-recommends $(BROWSER_AND_TEX); \
	  } >/dev/null || echo "not installed, so their tests skip: $(BROWSER_AND_TEX)"; fi

test-slow: install
	$(BIN)/python -m pytest -m slow

# SLURM comes from Debian's packages, which only root can install and only root can start; where it cannot be had,
# its tests are skipped and say why
test-cluster: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[slurm,ray]'
	if test "$$(id -u)" = 0 && ! command -v slurmctld >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends slurm-wlm munge || echo "SLURM cannot be installed"; fi
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
