"""A flipped bit anywhere in a finished store is noticed or harmless: never a wrong table.

CI flips a few bits. After a change of store or tables: `FSL_FLIPS=2000 pytest -m "slow or not slow"
-s tests/test_flips.py`, which prints what became of each kind of file.
"""

import collections
import os
import random
import shutil
import warnings
from pathlib import Path

import dummies
import numpy as np
import pytest
import yaml
from PIL import Image
from test_progress import finish

from fsl_utils import StudyError, store
from fsl_utils.__main__ import main
from fsl_utils.study import grid, publish, runs


def kinds(root: Path) -> dict[str, list[Path]]:
    """The store's files by kind: stage and suffix."""
    found = collections.defaultdict(list)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        found[f"{path.relative_to(root).parts[0]} {path.suffix}"].append(path)
    return found


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    place = rng.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def verdict(path: Path, root: Path, tables, expected) -> str:
    """What becomes of a harmed file. tables(): what a fresh command would publish from the store
    as it stands, None where it would make something again."""
    stage, *rest = path.relative_to(root).parts
    harmed = store.damage(root / stage / rest[0]) if stage in store.STAGES else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            told = tables()
        except StudyError:
            return "noticed"
    if told is not None and told != expected:
        return "WRONG"
    return "noticed" if harmed or told is None else "harmless"


def flipped(root: Path, n: int, tables, rng: random.Random) -> dict[str, collections.Counter]:
    """Verdicts on n flips, by kind of file, each kind as often; the store is mended after each."""
    whole = root.with_name("whole")
    shutil.copytree(root, whole)
    expected = tables()
    assert expected is not None
    found, counts = kinds(root), collections.defaultdict(collections.Counter)
    for i in range(n):
        kind = list(found)[i % len(found)]
        path = rng.choice([path for path in found[kind] if path.stat().st_size])
        flip(path, rng)
        counts[kind][verdict(path, root, tables, expected)] += 1
        shutil.rmtree(root / "run")
        shutil.copytree(whole / "run", root / "run")
        shutil.copy2(whole / path.relative_to(root), path)
    assert tables() == expected
    return counts


def told(counts: dict) -> int:
    """Print the counts; returns how many were wrong."""
    for kind, count in counts.items():
        print(f"{kind:24} {dict(count)}")
    total = sum(counts.values(), collections.Counter())
    print(f"{sum(total.values())} flips: {dict(total)}")
    return total["WRONG"]


ASKED = os.environ.get("FSL_FLIPS")  # read here: `main` takes every FSL_ variable for a path


def flips(few: int) -> int:
    return int(ASKED or few)


def test_flips_under_stand_ins(tmp_path, own_store):
    with dummies.taken(dummies.write(tmp_path / "notebooks")):
        nodes = dummies.nodes([0, 1])
        for node in nodes:
            finish(node, 1.0)

        def tables():
            done = runs.finished(nodes)
            return dummies.table(own_store) if len(done) == len(nodes) else None

        assert told(flipped(own_store, flips(100), tables, random.Random(0))) == 0


def textures(folder: Path) -> None:
    """120 pictures of 60 parts; every second part has a bright line."""
    rng = np.random.default_rng(0)
    for part in range(60):
        for shot in range(2):
            pixels = rng.integers(90, 130, (32, 32), dtype=np.uint8)
            if part % 2:
                pixels[rng.integers(4, 28)] = 255
            name = folder / ("line" if part % 2 else "plain") / f"part{part:02d}_{shot}.png"
            name.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(name)


@pytest.mark.slow
def test_flips_in_a_finished_store(tmp_path, own_store):
    textures(tmp_path / "parts")
    task = {"domain": "folder", "folder": str(tmp_path / "parts"), "rare_class": "line"}
    quick = {"n_real": 6, "adapter_steps": 2, "steps": 2, "filter_steps": 2, "ratios": [1]}
    content = {
        "name": "flips",
        "defaults": task | {"group_pattern": r"part(\d+)_"} | quick,
        "sweep": [{"draw": [0], "arms": ["real", "lora", "lora_filtered"]}],
    }
    (tmp_path / "flips.yaml").write_text(yaml.safe_dump(content))
    command = ["grid", str(tmp_path / "flips.yaml"), "--out", str(tmp_path / "out")]
    assert main([*command, "--workers", "1"]) == 0
    for name in ("tmp", "running", "failed", "work"):
        shutil.rmtree(own_store / name, ignore_errors=True)

    def tables():
        grid._task.cache_clear()
        runs._data_hash.cache_clear()
        nodes = grid.nodes(grid.read(tmp_path / "flips.yaml")[1])
        done = runs.finished(nodes)
        data = grid.task(nodes[0].values)
        if len(done) < len(nodes):
            # Made again, and from the right data into the right partitions.
            return None if split(data) == right else "of other data or partitions"
        out = tmp_path / "again"
        shutil.rmtree(out, ignore_errors=True)
        publish.tables(list(done.values()), out)
        return {path.name: path.read_bytes() for path in (out / "tables").iterdir()}

    def split(task):
        return task.data_hash, task.table["partition"].tolist()

    right = split(grid.task(grid.read(tmp_path / "flips.yaml")[1][0]))
    counts = flipped(own_store, flips(60), tables, random.Random(0))
    assert told(counts) == 0
