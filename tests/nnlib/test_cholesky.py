"""Claims about ``nnlib.cholesky``: a root where there is one, on any processor, and an error where there is none."""

import pytest
import torch

from nnlib.cholesky import NotPositiveDefinite, cholesky


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_root_squared_is_the_matrix(dtype, scale):
    """Breaks for a threshold that is not relative: these are positive definite at any scale."""
    draw = torch.Generator().manual_seed(0)
    W = torch.randn(6, 6, generator=draw, dtype=dtype)
    M = scale * (W @ W.mT + torch.eye(6, dtype=dtype))
    L = cholesky(M, "never")
    assert torch.equal(L, L.tril())
    torch.testing.assert_close(L @ L.mT, M)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_units_of_the_coordinates_do_not_decide(dtype):
    """D M D has the root D L. Breaks if every pivot is held against the largest entry, as of features in microns."""
    M = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=dtype)
    units = torch.tensor([1e6, 1e-6], dtype=dtype)
    L = cholesky(units[:, None] * M * units, "never")
    torch.testing.assert_close(L / units[:, None], cholesky(M, "never"))
    with pytest.raises(NotPositiveDefinite):
        cholesky(units[:, None] * torch.ones(2, 2, dtype=dtype) * units, "no root")


SINGULAR = {
    "ones": torch.ones(2, 2),
    "a row twice": torch.tensor([[2.0, 1.0, 2.0], [1.0, 3.0, 1.0], [2.0, 1.0, 2.0]]),
    "rank one less": torch.eye(3) - torch.ones(3, 3) / 3,
    "zero": torch.zeros(2, 2),
    "negative": -torch.eye(2),
    "not a number": torch.full((2, 2), float("nan")),
    "infinite": torch.diag(torch.tensor([1.0, float("inf")])),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SINGULAR)
def test_what_has_no_root_is_refused(name, dtype):
    """Breaks if the sign of a rounded pivot decides: [[1, 1], [1, 1]] passes LAPACK on some processors."""
    with pytest.raises(ValueError, match="no root"):
        cholesky(SINGULAR[name].to(dtype), "no root")
