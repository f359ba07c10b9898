"""Widgets for the notebooks: extras for whoever steps through them, never needed by what is computed."""

import ipywidgets as widgets
import matplotlib.pyplot as plt
from IPython.display import display

from fsl_utils import StudyError
from fsl_utils.data import domains
from fsl_utils.figures import sheets
from fsl_utils.generator import sampling
from fsl_utils.generator.adapter import AdapterRequest


def sampler(adapter: AdapterRequest, device: str = "cpu") -> None:
    """Knobs for mode, guidance, strength, steps and seed: eight images at every turn of one, or at the button."""
    mode = widgets.Dropdown(options=sampling.MODES, description="mode")
    once = dict(continuous_update=False)  # when the knob is let go
    guidance = widgets.FloatSlider(1.0, min=1, max=4, step=0.25, description="guidance", **once)
    strength = widgets.FloatSlider(0.6, min=0.1, max=1, step=0.1, description="strength", **once)
    steps = widgets.IntSlider(20, min=5, max=50, description="steps", **once)
    seed = widgets.IntText(0, description="seed")
    button, out = widgets.Button(description="sample"), widgets.Output()
    opened = {}  # the backbone, loaded at the first press

    def show(_):
        with out:
            out.clear_output(wait=True)
            try:
                pool = sampling.PoolRequest.of(
                    adapter,
                    mode=mode.value,
                    guidance=guidance.value,
                    strength=strength.value,
                    steps=steps.value,
                    seed=seed.value,
                )
                if "backbone" not in opened:
                    opened["backbone"] = sampling.open_backbone(pool, device)
                images = sampling.sample(opened["backbone"], pool, range(8))
            except StudyError as error:
                print(f"error: {error}")
                return
            rows = [(f"{mode.value}, guidance {guidance.value:g}", images)]
            if mode.value != "noise":
                real = pool.task.images(images.shape[-1])
                rows.insert(0, ("made from", real[sampling.sources(pool, range(8))]))
            figure = sheets.sheet(rows, per_row=8)
            display(figure)
            plt.close(figure)

    button.on_click(show)
    for knob in (mode, guidance, strength, steps, seed):
        knob.observe(show, "value")
    display(
        widgets.VBox(
            [widgets.HBox([mode, seed]), widgets.HBox([guidance, strength, steps]), button, out]
        )
    )


def neighbours(synthetic, nearest, real) -> None:
    """A slider over synthetic images, nearest to a real one first, each beside that real image.

    synthetic: uint8 [N, C, S, S]. nearest: of `copies.Verdicts`. real: all images of the domain, in table order.
    """
    order = nearest.sort_values("distance").reset_index(drop=True)
    place, out = (
        widgets.IntSlider(0, min=0, max=len(order) - 1, description="rank"),
        widgets.Output(),
    )

    def show(_=None):
        row = order.iloc[place.value]
        verdict = "copied" if row["copied"] else "not copied"
        figure = sheets.sheet(
            [
                (
                    f"synthetic {row['number']} | {row['image']} | distance {row['distance']:.3f}, {verdict}",
                    [synthetic[row["number"]], real[row["row"]]],
                )
            ],
            per_row=2,
        )
        figure.set_size_inches(3.4, 2)
        with out:
            out.clear_output(wait=True)
            display(figure)
        plt.close(figure)

    place.observe(show, "value")
    show()
    display(widgets.VBox([place, out]))


def browser(domain: domains.Domain, size: int, per_page: int = 48) -> None:
    """Widgets to leaf through the development images of a class or a group. An extra: nothing is computed from it."""
    table = domain.table[domain.table["partition"] == "development"]
    names = {
        "choose": table.index[:0],
        "both classes": table.index,
        domain.rare_class: table.index[table["label"] == 1],
        domain.common_class: table.index[table["label"] == 0],
    }
    kind = widgets.Dropdown(options=list(names), description="class")
    group = widgets.Dropdown(
        options=["all groups", *sorted(table["group"].unique())], description="group"
    )
    page, out = widgets.BoundedIntText(0, min=0, max=9999, description="page"), widgets.Output()

    def show(_):
        rows = names[kind.value]
        if group.value != "all groups":
            rows = rows[table["group"].loc[rows] == group.value]
        page.max = max(0, (len(rows) - 1) // per_page)
        here = rows[page.value * per_page : (page.value + 1) * per_page]
        with out:
            out.clear_output(wait=True)
            if not len(here):
                print("no such images in development")
                return
            figure = sheets.sheet(
                [(f"{kind.value}, {group.value}: {len(rows)} images", domain.images(size)[here])]
            )
            display(figure)
            plt.close(figure)

    for widget in (kind, group, page):
        widget.observe(show, "value")
    display(widgets.VBox([widgets.HBox([kind, group, page]), out]))
