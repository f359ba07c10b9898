"""Widgets for the notebooks: extras for whoever steps through them; nothing computed needs them.

Where nobody can click, as under papermill, a picture or a sentence stands in their place. The
generator is imported by who clicks: that takes 15 s of a processor.
"""

from typing import TYPE_CHECKING

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from IPython.display import display

from fsl_utils import StudyError
from fsl_utils.data import domains
from fsl_utils.figures import sheets

if TYPE_CHECKING:
    from fsl_utils.generator.adapter import AdapterRequest
    from fsl_utils.generator.sampling import PoolRequest

COUNT, WIDTH = 8, 9.0  # images that the sampler shows side by side, and inches they take


def attended() -> bool:
    """Whether a frontend is there that can be asked: JupyterLab can, papermill cannot."""
    kernel = getattr(get_ipython(), "kernel", None)
    request = kernel.get_parent("shell") if kernel else {}
    return bool(request.get("content", {}).get("allow_stdin"))


def sampler(adapter: "AdapterRequest", device: str = "cpu") -> None:
    """Knobs for how to sample, and a button that samples eight images."""
    if not attended():
        print("Open this notebook in JupyterLab to sample with other settings here.")
        return
    from fsl_utils.generator import sampling

    knobs = {
        "mode": widgets.Dropdown(options=sampling.MODES),
        "seed": widgets.IntText(0),
        "guidance": widgets.FloatSlider(1.0, min=1, max=4, step=0.25),
        "strength": widgets.FloatSlider(0.6, min=0.1, max=1, step=0.1, disabled=True),
        "steps": widgets.IntSlider(20, min=5, max=50),
    }
    busy, opened = widgets.Label(), []

    def show(**settings):
        busy.value = f"sampling {COUNT} images, {settings['steps']} steps each ..."
        try:
            pool = sampling.PoolRequest.of(adapter, **settings)
            if not opened:
                opened.append(sampling.open_backbone(pool, device))
            images = sampling.sample(opened[0], pool, range(COUNT))
            _show(sheets.sheet(_beside_real(pool, images), COUNT, WIDTH))
        except StudyError as error:
            print(f"error: {error}")
        finally:
            busy.value = ""

    box = widgets.interactive(show, {"manual": True, "manual_name": "sample"}, **knobs)
    mode, seed, *sliders = knobs.values()

    def switch(_):
        knobs["strength"].disabled = mode.value == "noise"  # which starts from no image

    mode.observe(switch, "value")
    button = widgets.HBox([box.manual_button, busy])
    box.children = [widgets.HBox([mode, seed]), widgets.HBox(sliders), button, box.out]
    display(box)


def _beside_real(pool: "PoolRequest", images: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Rows of a sheet: shots, what images [N, C, S, S] were made from, the images, what changed."""
    from fsl_utils.generator import sampling

    numbers, real = range(len(images)), pool.task.images(images.shape[-1])
    rows = [("shots", real[pool.task.draw.shots[: len(images)]]), ("synthetic", images)]
    if pool.mode == "noise":
        return rows
    origin = real[sampling.sources(pool, numbers)]
    rows.insert(1, ("made from", origin))
    if pool.mode == "inpaint":
        rows.append(("difference (grey: none)", sheets.difference(images, origin)))
    return rows[1:] if pool.mode == "from_shot" else rows


def neighbours(synthetic: np.ndarray, nearest, real: np.ndarray, first: int = 6) -> None:
    """A slider over synthetic images, nearest to a real one first, each beside that real image.

    synthetic: uint8 [N, C, S, S]. nearest: of `copies.Verdicts`. real: all images of the domain, in
    table order. Where nobody can slide, the `first` ones stand side by side.
    """
    order = nearest.sort_values("distance").reset_index(drop=True)
    if not attended():
        rows = order.head(first)
        pairs = np.stack([synthetic[rows["number"]], real[rows["row"]]], axis=1)
        title = "the synthetic images nearest to a real one, each beside it"
        _show(sheets.sheet([(title, pairs.reshape(-1, *pairs.shape[2:]))], 2 * first))
        return

    def show(rank):
        row = order.iloc[rank]
        verdict = "copied" if row["copied"] else "not copied"
        title = f"synthetic {row['number']} | {row['image']} | {row['distance']:.3f}, {verdict}"
        _show(
            sheets.sheet([(title, np.stack([synthetic[row["number"]], real[row["row"]]]))], 2, 3.4)
        )

    last = len(order) - 1
    display(widgets.interactive(show, rank=widgets.IntSlider(0, 0, last, continuous_update=False)))


def browser(domain: domains.Domain, size: int, per_page: int = 48) -> None:
    """Leaf through the development images of a class or a group."""
    if not attended():
        print("Open this notebook in JupyterLab to leaf through all development images here.")
        return
    table = domain.table[domain.table["partition"] == "development"]
    groups = ["all groups", *sorted(table["group"].unique())]
    classes = {"both classes": (0, 1), domain.rare_class: (1,), domain.common_class: (0,)}

    def show(kind, group, page):
        here = table[table["label"].isin(classes[kind])]
        if group != groups[0]:
            here = here[here["group"] == group]
        rows = here.index[page * per_page : (page + 1) * per_page]
        if len(rows):
            title = f"{kind}, {group}: {len(here)} images"
            _show(sheets.sheet([(title, domain.images(size)[rows])]))
        else:
            print(f"{len(here)} such images in development: no page {page}")

    page = widgets.BoundedIntText(0, min=0, max=len(table) // per_page)
    display(widgets.interactive(show, kind=list(classes), group=groups, page=page))


def _show(figure) -> None:
    display(figure)
    plt.close(figure)
