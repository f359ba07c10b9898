import numpy as np
from matplotlib.figure import Figure

from fsl_utils import StudyError
from fsl_utils.figures import widgets
from fsl_utils.generator import sampling
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.generator.sampling import PoolRequest


def test_turning_a_knob_samples_at_once(monkeypatch, task, capsys):
    shown, asked, opened = [], [], []
    monkeypatch.setattr(widgets, "display", shown.append)
    monkeypatch.setattr(sampling, "open_backbone", lambda *_: opened.append(1))

    def sample(backbone, wanted, numbers, *_):
        if wanted.guidance == 4:
            raise StudyError("too much")
        asked.append(wanted)
        return np.zeros((len(numbers), 1, 64, 64), np.uint8)

    monkeypatch.setattr(sampling, "sample", sample)
    adapter = AdapterRequest.new(task, 1)
    widgets.sampler(adapter)
    rows = shown.pop().children
    (mode, seed), (guidance, strength, steps), button = rows[0].children, rows[1].children, rows[2]
    assert not asked and not opened  # headless, nothing is computed
    for knob, value in ((mode, "inpaint"), (guidance, 2.0), (strength, 0.3), (steps, 5), (seed, 3)):
        knob.value = value
        turned = dict(
            guidance=guidance.value, strength=strength.value, steps=steps.value, seed=seed.value
        )
        assert asked[-1] == PoolRequest.of(adapter, mode="inpaint", **turned)
        assert isinstance(shown.pop(), Figure)
    button.click()
    assert asked[-1] == asked[-2] and len(opened) == 1
    shown.clear()
    guidance.value = 4.0
    assert "error: too much" in capsys.readouterr().out and not shown
