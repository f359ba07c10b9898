"""The house: which room may know which, and what starts without torch."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from fsl_utils import ROOT

PACKAGE = ROOT / "fsl_utils"
BELOW = {  # a room: what it may import beside the ground and itself
    "ground": set(),
    "data": set(),
    "generator": {"data"},
    "classifier": {"data", "generator"},
    "pools": {"data", "generator", "classifier"},
    "analysis": {"data"},
    "figures": {"data", "generator", "analysis"},
    "decision": {"data", "generator", "classifier", "pools", "analysis", "figures"},
    "study": {"data", "generator", "classifier", "pools", "analysis", "figures", "decision"},
}
BELOW["__main__"] = set(BELOW)


def name(path) -> str:
    """fsl_utils/data/images.py -> fsl_utils.data.images"""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str:
    parts = module.split(".")[1:]
    return parts[0] if parts and parts[0] in BELOW else "ground"


MODULES = {name(path): path for path in PACKAGE.rglob("*.py")}


def imported(module: str) -> set[str]:
    """Modules of the package that a module imports, at its top or anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {each for each in found if each in MODULES and each != "fsl_utils"}


def test_imports_go_down_alone():
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        for other in imported(module)
        if room(other) not in {"ground", room(module)} | BELOW[room(module)]
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_no_module_imports_itself_by_way_of_others():
    TopologicalSorter({module: imported(module) for module in MODULES}).prepare()


def test_files_are_short():
    """As fsl_utils/README.md promises."""
    long = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert not {module: lines for module, lines in long.items() if lines > 300}


def test_subpackages_are_empty_and_every_module_has_a_room():
    for path in PACKAGE.rglob("__init__.py"):
        assert path.parent == PACKAGE or not path.read_text().strip(), path
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()} == (
        set(BELOW) - {"ground", "__main__"}
    )


@pytest.mark.parametrize(
    "start",
    [
        "import fsl_utils.study.grid",
        "import fsl_utils.figures.widgets",
        "from fsl_utils.__main__ import main; main(['status', 'notebooks/grids/quickstart.yaml'])",
    ],
    ids=["grid", "widgets", "status"],
)
def test_it_starts_without_torch(start):
    code = f"import sys; {start}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
