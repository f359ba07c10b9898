"""An edited setting in a published table no longer fits the cell's key."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from fsl_utils import ROOT, StudyError, manifests, params, store
from fsl_utils.analysis import determinants, tables
from fsl_utils.classifier import plan

ASKED = {"arms": ["real", "lora", "lora_filtered", "base_synth"], "ratios": [1.0, 4.0]}


@pytest.fixture(scope="module")
def requests(task):
    p = SimpleNamespace(**{name: params.default(name) for name in params.TABLE} | ASKED)
    return plan.cells(task, p)


@pytest.fixture(scope="module")
def planned(requests):
    """Key -> text of a few cells."""
    texts = [
        manifests.determinant("cell", store.STAGES["cell"], cell.params()) for cell in requests
    ]
    return {manifests.digest(text): text for text in texts}


@pytest.fixture
def table(planned, tmp_path):
    determinants.write(tmp_path, planned)
    return pd.DataFrame(
        [{"cell": key} | determinants.columns(json.loads(text)) for key, text in planned.items()]
    )


def test_texts_hash_to_the_keys(requests, planned):
    assert list(planned) == [cell.key for cell in requests]


def test_rows_that_fit_their_keys_pass_and_the_file_is_the_same_again(table, planned, tmp_path):
    assert determinants.check(table, tmp_path) == 0
    first = (tmp_path / determinants.FILE).read_bytes()
    determinants.write(tmp_path, dict(reversed(planned.items())))
    assert (tmp_path / determinants.FILE).read_bytes() == first
    assert determinants.read(tmp_path) == planned


@pytest.mark.parametrize(
    "name, value",
    [
        ("draw", 1),
        ("rare_class", "Effusion"),
        ("arm", "duplicate"),
        ("ratio", 2.0),
        ("n_real", 20),
        ("seed", 3),
        ("image_size", 128),
        ("classifier", "resnet18"),
        ("protocol", "image"),
        ("evaluated_on", "test"),
        ("mode", "inpaint"),
        ("base", "0" * 12),
        ("pool", "0" * 64),
    ],
)
def test_an_edited_setting_is_refused_by_the_number_of_its_line(table, tmp_path, name, value):
    table[name] = table[name].astype(object)
    table.loc[2, name] = value
    with pytest.raises(StudyError, match=f"line 4: {name} is {value!r}, but the key"):
        determinants.check(table, tmp_path)


def test_a_row_with_another_key_is_refused(table, tmp_path):
    table.loc[2, "cell"] = "0" * 64
    with pytest.raises(StudyError, match=r"line 4: cell 000000000000 is not in determinants\.par"):
        determinants.check(table, tmp_path)


def test_a_flipped_text_is_refused(table, planned, tmp_path):
    texts = dict(planned)
    key = next(iter(texts))
    texts[key] = texts[key].replace('"draw":0', '"draw":1')
    determinants.write(tmp_path, texts)
    with pytest.raises(StudyError, match=r"is not in determinants\.parquet"):
        determinants.check(table, tmp_path)
    (tmp_path / determinants.FILE).write_bytes(b"PAR1 not really")
    with pytest.raises(StudyError, match="cannot be read"):
        determinants.check(table, tmp_path)


def test_rows_of_before_are_read_and_counted(table, planned, tmp_path):
    key = table["cell"][1]
    determinants.write(tmp_path, planned | {key: ""})
    assert determinants.check(table, tmp_path) == 1
    (tmp_path / determinants.FILE).unlink()
    assert determinants.check(table, tmp_path) == len(table)


def test_the_published_study_stays_readable():
    published, _ = tables.read_results(ROOT / "results" / "quickstart" / "tables")
    assert 0 <= published.attrs["not_checkable"] <= len(published)
