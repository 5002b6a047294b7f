"""Who acts on what it believes? Players of bandits, on one draw of it (Thompson sampling), and searchers of functions.

Paper: arXiv 1903.05779, sections 5.3 and 5.4; the players as in Riquelme, Tucker, Snoek 2018. Chapter:
book/functional_bnn.ipynb.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gpytorch.kernels import RBFKernel, ScaleKernel
from torch import Tensor, nn

from nnlib.bayes import Gaussian, LinearGaussian
from nnlib.descent import descend
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.optimisation import Belief, network_belief, process_belief
from nnlib.functional_bnn.priors import GaussianProcess
from nnlib.functional_bnn.train import FunctionSpace, WeightSpace, fit
from nnlib.models import MLP
from tenpapers.functional_bnn.workloads import Landscape, made

HIDDEN = 50
STEPS = 60  # of Adam, at each update of a player
BATCH = 64


class Uniform:
    """Any action, with equal odds.

    Args:
        d: Features of a context.
        actions: K.
        seed: Of all draws.
        device: Where contexts and rewards are.
    """

    def __init__(self, d: int, actions: int, seed: int, device: torch.device | str = "cpu"):
        self.actions, self.seed, self.device = actions, seed, device
        self.generator, self.rng = torch.Generator("cpu").manual_seed(seed), np.random.default_rng(seed)

    def act(self, context: Tensor) -> int:
        """The next action in this context, (d,)."""
        return int(self.rng.integers(self.actions))

    def learn(self, contexts: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Called every few rounds with all that was seen: (t, d), (t,) and (t,)."""


class Regressions:
    """For each action a Bayesian linear regression with unknown noise: normal and inverse Gamma, in closed form.

    The prior of the weights is N(0, 4 s²) with noise variance s² ~ inverse Gamma(6, 6). Given s², the posterior is that
    of ``LinearGaussian`` with all variances over s².

    Args:
        features: (t, k), a constant is put beside them.
        actions: (t,).
        rewards: (t,).
        number: Of actions.

    Source: Riquelme, Tucker, Snoek 2018, LinFullPost.
    """

    def __init__(self, features: Tensor, actions: Tensor, rewards: Tensor, number: int):
        z = nn.functional.pad(features, (0, 1), value=1.0)
        self.posteriors: list[tuple[Tensor, Tensor, float, float]] = []
        for action in range(number):
            r = rewards[actions == action]
            model = LinearGaussian(z[actions == action], r, 1.0, 4.0)
            mean, root = model.mean, torch.linalg.cholesky(model.covariance)
            a, b = 6 + len(r) / 2, 6 + 0.5 * (r @ r - mean @ model.precision @ mean).item()
            self.posteriors.append((mean, root, a, b))

    def draw(self, features: Tensor, rng: np.random.Generator) -> int:
        """The best action at features (k,) under one draw of all regressions."""
        z = nn.functional.pad(features, (0, 1), value=1.0)
        values = []
        for mean, root, a, b in self.posteriors:
            variance = b / rng.gamma(a)
            normal = torch.from_numpy(rng.standard_normal(len(mean))).to(mean)
            values.append((z @ (mean + variance**0.5 * (root @ normal))).item())
        return int(np.argmax(values))


class Linear(Uniform):
    """The exact posterior of linear regressions on the context."""

    belief: Regressions

    def learn(self, contexts: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """The posterior of everything seen."""
        self.belief = Regressions(contexts, actions, rewards, self.actions)

    def act(self, context: Tensor) -> int:
        """The best action of one draw."""
        return self.belief.draw(context, self.rng)


class Dropout(Uniform):
    """A network (context) -> rewards of all actions; a draw of dropout's mask stands for one of the posterior."""

    keep = 0.8

    def __init__(self, d: int, actions: int, seed: int, device: torch.device | str = "cpu"):
        super().__init__(d, actions, seed, device)
        self.model = MLP([d, HIDDEN, HIDDEN, actions], seed=seed, dtype=torch.float64, device=device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 3e-3)

    def _run(self, x: Tensor) -> Tensor:
        for layer in self.model.layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU) and self.keep < 1:
                unit = torch.rand(x.shape, generator=self.generator, dtype=x.dtype, device="cpu").to(x.device)
                x = x * (unit < self.keep) / self.keep
        return x  # (t, K)

    def learn(self, contexts: Tensor, actions: Tensor, rewards: Tensor) -> None:
        """Some steps of Adam on the squared error of the actions taken."""
        y = standardised(rewards)

        def loss() -> Tensor:
            rows = torch.randint(len(y), (BATCH,), generator=self.generator, device="cpu").to(y.device)
            outputs = self._run(contexts[rows]).gather(1, actions[rows, None])[:, 0]
            return (outputs - y[rows]).square().mean()

        descend(loss, self.optimizer, STEPS)

    @torch.no_grad()
    def act(self, context: Tensor) -> int:
        """The best action of one thinned network."""
        return int(self._run(context[None]).argmax())


