import pytest

from fsl_utils import StudyError, params

OWN = '# Parameters\nn_real = 40\narms = ["real"]\nstrength = 0.6'


def test_values_come_from_the_namespace():
    got = params.check({"n_real": 20, "arms": ["lora"], "strength": 1, "other": 3}, ["", OWN])
    assert (got.n_real, got.arms, got.strength) == (20, ["lora"], 1.0) and isinstance(
        got.strength, float
    )


def test_an_injected_unknown_parameter_is_an_error():
    with pytest.raises(StudyError, match="unknown parameter 'n_reel'"):
        params.check(
            {"n_real": 20, "arms": ["lora"], "strength": 1}, ["", OWN, "# Parameters\nn_reel = 3"]
        )
    params.check(
        {"n_real": 20, "arms": ["lora"], "strength": 1},
        ["", OWN, "# Parameters\nn_real = 20", "n_reel = 3"],
    )


@pytest.mark.parametrize(
    "name, bad",
    [
        ("n_real", "40"),
        ("n_real", 0),
        ("n_real", True),
        ("n_real", 4.5),
        ("ratios", [1, -1]),
        ("ratios", 4),
        ("ratios", []),
        ("arms", "real"),
        ("strength", 0),
        ("strength", 1.5),
        ("guidance", float("inf")),
        ("protocol", "patient"),
        ("domain", 3),
        ("image_size", 63),
        ("evaluate_on", "train"),
    ],
)
def test_wrong_types_and_values_are_errors_that_name_both(name, bad):
    with pytest.raises(StudyError, match=name) as caught:
        params.value(name, bad)
    assert repr(bad) in str(caught.value) and "\n" not in str(caught.value)


def test_every_default_is_allowed():
    for name in params.TABLE:
        assert params.value(name, params.default(name)) == params.default(name)
