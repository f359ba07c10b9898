import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from fsl_utils import StudyError
from fsl_utils.data.datasets import registry
from fsl_utils.generator import backbones, sampling
from fsl_utils.generator.sampling import PoolRequest
from fsl_utils.pools import export


@pytest.fixture
def made(task):
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), dtype=np.uint8)
    verdicts = pd.DataFrame({"number": [0, 1, 2], "reason": ["", "copied", "common"]})
    shipped = backbones.pretrained("mini", task.domain)
    return images, verdicts, PoolRequest(task, shipped, mode="from_common")


def test_an_export_is_an_image_folder_with_every_image_and_flag(made, tmp_path):
    images, _, pool = made
    domain = pool.task.domain
    folder = export.image_folder(tmp_path / "out", *made)
    read = ImageFolder(folder)
    assert read.classes == ["defective"] and len(read) == 3
    record = json.loads((folder / "manifest.json").read_text())
    assert (
        record["pool"] == pool.key
        and record["complete"]
        and record["licence"] == registry.get("elpv").sheet.licence
    )
    assert [(r["number"], r["copied"], r["reason"]) for r in record["images"]] == [
        (0, False, ""),
        (1, True, "copied"),
        (2, False, "common"),
    ]
    assert [r["source"] for r in record["images"]] == domain.table["image"].iloc[
        sampling.sources(pool, range(3))
    ].tolist()
    for row, image in zip(record["images"], images):
        with Image.open(folder / row["file"]) as picture:
            assert np.array_equal(np.asarray(picture), image[0])
    colour = np.random.default_rng(1).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
    export.image_folder(folder, colour, *made[1:])  # the same pool again: written over
    with Image.open(folder / record["images"][0]["file"]) as picture:
        assert np.array_equal(np.moveaxis(np.asarray(picture), -1, 0), colour[0])


def test_a_folder_with_other_things_is_left_alone(made, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(StudyError, match="something other than pool"):
        export.image_folder(tmp_path, *made)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    images, verdicts, pool = made
    export.image_folder(tmp_path / "out", *made)
    with pytest.raises(StudyError, match="something other than pool"):
        export.image_folder(tmp_path / "out", images, verdicts, dataclasses.replace(pool, seed=1))
