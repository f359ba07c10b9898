"""SECURITY.md names tests that are there; the package runs no data as code."""

import ast
import re

import pytest

from fsl_utils import ROOT

HARMLESS = {"np.load": "allow_pickle=False", "torch.load": "weights_only=True"}
NEVER = re.compile(
    r"(pickle|joblib|dill|marshal)\.(load|loads)|yaml\.(load|unsafe_load|full_load)|eval|exec"
    r"|pd\.read_pickle|(pd|pandas)\.eval|os\.system"
)


def test_every_test_that_the_page_names_is_there():
    named = re.findall(r"`(tests/\w+\.py)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 10 and not [name for name in named if not (ROOT / name).is_file()]


def unsafe(source: str) -> list[str]:
    """Calls that could run code out of data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {ast.unparse(word) for word in node.keywords}
            if (
                NEVER.fullmatch(name)
                or (name in HARMLESS and HARMLESS[name] not in given)
                or {"trust_remote_code=True", "shell=True"} & given
            ):
                found.append(name)
    return found


@pytest.mark.parametrize(
    "source, calls",
    [
        ("np.load(x)", ["np.load"]),
        ("np.load(x, mmap_mode='r', allow_pickle=False)", []),
        ("torch.load(x, weights_only=False)", ["torch.load"]),
        ("torch.load(x, weights_only=True)", []),
        ("yaml.load(x); yaml.safe_load(x)", ["yaml.load"]),
        ("eval(x); net.eval(); pickle.loads(x)", ["eval", "pickle.loads"]),
        ("run(x, shell=True)", ["run"]),
    ],
)
def test_the_look_for_calls_sees_them(source, calls):
    assert unsafe(source) == calls


def test_nothing_runs_code_out_of_data():
    found = {
        str(path): calls
        for path in (ROOT / "fsl_utils").rglob("*.py")
        if (calls := unsafe(path.read_text()))
    }
    assert not found
