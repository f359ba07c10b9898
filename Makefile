# `make study` is the main job on real data, `make test` the tests. Each sets itself up.
PYTHON ?= python3
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# One thread a process, two processes: notebooks and their tests start their own.
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist worksteal

.PHONY: study test test-slow lint clean

study: .venv/ready
	.venv/bin/fsl grid notebooks/grids/quickstart.yaml

test: .venv/ready
	$(PYTEST)

test-slow: .venv/ready
	$(PYTEST) -m slow

lint: .venv/lint
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/nbstripout --keep-id --verify notebooks/*.ipynb

# Made again when the list of packages changes. With conda instead: see environment.yml.
.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

.venv/lint: .venv/ready
	.venv/bin/python -m pip install --quiet --editable '.[test,lint]'
	touch $@

clean:
	rm -rf .venv store
