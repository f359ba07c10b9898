import re

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
        ("rare_class", 7),
        ("rare_class", None),
        ("ratios", [1e9]),
        ("ratios", [float("nan")]),
        ("strength", 1e308),
        ("draw", 10**20),
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


def test_what_is_long_is_cut():
    for bad in (10**5000, "x" * 10**6, [[0] * 10**6] * 100):
        with pytest.raises(StudyError) as caught:
            params.value("draw", bad)
        assert len(str(caught.value)) < 400


def test_an_error_says_the_mend():
    for name, bad, words in (
        ("rare_class", True, "quote it, on the command line: papermill -r rare_class"),
        ("arms", "real", "papermill -y 'arms: "),
        ("drew", 1, "did you mean draw?"),
        ("mode", "nois", "expected noise, from_shot, from_common, inpaint"),
    ):
        with pytest.raises(StudyError, match=re.escape(words)):
            params.value(name, bad)


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("rare_class", "no", "no"),
        ("rare_class", "007", "007"),
        ("rare_class", "null", "null"),
        ("draw", "3", 3),
        ("guidance", "4", 4.0),
        ("draw", "3.5", None),
        ("draw", "1:30", None),
        ("guidance", "nan", None),
        ("mode", "nois", None),
    ],
)
def test_text_of_a_command_line_is_taken_as_it_stands(name, text, expected):
    if expected is None:
        with pytest.raises(StudyError, match=name):
            params.literal(name, text)
    else:
        assert params.literal(name, text) == expected


def test_checked_parameters_do_not_change():
    p = params.check({"n_real": 20, "arms": ["lora"], "strength": 1}, [OWN])
    with pytest.raises(ValueError, match="frozen"):
        p.n_real = 3


def test_every_parameter_has_words():
    assert all(params.comment(name) for name in params.TABLE)


def test_every_default_is_allowed():
    for name in params.TABLE:
        assert params.value(name, params.default(name)) == params.default(name)
