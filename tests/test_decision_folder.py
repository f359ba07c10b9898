"""A decision on folders: what is read, leaks across groups, files that are written, predictions."""

import io
import json
import re
import shutil
from types import SimpleNamespace
from urllib.parse import unquote

import cases
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.__main__ import main
from fsl_utils.decision import candidates, intake, prediction, report, run, seen, takeaway

GROUP = r"part(\d+)_"


def resaved(path, quality=92):
    """The picture in another compression, darker."""
    out = io.BytesIO()
    image = Image.fromarray((np.asarray(Image.open(path)) * 0.9).astype(np.uint8))
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


@pytest.fixture
def leaky(tmp_path):
    """Twelve parts stand there again under another number, saved anew: four with a scratch."""
    root = cases.parts(tmp_path / "parts", n=60)
    for i in range(0, 36, 3):
        name = "scratch" if i % 9 == 0 else "good"
        number = i if i % 9 == 0 else i + 1
        path = root / name / f"part{number:03d}_a.png"
        (root / name / f"part{number + 500:03d}_a.jpg").write_bytes(resaved(path))
    return root


@pytest.fixture(scope="module")
def cheap():
    """Features that cost nothing: thumbnails. The network is not the point."""
    monkeypatch = pytest.MonkeyPatch()

    def thumbnails(takes, pixels):
        n, c, size, _ = pixels.shape
        step = size // 8
        x = pixels.reshape(n, c, 8, step, 8, step).mean(axis=(3, 5)) / 255
        if takes == "map":
            return x.astype(np.float16)
        flat = x.reshape(n, -1)
        return flat if takes == "pooled" else [flat] * len(seen.STAGES)

    monkeypatch.setattr(seen.Seen, "of", lambda self, takes: thumbnails(takes, self.pixels))
    monkeypatch.setattr(seen, "of_pixels", lambda takes, pixels, device: thumbnails(takes, pixels))
    monkeypatch.setattr(
        seen.Seen,
        "augmented",
        lambda self: (thumbnails("pooled", self.augmented_pixels()[0]), self.augmented_pixels()[1]),
    )
    plain = candidates.Candidate(
        "probe", candidates.REAL.title, "real", "pooled",
        lambda s, rows: candidates.linear(
            candidates.probe.fit(candidates.training(s, "pooled", rows), C=1.0)
        ),
    )  # fmt: skip
    monkeypatch.setattr(candidates, "REAL", plain)
    monkeypatch.setattr(candidates, "FREE", candidates.FREE[:1])
    yield
    monkeypatch.undo()


@pytest.fixture(scope="module")
def decided(tmp_path_factory, cheap):
    """Folder, where its decision lies, and how it was asked for. To be copied, not changed."""
    root = cases.parts(tmp_path_factory.mktemp("folder") / "parts", n=60)
    out = root.with_name("out")
    asked = ["decide", str(root), "--rare", "scratch", "--group", GROUP, "--quick"]
    asked += ["--size", "64", "--out", str(out)]
    assert main(asked) == 0
    return root, out, asked


def test_leaks_across_groups_are_merged_and_said(leaky, own_store):
    taken = intake.of_folder(str(leaky), "scratch", "", GROUP)
    table = taken.domain.table
    assert taken.counts["leaks"] == 12 and taken.counts["groups"] == 60
    assert "12 pairs of images of different groups are one picture" in " ".join(taken.notes)
    group = table.set_index("image")["group"]
    assert group["scratch/part000_a.png"] == group["scratch/part500_a.jpg"]
    assert not (leaky / "partition.csv").exists()


def test_a_leak_under_two_labels_is_named(tmp_path, own_store):
    root = cases.parts(tmp_path / "parts", n=60)
    (root / "good/part999_a.jpg").write_bytes(resaved(root / "scratch/part000_a.png"))
    notes = intake.of_folder(str(root), "scratch", "", GROUP).notes
    assert any("under two labels" in note and "part999" in note for note in notes)


def test_more_than_two_classes_are_one_against_the_rest(tmp_path, own_store):
    root = cases.parts(tmp_path / "parts", n=30)
    (root / "dent").mkdir()
    for path in sorted((root / "good").glob("*.png"))[:6]:
        path.rename(root / "dent" / path.name)
    taken = intake.of_folder(str(root), "scratch", "", GROUP)
    assert taken.domain.common_class == intake.REST and taken.counts["images"] == 30
    assert intake.of_folder(str(root), "dent", "good", GROUP).counts["images"] == 20
    assert intake.classes(str(root)) == ["dent", "good", "scratch"]
    with pytest.raises(StudyError, match="--rare takes one of dent, good, scratch"):
        intake.of_folder(str(root), "", "", GROUP)
    with pytest.raises(StudyError, match="unknown class 'crack'"):
        intake.of_folder(str(root), "crack", "", GROUP)


