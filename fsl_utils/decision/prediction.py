"""New images scored with a model folder that a decision left: `fsl predict`."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fsl_utils import StudyError, files
from fsl_utils.data import decoding, images, survey
from fsl_utils.data.datasets.tables import some
from fsl_utils.decision import candidates, seen
from fsl_utils.decision.candidates import Fitted
from fsl_utils.decision.takeaway import CARD, FORMAT, WEIGHTS, likeness

_FIELDS = {"family": str, "takes": str, "chain": dict, "threshold": dict, "unlike": dict}


class Model:
    """A model folder. Raises StudyError where it is damaged or of another version."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.card = _card(self.folder)
        tensors = _tensors(self.folder, self.card)
        own = {n: t for n, t in tensors.items() if not n.startswith("like.")}
        self.like = {n.removeprefix("like."): t for n, t in tensors.items() if n not in own}
        self.fitted = Fitted(self.card["family"], own)
        chain = self.card["chain"]
        self.size, self.channels = chain["image_size"], chain["channels"]
        self.levels = decoding.Levels(*chain["levels"]) if chain["levels"] else None
        here = {name: view.params() for name, view in seen.views(self.size).items()}
        if chain["views"] != here:
            raise StudyError(
                f"{self.folder}: the model was fitted on other features than this version has: "
                "decide again"
            )

    def predict(self, paths: list[Path], device: str = "cpu") -> pd.DataFrame:
        """score (0..1, larger is rarer), called (rare), distance and unlike (from the training
        images), one row an image of `paths`."""
        pixels = images.read_all(paths, self.size, self.channels, levels=self.levels)
        stages = seen.of_pixels("stages", pixels, device)
        takes = self.card["takes"]
        inputs = stages if takes == "stages" else seen.of_pixels(takes, pixels, device)
        scores = self.fitted.score(inputs)
        away = candidates.distance(self.like, likeness(stages))
        return pd.DataFrame(
            {
                "score": scores,
                "called": scores >= self.card["threshold"]["value"],
                "distance": away,
                "unlike": away > self.card["unlike"]["limit"],
            }
        )

    def expected(self) -> str:
        """What may be expected of its calls, in words."""
        said = ", ".join(
            f"{name} {_interval(self.card['threshold'][name])}" for name in ("precision", "recall")
        )
        on = self.card["trained_on"]
        return (
            f"at this threshold expect {said}, from {on['rare']} images of "
            f"{self.card['rare_class']} in {on['rare_groups']} groups, where they are as frequent "
            "as among the training images"
        )


def _interval(values: dict) -> str:
    value, low, high = (values[name] for name in ("value", "low", "high"))
    return "not known" if None in (value, low, high) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _card(folder: Path) -> dict:
    path = folder / CARD
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: no model of `fsl decide` ({error}); name export/model") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else None
        raise StudyError(f"{path}: its format is {found}, and this version reads {FORMAT}: "
                         "decide again, or take the version that made it")  # fmt: skip
    lacking = [n for n, kind in _FIELDS.items() if not isinstance(card.get(n), kind)]
    if lacking:
        raise StudyError(f"{path} is damaged: {lacking[0]} is missing; decide again")
    return card


def _tensors(folder: Path, card: dict) -> dict[str, np.ndarray]:
    path = folder / WEIGHTS
    try:
        if files.sha256(path) != card.get("weights_sha256"):
            raise StudyError(f"{path} has changed since {CARD} was written: decide again")
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StudyError(f"{path} cannot be read ({error}): decide again") from None


def pictures(root: Path) -> tuple[list[str], list[str]]:
    """Names of the images below a folder, and notes. Raises StudyError where there are none."""
    root = Path(root)
    if not root.is_dir():
        raise StudyError(f"{root}: no such folder")
    names, others = [], []
    for place, below, found in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(name for name in found if not name.startswith(".")):
            path = Path(place, name)
            image = path.suffix.lower() in decoding.SUFFIXES and path.is_file()
            (names if image else others).append(path.relative_to(root).as_posix())
    if not names:
        raise StudyError(f"{root}: no image in it; {len(others)} other files")
    notes = [f"{len(others)} files are no images that are read: {some(others)}"] if others else []
    return names, notes


def looked_at(root: Path, model: Model) -> tuple[list[str], list[str]]:
    """Names of the images that can be scored, and what is to be said of them."""
    names, notes = pictures(root)
    frame = survey.of(Path(root), names)
    strangers = frame["image"][frame["format"] != ""]
    if len(strangers):
        notes.append(f"{len(strangers)} files hold another format than they say and are left out: "
                     f"{some(sorted(strangers))}")  # fmt: skip
    frame = frame[frame["format"] == ""]
    if frame.empty:
        raise StudyError(f"{root}: none of {len(names)} images can be read")
    coloured = int(frame["colour"].astype(bool).sum())
    if coloured and model.channels == 1:
        notes.append(f"{coloured} of {len(frame)} images are in colour: the model is of grey "
                     "images and sees them in grey")  # fmt: skip
    if not coloured and model.channels == 3:
        notes.append("no image is in colour, where the training images were")
    if bool(frame["grey16"].any()) and model.levels is None:
        notes.append("some images have 16 bits and are scaled by their full range")
    for side in ("width", "height"):
        low, high = model.card["seen_sizes"][side]
        out = frame[(frame[side] < low / 2) | (frame[side] > high * 2)]
        if len(out):
            notes.append(f"{len(out)} images have a {side} far from the training images' "
                         f"{low} to {high} pixels: {some(sorted(out['image']))}")  # fmt: skip
    return list(frame["image"]), notes
