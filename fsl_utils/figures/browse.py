"""Widgets for the notebooks: extras for whoever steps through them, never needed by what is computed."""

import ipywidgets as widgets
import matplotlib.pyplot as plt
from IPython.display import display

from fsl_utils import StudyError, metrics
from fsl_utils.analysis import contrasts, curves, resampling, tables
from fsl_utils.figures import plots
from fsl_utils.generator import sampling


def sampler(domain, draw, adapter: dict, device: str = "cpu") -> None:
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
                wanted = sampling.request(
                    adapter,
                    domain,
                    draw,
                    mode=mode.value,
                    guidance=guidance.value,
                    strength=strength.value,
                    steps=steps.value,
                    seed=seed.value,
                )
                if "backbone" not in opened:
                    opened["backbone"] = sampling.open_backbone(wanted, device)
                images = sampling.sample(opened["backbone"], wanted, range(8), domain, draw)
            except StudyError as error:
                print(f"error: {error}")
                return
            rows = [(f"{mode.value}, guidance {guidance.value:g}", images)]
            if mode.value != "noise":
                rows.insert(
                    0,
                    (
                        "made from",
                        domain.images(images.shape[-1])[sampling.sources(wanted, range(8), draw)],
                    ),
                )
            figure = plots.sheet(rows, per_row=8)
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


def explorer(table_of_cells, scores) -> None:
    """Choose study, metric, arm and ratio, and see the curve; a button shows the worst errors of that cell as images."""
    made = {tables.slug(tables.setting(part)): part for part in tables.split_studies(table_of_cells)}
    study = widgets.Dropdown(options=list(made), description="study", layout={"width": "36em"})
    metric = widgets.Dropdown(options=metrics.METRICS, description="metric")
    arm, ratio, draw = (widgets.Dropdown(description=name) for name in ("arm", "ratio", "draw"))
    button, out = widgets.Button(description="worst errors"), widgets.Output()

    def chosen():
        part = made[study.value]
        return part[
            (part["arm"] == arm.value)
            & (part["ratio"] == ratio.value)
            & (part["draw"] == draw.value)
        ]

    def show(make):
        out.clear_output(wait=True)
        with out:
            try:
                figure = make()
            except StudyError as error:
                print(f"error: {error}")
                return
            display(figure)
            plt.close(figure)

    def offer(knob, options, first):
        kept = knob.value
        knob.options = options
        knob.value = next(value for value in (kept, first, options[0]) if value in options)

    def refill(_=None):
        part = made[study.value]
        offer(arm, list(dict.fromkeys(part["arm"])), contrasts.PRIMARY[0])
        offer(draw, sorted(part["draw"].unique().tolist()), 0)

    def reratio(_=None):
        part = made[study.value]
        if arm.value is not None:  # as it is for a moment while its options change
            offer(
                ratio,
                sorted(part.loc[part["arm"] == arm.value, "ratio"].unique().tolist()),
                contrasts.PRIMARY[1],
            )

    def curve(_=None):
        if None in (arm.value, ratio.value):
            return
        try:
            table = curves.levels(resampling.resample(made[study.value], scores, metric.value))
        except StudyError as error:
            out.clear_output()
            out.append_stdout(f"error: {error}\n")
            return
        show(lambda: plots.curve(table, list(dict.fromkeys(["real", "duplicate", arm.value]))))
        row = table[(table["arm"] == arm.value) & (table["ratio"] == ratio.value)]
        with out:
            print(
                "\n".join(
                    f"{r.arm} {r.ratio:g}x: {r.mean:.3f} [{r.low:.3f}, {r.high:.3f}], {r.n_draws} draws"
                    for r in row.itertuples()
                )
            )

    def errors(_):
        cells = chosen()
        if cells.empty:
            out.clear_output()
            out.append_stdout("no such cell: choose another draw\n")
        else:
            show(lambda: plots.worst(cells, scores, cells["cell"].iloc[0]))

    arm.observe(reratio, "value")
    study.observe(refill, "value")
    refill()
    curve()
    for knob in (study, metric, arm, ratio):
        knob.observe(curve, "value")
    button.on_click(errors)
    display(
        widgets.VBox([study, widgets.HBox([metric, arm]), widgets.HBox([ratio, draw, button]), out])
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
        figure = plots.sheet(
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
