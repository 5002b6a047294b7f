"""Claims about ``nnlib.arguments``: what is allowed passes, what is not is named with what is."""

import math

import numpy as np
import pytest
import torch

from nnlib.arguments import function, labels, one_of, real, seeded, whole, within

F64 = torch.float64


@pytest.mark.parametrize("value", [0, 0.5, np.float32(0.5), torch.tensor(0.5), torch.tensor([0.5])])
def test_numbers_of_any_kind_in_the_interval_pass(value):
    within("[0, 1)", x=value)


@pytest.mark.parametrize(
    ("interval", "value"),
    [
        *(("[0, 1)", value) for value in (1, 1.5, -1e-9, math.nan, math.inf, torch.tensor(2.0), 10**400)),
        *(("(0, inf)", value) for value in (0, 0.0, -0.0, math.inf, math.nan)),
        ("[0, inf]", math.inf),
    ],
)
def test_numbers_outside_are_refused(interval, value):
    """Breaks if an open end is taken for a closed one, or NaN and infinity pass a comparison."""
    with pytest.raises(ValueError, match=r"^x must be a number in [\[(]0, (1|inf)[\])]: got "):
        within(interval, x=value)


@pytest.mark.parametrize("value", [True, "1", None, 1j, [1.0], torch.ones(2), torch.tensor(True)])
def test_what_is_no_number_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"^x must be a number in"):
        within("[0, 2]", x=value)
    with pytest.raises(TypeError, match=r"^x must be a whole number of at least 0: got"):
        whole(0, x=value)


@pytest.mark.parametrize(("value", "passes"), [(1, True), (np.int64(3), True), (0, False), (4, False), (2.0, False)])
def test_whole_numbers_lie_between_both_ends(value, passes):
    if passes:
        whole(1, 3, n=value)
    else:
        with pytest.raises(ValueError, match=f"n must be a whole number from 1 to 3: got {value}"):
            whole(1, 3, n=value)


def test_an_argument_may_have_the_name_of_a_bound():
    """Breaks if it is taken for the bound, and nothing is looked at."""
    with pytest.raises(ValueError, match="most must be a whole number of at least 1: got 0"):
        whole(1, most=0)
    with pytest.raises(ValueError, match="interval must be a number"):
        within("(0, 1)", interval=2.0)
    with pytest.raises(ValueError, match="allowed must be one of"):
        one_of(("a",), allowed="b")


@pytest.mark.parametrize("value", ["reflect", "", None, 1, ["zeros"]])
def test_what_is_not_in_a_list_is_refused(value):
    with pytest.raises(ValueError, match="padding must be one of zeros, circular: got"):
        one_of(("zeros", "circular"), padding=value)


def test_sizes_are_the_same_in_all_tensors_and_given_back():
    x, y, G = torch.ones(3, 2), torch.ones(3), torch.ones(3, 3)
    sizes = real("n d", x=x)
    assert real("n", sizes, y=y) == sizes == {"n": 3, "d": 2} == real("n n", sizes, G=G)
    assert real("n ...", image=torch.ones(4, 1, 2, 2)) == {"n": 4}
    assert real("n 2", x=x) == {"n": 3}


@pytest.mark.parametrize(
    ("shape", "x", "message"),
    [
        ("n d", torch.ones(3), r"x must have shape \(n, d\), no axis empty: got \(3,\)"),
        ("n d", torch.ones(0, 2), r"no axis empty: got \(0, 2\)"),
        ("n d", torch.ones(3, 2, 1), r"got \(3, 2, 1\)"),
        ("n 3", torch.ones(4, 2), r"shape \(n, 3\), no axis empty: got \(4, 2\)"),
        ("n n", torch.ones(3, 2), r"shape \(n, n\)"),
        ("m d", torch.ones(3, 2), r"shape \(m, d\), where m = 5"),
        ("n d ...", torch.ones(3), r"shape \(n, d, \.\.\.\)"),
        ("n d", torch.tensor([[1.0, math.nan]]), "x must hold finite numbers: got nan"),
        ("n d", torch.tensor([[1.0, -math.inf]]), "x must hold finite numbers: got -inf"),
    ],
)
def test_other_shapes_and_what_is_not_finite_are_refused(shape, x, message):
    with pytest.raises(ValueError, match=message):
        real(shape, {"m": 5}, x=x)


@pytest.mark.parametrize("x", [[1.0], None, np.ones(3), torch.ones(3, dtype=torch.int64), torch.ones(3) > 0, 1j])
def test_what_is_no_real_tensor_is_a_type_error(x):
    with pytest.raises(TypeError, match="x must be a tensor of real numbers: got"):
        real("n", x=x)


def test_labels_lie_between_0_and_the_classes():
    labels(3, "n", y=torch.tensor([0, 2]))
    for y, told in ((torch.tensor([0, 3]), "labels from 0 to 2: got 3"), (torch.tensor([-1, 0]), "got -1")):
        with pytest.raises(ValueError, match=told):
            labels(3, "n", y=y)
    with pytest.raises(TypeError, match="whole numbers"):
        labels(3, "n", y=torch.tensor([0.0, 1.0]))


def test_a_seed_gives_its_own_generator_and_no_other_number_does():
    before = torch.get_rng_state()
    first, again = (torch.rand(3, generator=seeded(5), dtype=F64) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(before, torch.get_rng_state())
    for seed in (-1, 2.5, 2**63):
        with pytest.raises(ValueError, match="seed must be a whole number from 0"):
            seeded(seed)


@pytest.mark.parametrize("value", [torch.nn.MSELoss, object, 3, [], "relu"])
def test_what_makes_an_object_or_nothing_when_it_is_called_is_no_function(value):
    """Breaks if a class passes: it can be called, and then a module comes in the place of a loss."""
    function(loss=torch.nn.MSELoss(), step=len, none=None, short=lambda x: x)
    with pytest.raises(TypeError, match="loss must be a function, not a class: got "):
        function(loss=value)
