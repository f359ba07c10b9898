"""Small folders of images that people really have, one function a case.

Base: 80 grey 96x96 images of 80 parts, every third with a bright bar near the top (class `scratch`,
rare), else `good`. What each case should give stands in its docstring.
"""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsl_utils.data import domains


def pixels(seed, rare, size=(96, 96)):
    rng = np.random.default_rng(seed)
    height, width = size
    grey = 90 + 60 * np.linspace(0, 1, width)[None, :] + rng.normal(0, 8, (height, width))
    if rare:
        top = rng.integers(height // 10, height // 4)
        grey[top : top + max(2, height // 20), width // 8 : -width // 8] = 235
    return grey.clip(0, 255).astype(np.uint8)


def parts(root, suffix=".png", save=lambda image, path, i, rare: image.save(path), n=80, every=3):
    for i in range(n):
        rare = i % every == 0
        path = Path(root) / ("scratch" if rare else "good") / f"part{i:03d}_a{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Image.fromarray(pixels(i, rare)), path, i, rare)
    return Path(root)


def stale(root):
    """Load; call `swap(root)`; load again: the second load must see the new labels (names, sizes
    and mtimes are the same).
    """
    for path in parts(root, ".bmp").rglob("*.bmp"):
        os.utime(path, (1_700_000_000, 1_700_000_000))


def swap(root):
    for i in range(0, 78, 3):
        a, b = root / f"scratch/part{i:03d}_a.bmp", root / f"good/part{i + 1:03d}_a.bmp"
        aside = root / "aside.bmp"
        a.rename(aside), b.rename(a), aside.rename(b)


def exif(root):
    """Half are stored turned with orientation 6: every bar lies at the top, as viewers show it."""

    def save(image, path, i, rare):
        tags = Image.Exif()
        if i % 2 == 0:
            image, tags[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
        image.convert("RGB").save(path, exif=tags, quality=95)

    parts(root, ".jpg", save)


def alpha(root):
    """Round cut-outs without any defect; under alpha 0 lies black in `scratch` and white in `good`:
    no rule may tell the classes apart.
    """

    def save(image, path, i, rare):
        grey, (y, x) = pixels(i, False), np.mgrid[:96, :96]
        out = (y - 48) ** 2 + (x - 48) ** 2 > 36**2
        hidden = np.where(out, 0 if rare else 255, grey)
        Image.fromarray(
            np.dstack([hidden] * 3 + [np.where(out, 0, 255)]).astype(np.uint8), "RGBA"
        ).save(path)

    parts(root, save=save)


def pages(root):
    """TIFFs whose first page is a calibration image: 80 different parts, not one image 80 times."""
    blank = Image.fromarray(np.full((96, 96), 128, np.uint8))
    parts(
        root,
        ".tif",
        lambda image, path, i, rare: blank.save(path, save_all=True, append_images=[image] * 3),
    )


def twelve_bits(root):
    """16-bit PNGs that use 12 bits: not black."""
    parts(
        root,
        save=lambda image, path, i, rare: Image.fromarray(
            np.asarray(image).astype(np.uint16) * 16
        ).save(path),
    )


def masks(root):
    """A `_mask.png` beside each rare image: 27 rare images, not 54, and their masks known."""
    for path in sorted((parts(root, ".jpg") / "scratch").glob("*.jpg")):
        mask = np.zeros((96, 96), np.uint8)
        mask[10:28, 12:84] = 255
        Image.fromarray(mask).save(path.with_name(f"{path.stem}_mask.png"))


def groups(root):
    """groups.csv with a blank behind every second name: 40 parts, none of them in two
    partitions."""
    root = parts(root)
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    lines = [f"{name},P{i // 2}{' ' * (i % 2)}" for i, name in enumerate(names)]
    (root / "groups.csv").write_text("file,group\n" + "\n".join(lines) + "\n")


def respelt(root):
    r"""Load with `part(\d+)_`, then with `part(\d+)`: the same groups, so the same partitions. Then
    rename the folder.
    """
    parts(root)


def duplicates(root):
    """Three good images stand there twice under other names: named, kept on one side; the likeness
    audit still works.
    """
    for path in sorted((parts(root) / "good").glob("*.png"))[:3]:
        shutil.copy(path, path.with_name(f"copy_{path.name}"))


def other_files(root):
    """Half of the rare images are webp, half of the good ones lie in folders below: 80 images."""
    parts(root)
    for i, path in enumerate(sorted((Path(root) / "scratch").glob("*.png"))):
        if i % 2:
            Image.open(path).save(path.with_suffix(".webp"), lossless=True)
            path.unlink()
    for i, path in enumerate(sorted((Path(root) / "good").glob("*.png"))):
        if i % 2:
            below = path.parent / f"cam{i % 3}"
            below.mkdir(exist_ok=True)
            path.rename(below / path.name)


def latin1(root):
    """One file name is not UTF-8: one line that shows it, or it is simply read."""
    first = os.fsencode(parts(root) / "good")
    os.rename(first + b"/part001_a.png", first + b"/part001_gepr\xfcft.png")


def postscript(root):
    """An EPS named .png: named and left out; no other program is started."""
    (parts(root) / "good/part001_a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\nshowpage\n"
    )


def kolektor(root, items=40, parts=6):
    """Like KolektorSDD: one part of every item has a thin crack (all groups are mixed); each has a
    `_label.bmp`.
    """
    for item in range(items):
        for part in range(parts):
            rng = np.random.default_rng([item, part])
            surface = 120 + 20 * np.sin(np.linspace(0, 9, 96) + item) + rng.normal(0, 6, (240, 96))
            mask, cracked = np.zeros((240, 96), np.uint8), part == item % parts
            if cracked:
                rows = 60 + rng.integers(120) + np.cumsum(rng.integers(-1, 2, 70))
                mask[rows, 13 + np.arange(70)] = mask[rows + 1, 13 + np.arange(70)] = 255
            path = (
                Path(root) / ("cracked" if cracked else "sound") / f"kos{item:02d}_Part{part}.jpg"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.where(mask, 40, surface).clip(0, 255).astype(np.uint8)).save(path)
            Image.fromarray(mask).save(path.with_name(f"{path.stem}_label.bmp"))


def colour(root, objects=60):
    """Two RGB photos of each object, every third stained, red on green of one grey; masks in
    `ground_truth/`.
    """
    for i in range(objects):
        for shot in range(2):
            rng = np.random.default_rng([i, shot])
            photo = (
                np.array([90, 130, 90]) + rng.normal(0, 6, (80, 120, 1)) + np.zeros((80, 120, 3))
            )
            name, mask = "stain" if i % 3 == 0 else "fine", np.zeros((80, 120), bool)
            if name == "stain":
                y, x = np.mgrid[:80, :120]
                mask = (y - rng.integers(20, 60)) ** 2 + (x - rng.integers(20, 100)) ** 2 < 100
                photo[mask] += np.array([90, -38, -40])
            path = Path(root) / name / f"object{i:02d}_{shot}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(path)
            if mask.any():
                below = Path(root) / "ground_truth" / name / f"{path.stem}_mask.png"
                below.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.uint8(255) * mask).save(below)


PATTERN = r"part(\d+)_"


@pytest.fixture
def root(tmp_path, own_store, monkeypatch):
    monkeypatch.delenv("FSL_FOLDER", raising=False)
    monkeypatch.delenv("FSL_PARTITION", raising=False)
    return tmp_path / "parts"


def load(root, rare="scratch", pattern=PATTERN, **more):
    return domains.load("folder", rare, folder=str(root), group_pattern=pattern, **more)


def note(domain, words) -> str:
    """The one note that holds `words`, a regular expression."""
    (found,) = [n for n in domain.notes if re.search(words, n)]
    return found


def bar(pixels):
    """Mean brightness of the top third less that of the bottom: where the bar is."""
    third = pixels.shape[-2] // 3
    return pixels[..., :third, :].mean((1, 2, 3)) - pixels[..., -third:, :].mean((1, 2, 3))


def side(domain):
    return domain.table.set_index("image")["partition"]
