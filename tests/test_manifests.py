"""What a manifest says cannot change unnoticed, by accident or by hand."""

import json
import shutil

import pytest

from fsl_utils import StudyError, manifests, store

PARAMS = {"draw": 0, "rare_class": "crack", "settings": {"C": 0.0003, "steps": [1, 2.5, None]}}


@pytest.fixture
def cell(own_store):
    return store.make("cell", PARAMS, lambda out: (out / "scores.txt").write_text("1 .5") and None)


def test_a_whole_manifest_is_read(cell):
    record = store.manifest(cell)
    assert record["params"] == PARAMS and record["key"] == cell.name == store.key("cell", PARAMS)
    assert manifests.read(cell) == (record, "") and store.damage(cell) is None


def test_a_flipped_bit_of_any_byte_is_noticed(cell):
    path = cell / manifests.NAME
    whole = path.read_bytes()
    for place in range(0, 8 * len(whole), 5):  # a bit or two of each byte
        harmed = bytearray(whole)
        harmed[place // 8] ^= 1 << place % 8
        path.write_bytes(harmed)
        assert manifests.read(cell)[1], f"bit {place}"
    path.write_bytes(whole)
    assert store.damage(cell) is None


def rewritten(cell, change) -> None:
    """The manifest changed by somebody who knows its form: the digest is right."""
    record = store.manifest(cell)
    del record["digest"]
    change(record)
    (cell / manifests.NAME).write_text(manifests.sealed(record))


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda r: r["params"].update(draw=1), "another thing"),
        (lambda r: r.update(stage="pool"), "another thing"),
        (lambda r: r.update(stage_version=7), "another thing"),
        (lambda r: r.update(key="0" * 64), "another thing"),
        (lambda r: r.pop("params"), "lacks a field"),
        (lambda r: r.update(files=[]), "lacks a field"),
        (
            lambda r: r["files"].update({"../../x": "0"}) or r["bytes"].update({"../../x": 1}),
            "file",
        ),
        (lambda r: r["files"].update({"/etc/x": "0"}) or r["bytes"].update({"/etc/x": 1}), "file"),
        (lambda r: r["bytes"].clear(), "file"),
    ],
)
def test_an_edited_manifest_is_refused_though_its_digest_is_right(cell, change, fault):
    rewritten(cell, change)
    assert fault in store.damage(cell)
    with pytest.raises(StudyError, match=r"is damaged .*made anew"):
        store.manifest(cell)


def test_a_finished_folder_under_another_key_is_refused(cell):
    for other in (cell.with_name("0" * 64), cell.parents[1] / "pool" / cell.name):
        shutil.copytree(cell, other)
        assert "another thing" in store.damage(other)


def test_a_store_of_before_is_made_again(cell):
    record = store.manifest(cell)
    del record["digest"]
    (cell / manifests.NAME).write_text(json.dumps(record, indent=1))
    with pytest.warns(UserWarning, match="has no digest"):
        assert store.find("cell", PARAMS) is None
