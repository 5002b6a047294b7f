import pandas as pd
import pytest

from tenpapers.noisy_ekfac import paired, verdict


def differences(*rows):
    return pd.DataFrame(rows, columns=["mean", "error"])


def test_a_pair_is_two_runs_of_one_split_whatever_their_order():
    """Breaks if rows are subtracted by position."""
    frame = pd.DataFrame({"data": "x", "split": [0, 1, 1, 0], "method": list("aabb"), "rmse": [1.0, 5.0, 5.0, 2.0]})
    found = paired(frame, "data", "split", "rmse", frame.method == "b", frame.method == "a")
    assert found.loc["x"].tolist() == [0.5, 0.5]  # differences 1 and 0; their deviation, sqrt(1/2), over sqrt(2)


def test_a_missing_or_doubled_run_is_refused():
    frame = pd.DataFrame({"data": "x", "split": [0, 1, 0], "method": list("aab"), "rmse": 1.0})
    with pytest.raises(ValueError, match="one run of both"):
        paired(frame, "data", "split", "rmse", frame.method == "b", frame.method == "a")
    frame["split"] = 0
    with pytest.raises(ValueError, match="one run of both"):
        paired(frame, "data", "split", "rmse", frame.method == "b", frame.method == "a")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(3.0, 1.0), (2.1, 1.0)], "agrees"),
        ([(3.0, 1.0), (1.9, 1.0)], "agrees in trend"),
        ([(3.0, 1.0), (-0.1, 1.0)], "disagrees"),
        ([(-3.0, 1.0), (-3.0, 1.0)], "disagrees"),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_consistently_better_means_on_every_set(rows, expected, sign):
    """Breaks if a mean over sets decides, or the sign is lost where smaller is better."""
    assert verdict(differences(*((sign * mean, error) for mean, error in rows)), sign) == expected


def test_a_single_pair_has_no_error_and_gets_no_verdict():
    with pytest.raises(ValueError, match="two pairs"):
        verdict(differences((1.0, float("nan"))), 1)
