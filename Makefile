# Two commands: `make study` (the main job on real data) and `make test`. Each sets itself up.
PYTHON ?= python3
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: study test clean

study: .venv/ready
	.venv/bin/python -m fsl_utils grid notebooks/grids/quickstart.yaml

test: .venv/ready
	.venv/bin/python -m pytest

# Made again when the list of packages changes. With conda instead: see environment.yml.
.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .venv store
