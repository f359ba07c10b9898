"""Masks of defects in a user's folder: pictures beside the images, or boxes."""

import re
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from PIL import Image

from fsl_utils import StudyError
from fsl_utils.data import decoding, survey
from fsl_utils.data.datasets.groups import files_of, noted

COLUMNS = ("mask", "boxes")
_WORD = r"(?:masks?|labels?|gt|ground[ _-]?truths?|seg(?:mentation)?s?|ann(?:otation)?s?)"
_FOLDER = re.compile(_WORD, re.IGNORECASE)
_NAME = re.compile(rf"(?:{_WORD}[ _.-]+)?(.+?)(?:[ _.-]+{_WORD}(?:[ _.-]?\d+)?)?", re.IGNORECASE)
_MIDDLE = 0.05  # share of middle grey in a picture that is named like a mask: edges, traces of JPEG


def split(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The images among the pictures of a survey, with a column `mask` (a path or ''); notes.

    A picture is a mask where its name or folder says so (`a_mask.png`, `a_label.bmp`,
    `masks/a.png`) and it has few grey levels, or there is an image of that name and it is nearly
    black and white; also where it has few levels and lies beside an image of its name (`a.jpg`,
    `a.png`). Black-and-white pictures of no image are left out, unless most pictures are such.
    """
    paths = [PurePosixPath(name) for name in frame["image"]]
    frame = frame.assign(
        folder=[path.parent for path in paths],
        stem=[path.stem for path in paths],
        core=[_NAME.fullmatch(path.stem)[1] for path in paths],
    )
    named = frame["folder"].map(_mask_folder) | (frame["core"] != frame["stem"])
    few = frame["levels"] <= survey.FEW
    places = pd.MultiIndex.from_frame(frame[["folder", "stem"]])
    beside = places.isin(places[~few])
    stray = (frame["levels"] == 2) & (frame["low"] == 0)
    is_mask = few & (named | beside | (stray & (stray.mean() <= 0.5)))
    shaded = named & ~few & (frame["middle"] < _MIDDLE)
    owner = _owners(frame[is_mask | shaded], frame[~is_mask & ~shaded])
    is_mask |= shaded & (owner.reindex(frame.index, fill_value=-1) >= 0)
    masks, kept, owner = frame[is_mask], frame[~is_mask].assign(mask=""), owner[is_mask]
    first = owner[owner >= 0].drop_duplicates()
    kept.loc[first, "mask"] = masks.loc[first.index, "path"].to_numpy()

    images, paired = masks["image"], masks.loc[first.index]
    further = owner[owner >= 0].index.difference(first.index)
    shape = ["width", "height"]
    other = (paired[shape].to_numpy() != kept.loc[first, shape].to_numpy()).any(axis=1)
    notes = [
        *noted("masks belong to images", paired["image"]),
        *noted("pictures look like masks of no image and are left out", images[owner < 0]),
        *noted("masks are further ones of their image and are not used", images[further]),
        *noted("files are named like masks but hold pictures and are read", kept["image"][named]),
        *noted("masks have another size than their image", paired["image"][other]),
        *noted(
            "masks mark more than half of their image; a defect must be white",
            paired["image"][paired["marked"] > 0.5],
        ),
    ]
    unused = ["folder", "stem", "core", *([] if len(first) else ["mask"])]
    return kept.drop(columns=unused), notes


def _mask_folder(folder: PurePosixPath) -> bool:
    return any(_FOLDER.fullmatch(part) for part in folder.parts)


def _owners(masks: pd.DataFrame, kept: pd.DataFrame) -> pd.Series:
    """Index of each mask's image, -1 where there is none: of its name, in the nearest folder."""
    by_stem, owner = kept.groupby("stem").groups, pd.Series(-1, masks.index)
    for i, mask in masks.iterrows():
        own = [part for part in mask["folder"].parts if not _FOLDER.fullmatch(part)]
        scores = {}
        for j in by_stem.get(mask["core"], ()):
            parts = list(kept.at[j, "folder"].parts)
            scores.setdefault((parts == own, len(set(parts) & set(own))), []).append(j)
        if scores and len(best := scores[max(scores)]) == 1:
            owner[i] = best[0]
    return owner


def boxes(frame: pd.DataFrame, root: Path) -> tuple[pd.DataFrame, list[str]]:
    """The images with a column `boxes`, where there is a `<root>/boxes.csv`; notes.

    The table has file, x, y, w, h in pixels, of the image as seen; the column tuples (left, top,
    right, bottom), as shares of width and height.
    """
    path = root / "boxes.csv"
    if not path.exists():
        return frame, []
    table = files_of(path, list("xywh"))
    numbers = table[list("xywh")].apply(pd.to_numeric, errors="coerce")
    sizes = frame.set_index("image")[["width", "height"]].reindex(table["file"]).to_numpy(float)
    x, y, w, h = numbers.to_numpy(float).T
    here = ~np.isnan(sizes[:, 0])
    inside = (
        (x >= 0) & (y >= 0) & (w > 0) & (h > 0) & (x + w <= sizes[:, 0]) & (y + h <= sizes[:, 1])
    )
    if (bad := here & ~inside).any():
        row = int(np.flatnonzero(bad)[0])
        raise StudyError(
            f"{path}: {bad.sum()} boxes do not lie inside their image (first: row {row + 2}, "
            f"{table['file'][row]}, which has {sizes[row, 0]:.0f} x {sizes[row, 1]:.0f} pixels)"
        )
    edges = np.stack([x, y, x + w, y + h], 1) / np.tile(sizes, 2)
    found: dict[str, list] = {}
    for name, box in zip(table["file"][here], edges[here].tolist()):
        found.setdefault(name, []).append(tuple(box))
    notes = [f"{here.sum()} boxes mark defects of {len(found)} images: weak masks"]
    notes += noted("files of boxes.csv are no images here", table["file"][~here].unique())
    return frame.assign(boxes=[tuple(found.get(name, ())) for name in frame["image"]]), notes


def read(table: pd.DataFrame, size: int) -> np.ndarray:
    """Masks of rows of a table with `mask` or `boxes`, uint8 [n, 1, size, size], 255 on a defect.

    A pixel is marked where any part of it is, so that thin cracks are not lost.
    """
    out = np.zeros((len(table), 1, size, size), np.uint8)
    columns = [table[name] if name in table else [None] * len(table) for name in COLUMNS]
    for canvas, mask, found in zip(out[:, 0], *columns):
        if mask:
            marks = survey.marked(decoding.picture(Path(mask))).astype(np.float32)
            marks = Image.fromarray(marks)
            canvas[np.asarray(marks.resize((size, size), Image.Resampling.BOX)) > 0] = 255
        for left, top, right, bottom in () if mask else found or ():
            rows = slice(int(top * size), int(np.ceil(bottom * size)))
            canvas[rows, int(left * size) : int(np.ceil(right * size))] = 255
    return out
