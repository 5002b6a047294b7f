"""Claims about ``tenpapers.natural_gradient.workloads``."""

import pytest
import torch

from tenpapers.data import load, noted
from tenpapers.natural_gradient.workloads import Bent, flip_labels, pair, problem, sphere

assert_close = torch.testing.assert_close


@pytest.mark.parametrize("problem", [sphere(n=30, d=5), pair("digits", 4, 9, 60)], ids=["sphere", "digits"])
def test_inputs_have_length_one_and_targets_are_plus_and_minus_one(problem):
    for x, y in ((problem.x, problem.y), (problem.x_test, problem.y_test)):
        assert_close(x.norm(dim=1), torch.ones(len(x), dtype=torch.float64))
        assert set(y.tolist()) == {1.0, -1.0}


def test_points_are_uniform_on_the_sphere():
    """E x x' = I / d, within five standard errors. Breaks if they are drawn from a cube."""
    x = sphere(n=20_000, d=3).x
    assert (x.T @ x / len(x) - torch.eye(3) / 3).abs().max() < 5 * (4 / 45 / 20_000) ** 0.5
    assert (x.pow(4).mean(0) - 1 / 5).abs().max() < 0.01


def test_gap_is_the_tangent_of_the_angle_between_the_first_two_points():
    problem = sphere(n=6, d=4, gap=0.05)
    cosine = problem.x[0] @ problem.x[1]
    assert_close(torch.tan(torch.arccos(cosine)), torch.tensor(0.05, dtype=torch.float64), rtol=1e-9, atol=0)
    assert problem.y[0] == -problem.y[1]
    assert torch.equal(problem.x[2:], sphere(n=6, d=4).x[2:])


def test_same_seed_gives_the_same_points_and_another_seed_others():
    assert torch.equal(sphere(seed=3).x, sphere(seed=3).x) and not torch.equal(sphere(seed=3).x, sphere(seed=4).x)
    first, second = pair("digits", 4, 9, 60, seed=0), pair("digits", 4, 9, 60, seed=1)
    assert not torch.equal(first.x, second.x) and torch.equal(first.x_test, second.x_test)


def test_images_of_a_pair_are_those_of_the_two_classes_with_the_right_sign():
    """Breaks if images and labels are shuffled apart."""
    data, problem = load("digits"), pair("digits", 4, 9, 60)
    images = data.train.x.flatten(1).double()
    images = images / images.norm(dim=1, keepdim=True)
    for x, y in zip(problem.x, problem.y, strict=True):
        found = (images - x).norm(dim=1).argmin()
        assert torch.equal(images[found], x) and data.train.y[found] == (4 if y > 0 else 9)
    assert len(problem.y_test) == int(((data.test.y == 4) | (data.test.y == 9)).sum())
    assert problem.source.endswith("; 4 against 9, 60 images for training")


def test_a_problem_moves_to_another_dtype_whole():
    moved = sphere().to(dtype=torch.float32)
    assert all(t.dtype == torch.float32 for t in moved[:4]) and moved.source == sphere().source


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sphere(n=1), "n and d must be at least 2: got 1 and 10"),
        (lambda: sphere(gap=0.0), "gap must be positive, or two inputs are parallel: got 0"),
        (lambda: pair("digits", 4, 4, 10), "two different classes out of 0..9 are needed: got 4 and 4"),
        (lambda: pair("digits", 4, 10, 10), "two different classes out of 0..9"),
        (lambda: pair("digits", 4, 9, 10_000), r"n must be 2 to \d+, the training images of these classes: got 10000"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_flipped_labels_are_as_many_as_asked_for_and_the_same_for_the_same_seed():
    y = torch.ones(40, dtype=torch.float64)
    assert int((flip_labels(y, 0.25, 1) < 0).sum()) == 10 and (y > 0).all()
    assert torch.equal(flip_labels(y, 0.25, 1), flip_labels(y, 0.25, 1))
    assert not torch.equal(flip_labels(y, 0.25, 1), flip_labels(y, 0.25, 2))


def test_a_share_of_labels_beyond_all_is_refused():
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\]: got 1.5"):
        flip_labels(torch.ones(4), 1.5)


def test_a_run_says_what_it_stands_on_also_where_the_problem_is_remembered():
    """Breaks if a second run of the same problem were recorded without its data."""
    for _ in range(2):
        with noted() as heard:
            problem("sphere", 6, 0)
            problem("digits", 20, 0)
        assert heard == [problem("sphere", 6, 0).source, load("digits").source]


def test_jacobian_of_the_bent_model_is_what_its_docstring_says():
    """Breaks if the model's C, which the theorem is checked with, is not its own."""
    model, eye = Bent(3, 0.4), torch.eye(3, dtype=torch.float64)
    with torch.no_grad():
        model.theta += torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
    rows = [torch.autograd.grad(u, model.theta, retain_graph=True)[0] for u in model(eye)[:, 0]]
    assert_close(torch.stack(rows), torch.diag(1 + 0.4 * model.theta.detach().cos()))
