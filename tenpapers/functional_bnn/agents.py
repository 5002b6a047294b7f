"""Who plays a contextual bandit? Agents that act on one draw of what they believe (Thompson sampling).

Paper: arXiv 1903.05779, section 5.3; baselines as in Riquelme, Tucker, Snoek 2018. Chapter: book/functional_bnn.ipynb.
"""

from collections.abc import Callable

import numpy as np
import torch
from gpytorch.kernels import RBFKernel, ScaleKernel
from torch import Tensor, nn

from nnlib.bayes import Gaussian
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.priors import GaussianProcess
from nnlib.functional_bnn.train import FunctionSpace, WeightSpace, fit
from nnlib.models import MLP

HIDDEN = 50
STEPS = 60  # of Adam, at each update
BATCH = 64


class Uniform:
    """Any action, with equal odds.

    Args:
        d: Features of a context.
        actions: K.
        seed: Of all draws.
    """

    def __init__(self, d: int, actions: int, seed: int):
        self.actions, self.seed = actions, seed
        self.generator, self.rng = torch.Generator("cpu").manual_seed(seed), np.random.default_rng(seed)

    def act(self, context: Tensor) -> int:
        """The next action in this context, (d,)."""
        return int(self.rng.integers(self.actions))

    def learn(self, contexts: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Called every few rounds with all that was seen: (t, d), (t,) and (t,)."""


class Regressions:
    """For each action a Bayesian linear regression with unknown noise: normal and inverse Gamma, in closed form.

    The prior of the weights is N(0, 4 s²) with noise variance s² ~ inverse Gamma(6, 6).

    Args:
        features: (t, k), a constant is put beside them.
        actions: (t,).
        rewards: (t,).
        number: Of actions.

    Source: Riquelme, Tucker, Snoek 2018, LinFullPost.
    """

    def __init__(self, features: Tensor, actions: Tensor, rewards: Tensor, number: int):
        z = nn.functional.pad(features, (0, 1), value=1.0).numpy()
        self.posteriors = []
        for action in range(number):
            rows = (actions == action).numpy()
            x, r = z[rows], rewards.numpy()[rows]
            precision = x.T @ x + 0.25 * np.eye(z.shape[1])
            root = np.linalg.cholesky(np.linalg.inv(precision))
            mean = root @ (root.T @ (x.T @ r))
            a, b = 6 + len(r) / 2, 6 + 0.5 * (r @ r - mean @ precision @ mean)
            self.posteriors.append((mean, root, a, b))

    def draw(self, features: Tensor, rng: np.random.Generator) -> int:
        """The best action at features (k,) under one draw of all regressions."""
        z = np.append(features.numpy(), 1.0)
        values = []
        for mean, root, a, b in self.posteriors:
            variance = b / rng.gamma(a)
            values.append(z @ (mean + variance**0.5 * (root @ rng.standard_normal(len(mean)))))
        return int(np.argmax(values))


class Linear(Uniform):
    """The exact posterior of linear regressions on the context."""

    def learn(self, contexts: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """The posterior of everything seen."""
        self.belief = Regressions(contexts, actions, rewards, self.actions)

    def act(self, context: Tensor) -> int:
        """The best action of one draw."""
        return self.belief.draw(context, self.rng)


class Dropout(Uniform):
    """A network (context) -> rewards of all actions; a draw of dropout's mask stands for one of the posterior."""

    keep = 0.8

    def __init__(self, d: int, actions: int, seed: int):
        super().__init__(d, actions, seed)
        self.model = MLP([d, HIDDEN, HIDDEN, actions], seed=seed, dtype=torch.float64)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 3e-3)

    def _run(self, x: Tensor) -> Tensor:
        for layer in self.model.layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU) and self.keep < 1:
                x = x * (torch.rand(x.shape, generator=self.generator, dtype=x.dtype) < self.keep) / self.keep
        return x  # (t, K)

    def learn(self, contexts: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Some steps of Adam on the squared error of the actions taken."""
        y = standardised(rewards)
        for _ in range(STEPS):
            rows = torch.randint(len(y), (BATCH,), generator=self.generator)
            outputs = self._run(contexts[rows]).gather(1, actions[rows, None])[:, 0]
            loss = (outputs - y[rows]).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def act(self, context: Tensor) -> int:
        """The best action of one thinned network."""
        return int(self._run(context[None]).argmax())


class NeuralLinear(Dropout):
    """The exact posterior of linear regressions on the last hidden layer of a network that is trained by itself."""

    keep = 1.0

    @torch.no_grad()
    def features(self, contexts: Tensor) -> Tensor:
        """(t, d) -> (t, 50)."""
        return self.model.layers[:-1](contexts)

    def learn(self, contexts: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Train the features, then the posterior of everything seen."""
        super().learn(contexts, actions, rewards)
        self.belief = Regressions(self.features(contexts), actions, standardised(rewards), self.actions)

    def act(self, context: Tensor) -> int:
        """The best action of one draw."""
        return self.belief.draw(self.features(context[None])[0], self.rng)


class BayesByBackprop(Uniform):
    """A stochastic network (context, action) -> reward, whose ELBO has the KL between weights."""

    noise_sd = 0.3  # of standardised rewards

    def __init__(self, d: int, actions: int, seed: int):
        super().__init__(d, actions, seed)
        sizes = [d + actions, HIDDEN, HIDDEN, 1]
        self.network = StochasticMLP(sizes, "relu", log_sd=-3.0, seed=seed, dtype=torch.float64)
        self.updates = 0

    def penalty(self, x: Tensor) -> WeightSpace | FunctionSpace:
        """What is added to the likelihood."""
        return WeightSpace(1.0)

    def joined(self, contexts: Tensor, actions: Tensor) -> Tensor:
        """Contexts with a one-hot action behind: (t, d + K)."""
        return torch.cat([contexts, nn.functional.one_hot(actions, self.actions).to(contexts)], 1)

    def learn(self, contexts: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Some steps on everything seen, from where the network is."""
        x = self.joined(contexts, actions)
        likelihood = Gaussian(self.noise_sd**2, dtype=torch.float64)
        self.updates += 1
        seed = 1000 * self.seed + self.updates
        options = {"steps": STEPS, "lr": 3e-3, "samples": 30, "batch_size": BATCH, "seed": seed}
        fit(self.network, x, standardised(rewards), self.penalty(x), likelihood, **options)

    @torch.no_grad()
    def act(self, context: Tensor) -> int:
        """The best action of one function."""
        x = self.joined(context.expand(self.actions, -1), torch.arange(self.actions))
        return int(self.network.draw(1, self.generator)(x).argmax())


class FunctionalBNN(BayesByBackprop):
    """The same network, whose ELBO has the KL between functions; the prior is one Gaussian process over all actions.

    Its kernel is RBF in the context times RBF in the one-hot action: rewards of different actions are correlated at
    e^−1 of their variance. The context's length is the median distance between contexts.
    """

    def penalty(self, x: Tensor) -> FunctionSpace:
        """The KL at the batch and ten points of the box [min − r/2, max + r/2], with one-hot actions relaxed."""
        d = x.shape[1] - self.actions
        kernel = ScaleKernel(RBFKernel(ard_num_dims=x.shape[1])).double()
        some = x[: min(len(x), 200), :d]
        length = torch.pdist(some).median().clamp_min(0.1)
        kernel.base_kernel.lengthscale = torch.cat([length.expand(d), torch.ones(self.actions).double()])
        kernel.outputscale = 1.0
        low, high = x.min(0).values, x.max(0).values
        margin = 0.5 * (high - low) * (torch.arange(x.shape[1]) < d) + 1e-3
        prior = GaussianProcess(kernel.requires_grad_(False))
        return FunctionSpace(prior, low - margin, high + margin, n_random=10, injected_noise=0.05, kl_scale="data")


def standardised(rewards: Tensor) -> Tensor:
    """Rewards so far with mean 0 and standard deviation 1; the order of actions is not changed."""
    return (rewards - rewards.mean()) / rewards.std().clamp_min(1e-3)


AGENTS: dict[str, Callable[[int, int, int], Uniform]] = {
    "uniform": Uniform,
    "linear": Linear,
    "neural linear": NeuralLinear,
    "dropout": Dropout,
    "Bayes by backprop": BayesByBackprop,
    "fBNN": FunctionalBNN,
}
