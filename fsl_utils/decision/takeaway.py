"""What is taken away: the recommended training set as plain files, and the classifier as a folder.

The classifier is `model.safetensors` with `model.json`: the chain that an image goes through, the
threshold, and what may be expected of it. No code is stored in either.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.numpy import save_file

from fsl_utils import __version__, files, store
from fsl_utils.classifier.training import balance
from fsl_utils.decision import candidates
from fsl_utils.decision.candidates import at
from fsl_utils.decision.run import Decision
from fsl_utils.decision.seen import STAGES, views

FORMAT = 1  # raised when an older reader would misread a model folder
LIKE = (10, 14)  # stages whose features say whether an image looks like the training ones
QUANTILE = 0.99  # of held-out training images, beyond which one looks unlike them
WEIGHTS, CARD = "model.safetensors", "model.json"


def export(decision: Decision, folder: Path) -> Path:
    """Write `train/<class>/*.png`, `weights.csv` and `model/` to a new folder; returns it.

    weights.csv: file, label, group, weight (each class sums to one half), origin (real, augmented
    or synthetic).
    """
    training_set(decision, folder)
    model(decision, folder / "model")
    return folder


def training_set(decision: Decision, folder: Path) -> None:
    """The images as the classifier sees them, and their weights."""
    seen, table = decision.seen, decision.intake.domain.table
    names = (decision.intake.counts["common_class"], decision.intake.counts["rare_class"])
    rows = []
    for i, (image, label, group) in enumerate(zip(table["image"], seen.labels, table["group"])):
        rows.append((f"{i:05d}_{Path(image).stem}", label, group, "real", seen.pixels[i], 1.0))
    if add := decision.chosen.added:
        origin, pixels, labels, weights = add(seen, np.arange(len(seen.labels)))
        rows += [
            (f"{origin}_{i:05d}", label, "", origin, image, weight)
            for i, (image, label, weight) in enumerate(zip(pixels, labels, weights))
        ]
    labels, weights = np.array([row[1] for row in rows]), np.array([row[5] for row in rows])
    listed = []
    balanced = balance(labels, weights)
    for (stem, label, group, origin, image, _), weight in zip(rows, balanced):
        name = f"train/{plain(names[label])}/{plain(stem)}.png"
        picture = Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1))
        store.write_whole(folder / name, lambda partial: picture.save(partial, format="PNG"))  # noqa: B023
        listed.append((name, int(label), group, weight, origin))
    columns = ["file", "label", "group", "weight", "origin"]
    text = pd.DataFrame(listed, columns=columns).to_csv(index=False, float_format="%.8g")
    store.write_text(folder / "weights.csv", text)


def plain(name: str) -> str:
    """A name of a file that no system takes for a path; of two names two. Other characters are
    written as in addresses, a leading dot too: %2B for a plus.
    """
    safe = [c.isalnum() or c in " _-" or (c == "." and i > 0) for i, c in enumerate(name)]
    return "".join(c if kept else f"%{ord(c):02X}" for c, kept in zip(name, safe)) or "_"


def model(decision: Decision, folder: Path) -> None:
    """The chosen way, fitted on all images. Raises StudyError where that cannot be."""
    seen, way, domain = decision.seen, decision.chosen, decision.intake.domain
    rows = np.arange(len(seen.labels))
    fitted = way.fit(seen, rows)
    like, limit = _likeness(decision)
    tensors = fitted.tensors | {f"like.{name}": value for name, value in like.items()}
    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    store.write_whole(folder / WEIGHTS, lambda partial: save_file(arrays, partial))
    levels = [int(domain.table[c].iloc[0]) for c in ("black", "white")] if (
        "white" in domain.table
    ) else None  # fmt: skip
    counts = decision.intake.counts
    card = {
        "format": FORMAT,
        "package": __version__,
        "weights_sha256": files.sha256(folder / WEIGHTS),
        "way": way.name,
        "title": way.title,
        "family": fitted.family,
        "takes": way.takes,
        "rare_class": domain.rare_class,
        "common_class": domain.common_class,
        "chain": {
            "image_size": seen.size,
            "channels": seen.channels,
            "levels": levels,
            "views": {name: view.params() for name, view in views(seen.size).items()},
        },
        "threshold": decision.answer.params()["threshold"],
        "unlike": {"limit": limit, "quantile": QUANTILE},
        "trained_on": {n: counts[n] for n in ("images", "rare", "groups", "rare_groups")},
        "seen_sizes": {"width": counts["width"], "height": counts["height"]},
        "verdict": decision.answer.verdict,
    }
    store.write_text(folder / CARD, json.dumps(card, indent=1))


def likeness(stages: list[np.ndarray]) -> list[np.ndarray]:
    """The stages that say whether images look alike."""
    return [stages[STAGES.index(layer)] for layer in LIKE]


def _likeness(decision: Decision) -> tuple[dict, float]:
    """Gaussians of all training images, and the distance that few of those have that were held out
    by group."""
    layers, fold = likeness(decision.seen.of("stages")), decision.evidence.fold[0]
    away = np.empty(len(fold))
    for k in np.unique(fold):
        known = candidates.gaussians(at(layers, np.flatnonzero(fold != k)))
        away[fold == k] = candidates.distance(known, at(layers, np.flatnonzero(fold == k)))
    return candidates.gaussians(layers), float(np.quantile(away, QUANTILE))