class NeuralLinear(Dropout):
    """The exact posterior of linear regressions on the last hidden layer of a network that is trained by itself."""

    keep = 1.0
    belief: Regressions

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

    def __init__(self, d: int, actions: int, seed: int, device: torch.device | str = "cpu"):
        super().__init__(d, actions, seed, device)
        sizes = [d + actions, HIDDEN, HIDDEN, 1]
        self.network = StochasticMLP(sizes, "relu", log_sd=-3.0, seed=seed, dtype=torch.float64, device=device)
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
        likelihood = Gaussian(self.noise_sd**2, dtype=torch.float64, device=self.device)
        self.updates += 1
        seed = 1000 * self.seed + self.updates
        options: dict[str, Any] = {"steps": STEPS, "lr": 3e-3, "samples": 30, "seed": seed}
        options["batch_size"] = min(BATCH, len(x))
        fit(self.network, x, standardised(rewards), self.penalty(x), likelihood, **options)

    @torch.no_grad()
    def act(self, context: Tensor) -> int:
        """The best action of one function."""
        x = self.joined(context.expand(self.actions, -1), torch.arange(self.actions, device=self.device))
        return int(self.network.draw(1, self.generator)(x).argmax())


class FunctionalBNN(BayesByBackprop):
    """The same network, whose ELBO has the KL between functions; the prior is one Gaussian process over all actions.

    Its kernel is RBF in the context times RBF in the one-hot action: rewards of different actions are correlated at
    e^−1 of their variance. The context's length is the median distance between contexts.
    """

    def penalty(self, x: Tensor) -> FunctionSpace:
        """The KL at the batch and ten points of the box [min − r/2, max + r/2], with one-hot actions relaxed."""
        d = x.shape[1] - self.actions
        length = torch.pdist(x[:200, :d]).median().clamp_min(0.1)
        values = {"base_kernel.lengthscale": torch.cat([length.expand(d), length.new_ones(self.actions)])}
        kernel = made(lambda: ScaleKernel(RBFKernel(ard_num_dims=x.shape[1])), outputscale=1.0, **values)
        low, high = x.min(0).values, x.max(0).values
        margin = 0.5 * (high - low) * (torch.arange(x.shape[1], device=x.device) < d) + 1e-3
        prior = GaussianProcess(kernel.requires_grad_(False).to(self.device))
        return FunctionSpace(prior, low - margin, high + margin, n_random=10, injected_noise=0.05, kl_scale="data")


def standardised(rewards: Tensor) -> Tensor:
    """Rewards so far with mean 0 and standard deviation 1; the order of actions is not changed."""
    return (rewards - rewards.mean()) / rewards.std().clamp_min(1e-3)


AGENTS: dict[str, Callable[[int, int, int, torch.device | str], Uniform]] = {
    "uniform": Uniform,
    "linear": Linear,
    "neural linear": NeuralLinear,
    "dropout": Dropout,
    "Bayes by backprop": BayesByBackprop,
    "fBNN": FunctionalBNN,
}


class ExactSearcher:
    """Believes what the Gaussian process with the true kernel says.

    Args:
        landscape: What is searched.
        seed: Of the draws of the maximum.
    """

    def __init__(self, landscape: Landscape, seed: int):
        self.landscape, self.generator = landscape, torch.Generator("cpu").manual_seed(seed)

    def belief(self, x: Tensor, y: Tensor, samples: int = 200) -> Belief:
        """After the queries (n, d) with answers (n,)."""
        land = self.landscape
        return process_belief(land.kernel, x, y, land.candidates, land.noise_sd, samples, generator=self.generator)


class NetworkSearcher:
    """Believes a stochastic network, which is trained further after each query from where it is.

    Args:
        landscape: What is searched.
        seed: Of network and draws.
        functional: Whether the KL is between functions, with the true process as prior, or between weights.
        steps: Of Adam at each query; at the first one six times as many.
    """

    def __init__(self, landscape: Landscape, seed: int, functional: bool, steps: int):
        x = landscape.candidates
        self.landscape, self.seed, self.functional, self.steps, self.queries = landscape, seed, functional, steps, 0
        options: dict[str, Any] = {"log_sd": -1.5, "frequencies": 40, "frequency_range": (-5.0, 5.0), "seed": seed}
        self.network = StochasticMLP([x.shape[1], 40, 1], "tanh", **options, dtype=x.dtype, device=x.device)

    def penalty(self) -> FunctionSpace | WeightSpace:
        """What is added to the likelihood."""
        if not self.functional:
            return WeightSpace(1.0)
        one = torch.ones_like(self.landscape.candidates[0])
        return FunctionSpace(GaussianProcess(self.landscape.kernel), -one, one, n_random=20, injected_noise=0.05)

    def belief(self, x: Tensor, y: Tensor, samples: int = 200) -> Belief:
        """After the queries (n, d) with answers (n,)."""
        steps, seed = (1 if self.queries else 6) * self.steps, 1000 * self.seed + self.queries
        self.queries += 1
        likelihood = Gaussian(self.landscape.noise_sd**2, dtype=y.dtype, device=y.device)
        fit(self.network, x, y, self.penalty(), likelihood, steps=steps, lr=0.02, samples=30, seed=seed)
        return network_belief(self.network, self.landscape.candidates, samples, seed)
