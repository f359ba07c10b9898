"""The search over fine-tuning settings: what it refuses, and a small one from file to table."""

import pandas as pd
import pytest

from fsl_utils import ROOT, StudyError
from fsl_utils.generator import finetuning, settings
from fsl_utils.study import search


def test_shipped_searches_are_valid():
    files = sorted((ROOT / "notebooks" / "searches").glob("*.yaml"))
    assert {search.read(path).domain for path in files} == {
        "elpv",
        "magnetic_tile",
        "chestxray14",
        "pv_cracks",
    }


@pytest.mark.parametrize(
    "text, words",
    [
        ("drawz: [1]", "unknown key 'drawz'"),
        ("tries: [{rnak: 2}]", "unknown setting 'rnak'"),
        ("tries: [{learning_rate: 1e-3}]", "learning_rate is '1e-3'"),
        ("tries: [{adapter_steps: 0}]", "adapter_steps is 0"),
        ("draws: [-1]", "draw is -1"),
        ("draws: []", r"draws is \[\]"),
        ("tries: [3]", "tries is"),
        ("tries: [{mode: nois}]", "mode is 'nois'"),
        ("halve: 2", "halve is 2"),
        ("a: [", "not YAML"),
        ("- 1", "a search file is a map"),
    ],
)
def test_a_faulty_search_is_refused_before_it_runs(tmp_path, text, words):
    path = tmp_path / "search.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=words):
        search.read(path)


@pytest.mark.slow
def test_a_small_search(tmp_path, own_store, capsys, monkeypatch):
    path, out = tmp_path / "small.yaml", tmp_path / "out" / "small.csv"
    path.write_text(
        "{draws: [0], n_real: 10, n_images: 4, adapter_steps: 2, "
        "tries: [{}, {rank: 2, alpha: 2, adapter_steps: 1}]}"
    )
    monkeypatch.setattr(search.sampling, "CHUNK", 4)
    search.main([str(path), "--out", str(out), "--device", "cpu"])
    table = pd.read_csv(out)
    assert list(table["try"]) == ["defaults", "rank 2, alpha 2, adapter_steps 1"]
    assert list(table["rank"]) == [settings.FineTuning().rank, 2] and list(
        table["adapter_steps"]
    ) == list(table["kept_step"]) == [2, 1]
    assert table["pool"].nunique() == 2 and table[
        ["kid", "final_loss", "auroc_synthetic", "called_rare_real"]
    ].notna().all(axis=None)
    assert (tmp_path / "out" / "small_draw0.png").is_file()
    assert "rank 2, alpha 2" in capsys.readouterr().out
    changed = pd.read_csv(tmp_path / "out" / "small_compared.csv")
    assert set(changed["try"]) == {"rank 2, alpha 2, adapter_steps 1"}

    first = out.read_bytes()
    monkeypatch.setattr(finetuning, "gradients", None)  # nothing is trained a second time
    search.main([str(path), "--out", str(out)])
    assert out.read_bytes() == first


def test_the_worse_half_drops_out_and_the_first_stays():
    tries = [{"rank": rank} for rank in (1, 2, 4, 8, 16)]
    judged = {
        search.words(changed): (share, kid)
        for changed, share, kid in zip(tries, (1, 0.5, 0.9, 0.8, 1.2), (0.5, 0.01, 0.4, 0.2, 0.3))
    }
    assert search.better_half(tries, judged) == [
        {"rank": 1},
        {"rank": 8},
        {"rank": 16},
    ]  # rank 2 paints what is not rare
    assert search.better_half(tries[:1], judged) == tries[:1]