def test_a_decision_is_written_whole_and_never_over_another(decided, capsys):
    _, out, asked = decided
    record = json.loads((out / "decision.json").read_text())
    assert record["verdict"] == "take" and record["what_you_have"]["rare_groups"] == 20
    page = (out / "decision.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and "<script" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    before = (out / "decision.json").read_bytes()
    assert main(asked) == 1
    assert "nothing is written over" in capsys.readouterr().err
    assert main([*asked, "--replace"]) == 0
    assert (out / "decision.json").read_bytes() == before


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (128, 96, "nothing: no image is larger"),
        (300, 300, "one pixel seen is up to 2.3 by 2.3 of yours: narrower marks fade"),
        (
            1280,
            512,
            "up to 10.0 by 4.0 of yours: narrower marks fade, and shapes are stretched 2.5",
        ),
    ],
)
def test_what_the_input_chain_costs_is_said(width, height, words):
    assert words in report.chain(width, height, 128)


def test_the_training_set_and_its_weights(decided):
    _, out, _ = decided
    weights = pd.read_csv(out / "export/weights.csv", keep_default_na=False)
    assert len(weights) == 60 and weights.groupby("label")["weight"].sum().round(6).eq(0.5).all()
    assert all((out / "export" / name).is_file() for name in weights["file"])
    assert {path.name for path in (out / "export/train").iterdir()} == {"good", "scratch"}


def test_the_model_scores_new_images_as_the_fit_does(decided, tmp_path, capsys):
    root, out, _ = decided
    table = tmp_path / "scores.csv"
    asked = ["predict", str(root), "--model", str(out / "export/model"), "--out", str(table)]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "of 60 images are called scratch" in said and "precision" in said
    scores = pd.read_csv(table)
    rare = scores["image"].str.startswith("scratch")
    assert scores["score"][rare].min() > scores["score"][~rare].max()
    assert scores["unlike"].mean() < 0.1
    assert main(asked) == 1 and "is there already" in capsys.readouterr().err


def test_new_images_that_look_unlike_are_warned_of(decided, tmp_path, capsys):
    _, out, _ = decided
    strange = tmp_path / "strange"
    strange.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        photo = rng.integers(0, 256, (300, 700, 3), np.uint8)
        Image.fromarray(photo).save(strange / f"{i}.png")
    (strange / "notes.txt").write_text("none")
    model = str(out / "export/model")
    assert main(["predict", str(strange), "--model", model, "--out", str(tmp_path / "s.csv")]) == 0
    said = capsys.readouterr().out
    assert "4 images look unlike the training ones" in said
    assert "in colour" in said and "width far from" in said and "notes.txt" in said


@pytest.mark.parametrize(
    "harm, words",
    [
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "has changed"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be read"),
        (lambda f: (f / "model.json").write_text("{"), "no model of `fsl decide`"),
        (lambda f: (f / "model.json").write_text('{"format": 99}'), "its format is 99"),
        (lambda f: (f / "model.json").write_text('{"format": 1}'), "is damaged"),
        (lambda f: (f / "model.json").unlink(), "no model of `fsl decide`"),
    ],
)
def test_a_damaged_model_is_one_line(decided, harm, words, tmp_path):
    folder = shutil.copytree(decided[1] / "export/model", tmp_path / "model")
    harm(folder)
    with pytest.raises(StudyError, match=re.escape(words)):
        prediction.Model(folder)


def test_names_in_the_page_are_escaped(decided):
    root, _, _ = decided
    taken = intake.of_folder(str(root), "scratch", "", GROUP)
    taken.counts["rare_class"] = "<script>alert(1)</script>"
    taken = SimpleNamespace(**{**taken.__dict__, "notes": ("<b>bold</b>",)})
    page = report.html(run.decide(taken, quick=True, size=64))
    assert "<script>" not in page and "<b>bold" not in page and "&lt;script&gt;" in page


def test_too_few_groups_write_a_page_and_no_model(tmp_path, own_store, cheap):
    root = cases.parts(tmp_path / "parts", n=9)
    out = tmp_path / "out"
    asked = ["decide", str(root), "--rare", "scratch", "--group", GROUP, "--out", str(out)]
    assert main(asked) == 0
    record = json.loads((out / "decision.json").read_text())
    assert record["verdict"] == "cannot tell" and "3 groups" in record["sentences"][0]
    assert (out / "decision.html").is_file() and not (out / "export").exists()


def test_an_export_of_somebody_else_is_not_replaced(tmp_path, capsys):
    theirs = tmp_path / "export" / "theirs.txt"
    theirs.parent.mkdir()
    theirs.write_text("theirs")
    assert main(["decide", "--demo", "--out", str(tmp_path), "--replace"]) == 1
    assert "was left by no decision" in capsys.readouterr().err and theirs.is_file()


@pytest.mark.parametrize(
    "asked, words",
    [
        (["decide"], "name your folder"),
        (["decide", "--demo", "--rare", "x"], "--demo takes neither"),
        (["decide", "/nowhere/at/all", "--rare", "x"], "no such folder"),
        (["decide", "/tmp", "--each", "--rare", "x"], "every class in turn"),
        (["predict", "/tmp", "--model", "/nowhere"], "no model of"),
    ],
)
def test_what_was_asked_wrongly_is_one_line(asked, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(asked) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["..", "a/b", "a+b", "a_b", ".hidden", "größe 2.png", "%2B", "a\\b"]
)
def test_a_class_name_is_a_file_name_of_its_own(name):
    """No separator, no leading dot, and read as an address it is the name again."""
    plain = takeaway.plain(name)
    assert not set(plain) & set("/\\\0") and not plain.startswith(".")
    assert unquote(plain) == name
