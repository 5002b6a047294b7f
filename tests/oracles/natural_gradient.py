"""The natural gradient, slowly and obviously: every matrix of size P x P or n x P written out."""

import numpy as np
import torch


def dense_jacobian(model, x):
    """J by one backward pass for each output, shape (n C, P)."""
    u = model(x).flatten()
    parameters = list(model.parameters())
    rows = []
    for i in range(len(u)):
        grads = torch.autograd.grad(u[i], parameters, retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows)


def natural_gradient(model, x, slope, damping=0.0, curvature=None):
    """(J' H J + damping I)^+ J' slope in the space of the parameters, with a P x P matrix."""
    J = dense_jacobian(model, x)
    H = torch.eye(len(J), dtype=J.dtype) if curvature is None else torch.diag(curvature.flatten())
    F = J.T @ H @ J + damping * torch.eye(J.shape[1], dtype=J.dtype)
    return torch.linalg.pinv(F, hermitian=True, rtol=1e-10) @ (J.T @ slope.flatten())


def kfac_step(net, x, slope):
    """((S'S) (x) (X'X))^+ vec(gradient) with the Kronecker product written out, shape (m, d)."""
    S = net.features(x)
    factor = torch.kron(S.T @ S, x.T @ x)  # row-major vec of W (m, d)
    gradient = S.T @ (slope[:, None] * x)
    return (torch.linalg.pinv(factor, hermitian=True, rtol=1e-10) @ gradient.flatten()).view_as(gradient)


def sampled_gram(x, count, seed=0):
    """G_inf by sampling weight vectors, the mean over them and its standard error, (n, n) each."""
    rng = np.random.default_rng(seed)
    active = (x @ rng.standard_normal((x.shape[1], count)) >= 0).astype(float)  # (n, count)
    share = active @ active.T / count
    inner = x @ x.T
    return inner * share, np.abs(inner) * np.sqrt(share * (1 - share) / count)
