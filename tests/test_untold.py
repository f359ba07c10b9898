"""Parameters that no column of the tables tells: a grid that needs such a column is refused."""

from types import SimpleNamespace

import pytest
import yaml

from fsl_utils import StudyError, params
from fsl_utils.classifier import cells, classifiers, plan
from fsl_utils.study import grid, untold

FILTERED = {
    **{"arms": ["lora_filtered"], "ratios": [4], "classifier": "finetuned"},
    "mode": "from_common",  # `strength` is part of no other key
}
# Another value of each parameter that a cell of FILTERED depends on and no column tells.
OTHER = {
    "strength": 0.3,
    "guidance": 2.0,
    "steps": 30,
    "gate": 8,
    "autoguidance": 2.0,
    "diversity": 1.0,
    "adapter_steps": 300,
    "filter_steps": 200,
    "classifier_steps": 200,
}
# Parameters that no key of a cell depends on, beside what it is evaluated on and its arms.
NEUTRAL = {"n_images", "measure", "export", "device", "tables", "figures", "details", "pdf"}
NEUTRAL |= {"metric", "open_sealed", "arms", "ratios"}


def read(tmp_path, *entries):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({"name": "g", "defaults": {}, "sweep": list(entries)}))
    return grid.read(path)


def key(task, more):
    defaults = {name: params.default(name) for name in params.TABLE}
    return plan.cells(task, SimpleNamespace(**defaults | FILTERED | more))[0].key


@pytest.mark.parametrize("name", OTHER)
def test_two_runs_that_tables_cannot_tell_apart_are_refused(name, tmp_path, task):
    more = {name: OTHER[name]}
    assert key(task, more) != key(task, {})
    with pytest.raises(StudyError, match=f"lora_filtered at 4x of elpv, draw 0, .* {name} "):
        read(tmp_path, FILTERED, FILTERED | more)


def test_every_parameter_is_told_untold_or_neutral():
    told = {*untold.TOLD, *untold.TOLD_OF_IMAGES}
    rest = {*untold.OF_TASKS, *OTHER, "preset"}
    assert told | rest | NEUTRAL == params.TABLE.keys()


def test_what_is_told_are_the_columns_of_the_table():
    told = {*untold.TOLD, *untold.TOLD_OF_IMAGES, "arm", "ratio"}
    assert told == {*cells.KEY_COLUMNS, "evaluate_on"}


@pytest.mark.parametrize("name", sorted(NEUTRAL & {"n_images", "measure", "pdf", "metric"}))
def test_what_no_key_depends_on_is_no_difference(name, tmp_path, task):
    more = {name: {"n_images": 7, "measure": "lpips_alex", "pdf": True, "metric": "f1"}[name]}
    assert key(task, more) == key(task, {})
    assert len(read(tmp_path, FILTERED, FILTERED | more)[1]) == 2


@pytest.mark.parametrize(
    "first, second",
    [
        ({"arms": ["real"]}, {"arms": ["real"], "gate": 8, "adapter_steps": 300}),
        ({"arms": ["lora"]}, {"arms": ["lora"], "filter_steps": 200, "classifier_steps": 200}),
        ({"arms": ["base_synth"]}, {"arms": ["base_synth"], "adapter_steps": 300, "gate": 8}),
        ({"arms": ["lora"]}, {"arms": ["lora"], "gate": 8, "draw": 1}),
        ({"arms": ["lora"], "ratios": [1]}, {"arms": ["lora"], "gate": 8, "ratios": [4]}),
    ],
)
def test_a_parameter_that_the_cells_do_not_depend_on_may_differ(first, second, tmp_path):
    read(tmp_path, first, second)


def test_a_class_of_another_folder_is_no_further_draw(tmp_path):
    entry = {"domain": "folder", "rare_class": "crack", "arms": ["real"]}
    with pytest.raises(StudyError, match=r"with folder '/.*/a' and '/.*/b', which no column"):
        read(tmp_path, *(entry | {"folder": str(tmp_path / name)} for name in "ab"))


@pytest.mark.parametrize("classifier", classifiers.CLASSIFIERS)
def test_stepped_says_whether_steps_are_part_of_the_key(classifier):
    kind = classifiers.get(classifier)
    assert kind.stepped == (kind.settings(1) != kind.settings(2))
