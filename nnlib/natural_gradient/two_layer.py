"""The network of the paper: two layers, ReLU, wide, only the first layer trained; its Gram matrix and its limit.

Paper: arXiv 1905.10961, two-layer ReLU networks. Chapter: ``book/natural_gradient.ipynb``.
"""

import math

import torch
from torch import Tensor, nn

from nnlib.arguments import real, seeded, typed, whole, within


class TwoLayer(nn.Module):
    """f(x) = m^(-1/2) sum_r a_r relu(w_r' x), with w_r ~ N(0, nu^2 I) trained and a_r = +-1 fixed.

    Args:
        in_features: d, at least 1.
        width: m, at least 1.
        nu: Standard deviation of the initial weights, > 0.
        seed: Of the weights and signs; the same seed gives the same network on any device.
        device: Of weights and signs.
        dtype: Of weights and signs.

    Raises:
        ValueError: a size is below 1, or nu is not positive and finite, or the seed is negative.

    Source: arXiv 1905.10961, two-layer ReLU networks. Chapter: ``book/natural_gradient.ipynb``.

    >>> TwoLayer(in_features=3, width=8)(torch.eye(3)).shape
    torch.Size([3, 1])
    """

    weight: nn.Parameter  # (m, d)
    sign: Tensor  # (m,)

    @typed
    def __init__(
        self,
        in_features: int,
        width: int,
        nu: float = 1.0,
        seed: int = 0,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        whole(1, in_features=in_features, width=width)
        within("(0, inf)", nu=nu)
        generator = seeded(seed)
        normal = torch.randn(width, in_features, generator=generator, dtype=torch.float64, device="cpu")
        coin = torch.randint(0, 2, (width,), generator=generator, device="cpu")
        self.weight = nn.Parameter((nu * normal).to(device, dtype or torch.get_default_dtype()))  # (m, d)
        self.register_buffer("sign", (2 * coin - 1).to(self.weight))  # (m,)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs, shape (n, 1), of inputs of shape (n, d)."""
        return (torch.relu(x @ self.weight.T) @ self.sign / math.sqrt(len(self.sign)))[:, None]

    @typed
    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """S, the gradients at the pre-activations: S_ir = a_r 1(w_r' x_i >= 0) / sqrt(m), shape (n, m).

        Raises:
            ValueError: x is no finite (n, d).
        """
        real("n d", {"d": self.weight.shape[1]}, x=x)
        return (x @ self.weight.T >= 0) * self.sign / math.sqrt(len(self.sign))

    def gram(self, x: Tensor) -> Tensor:
        """G = J J' = (X X') o (S S'), shape (n, n), without the n x (m d) matrix J.

        Raises:
            ValueError: x is no finite (n, d).
        """
        S = self.features(x)
        return (x @ x.T) * (S @ S.T)


@typed
def infinite_gram(x: Tensor, z: Tensor | None = None) -> Tensor:
    """G_inf, the Gram matrix of the network of infinite width: x_i' z_j (pi - angle(x_i, z_j)) / (2 pi).

    For z = x its smallest eigenvalue lambda_0 is positive if no two inputs are parallel.

    Args:
        x: Shape (n, d), no row zero. The paper's rows have length one; others are allowed.
        z: Shape (k, d), no row zero; by default x.

    Returns:
        Shape (n, k).

    Raises:
        ValueError: a row is zero: it has no angle; or x and z are not finite matrices of as many columns.

    Source: arXiv 1905.10961, two-layer ReLU networks. Chapter: ``book/natural_gradient.ipynb``.

    >>> infinite_gram(torch.eye(2))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    z = x if z is None else z
    real("k d", {"d": real("n d", x=x)["d"]}, z=z)
    unit_x, unit_z = x / lengths(x=x), z / lengths(z=z)
    # The angle from its half, by |u - v| and |u + v|: arccos loses half the digits where inputs are nearly parallel.
    apart, together = (torch.cdist(unit_x, v, compute_mode="donot_use_mm_for_euclid_dist") for v in (unit_z, -unit_z))
    angle = 2 * torch.atan2(apart, together)
    return (x @ z.T) * (math.pi - angle) / (2 * math.pi)


def lengths(**named: Tensor) -> Tensor:
    """|x_i| of a matrix's rows, shape (n, 1), without squares that overflow; a row of zeros is refused by name."""
    ((name, x),) = named.items()
    largest = x.abs().amax(1, keepdim=True)
    if (largest == 0).any():
        raise ValueError(
            f"{name} must have no row of zeros, which has no angle: row {int((largest == 0).nonzero()[0, 0])} is"
        )
    return largest * (x / largest).norm(dim=1, keepdim=True)
