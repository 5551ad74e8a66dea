# Needs nothing but Python >= 3.11 and make; the first target that needs packages sets up .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# One thread per worker: two workers that each start a thread per core slow each other down.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q

.DEFAULT_GOAL := help
# The experiments of the paper, and how `make reproduce` runs them.
RECIPES := quickstart fig4 fig5 table1 table3 table4 fig13 arithmetic transplant star distillation clockpizza poisons contributors
ENGINE ?= processes
STORE ?= mechconn-store

.PHONY: help demo reproduce docs test bench lint check wheel clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## a shortcut is learned and fine-tuned away on small data, into report.html
	$(BIN)/mechconn demo -o report.html

reproduce: $(READY) ## every experiment at smoke scale, into reproduced.html (MECHCONN_DATA for real images; ENGINE=ray through Ray)
	for recipe in $(RECIPES); do $(BIN)/mechconn run $$recipe --engine $(ENGINE) --store $(STORE) || exit 1; done
	$(BIN)/mechconn report --store $(STORE) -o reproduced.html

docs: $(READY) ## the documentation site, notebooks executed, into docs/_build/html (SPHINXOPTS="-D nb_execution_mode=off" leaves them as they are)
	$(BIN)/python -m sphinx -b html -n -W --keep-going -T -d docs/_build/doctrees $(SPHINXOPTS) docs docs/_build/html

test: $(READY) ## all tests
	$(PYTEST)

bench: $(READY) ## speed against plain implementations, random programs through the symmetry finder (more than 22 minutes; MECHCONN_DATA for real images)
	$(BIN)/python benchmarks/bench_start.py
	$(BIN)/python benchmarks/bench_paths.py
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/bench_matching.py
	$(BIN)/python benchmarks/bench_symmetry.py
	$(BIN)/python benchmarks/bench_weight_matching.py
	$(BIN)/python benchmarks/bench_cbft.py
	$(BIN)/python benchmarks/bench_steps.py
	$(BIN)/python benchmarks/bench_data.py
	$(BIN)/python benchmarks/bench_interventions.py
	$(BIN)/python benchmarks/bench_adapters.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_statistics.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_scaling.py --rows 1000 10000 100000 --models 5 10 20 --cells 25 50 100
	$(BIN)/python benchmarks/bench_map.py --rows 500
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/rows_to_settle.py --draws 10
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/rows_to_settle.py --margin-draws 400 --rows 1000
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/settled_audit.py digits --folder $(STORE)/settled
	if [ -n "$$MECHCONN_DATA" ]; then $(BIN)/python benchmarks/settled_audit.py vgg13 --folder $(STORE)/settled; fi
	$(BIN)/python benchmarks/symmetry_programs.py

lint: $(READY) ## format, lint, types, import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	@find src tests benchmarks docs/_ext -name '*.py' -exec awk 'END { if (NR > 400) print "warning: " FILENAME " has " NR " lines: is it two things?" }' {} \;

check: lint ## lint, and the fast tests
	$(PYTEST) -m "not slow"

wheel: $(READY) ## sdist, and the wheel that is built of it, into dist/ (nothing is downloaded)
	rm -rf build dist
	$(BIN)/python -c 'from setuptools import build_meta; build_meta.build_sdist("dist")'
	$(BIN)/python -m pip wheel -q --no-index --no-deps --no-build-isolation -w dist dist/mechconn-*.tar.gz

clean: ## remove what the targets above made, except .venv
	rm -rf report.html reproduced.html build dist docs/_build docs/api docs/project .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp stands for "these two files are installed". The build tools come first and from the same
# constraints, so that the editable install needs no isolated build environment and no second download.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("mechconn needs Python 3.11 or newer: make PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt setuptools wheel
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev,data]'
	@touch $@
