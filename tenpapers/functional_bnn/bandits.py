"""Is the uncertainty good enough to explore by? Contextual bandits, played by Thompson sampling.

Paper: arXiv 1903.05779, section 5.3 (bandits of Riquelme, Tucker, Snoek 2018). Chapter: book/functional_bnn.ipynb.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tenpapers.data import load
from tenpapers.functional_bnn.agents import AGENTS


@dataclass(frozen=True)
class Bandit:
    """Contexts in the order of play, and what each action would bring there.

    Args:
        contexts: (T, d).
        rewards: (T, K), as drawn; an agent sees the entry of its action alone.
        expected: (T, K), their means, from which regret is counted.
        source: In words.
    """

    contexts: Tensor
    rewards: Tensor
    expected: Tensor
    source: str


def wheel(rounds: int, delta: float = 0.5, seed: int = 0) -> Bandit:
    """The wheel: contexts uniform in the unit disc. Action 0 brings 1.2, the others 1.0; but beyond the radius δ one of
    actions 1 to 4, which one depends on the quadrant, brings 50. All with noise of standard deviation 0.01.

    Args:
        rounds: T.
        delta: δ in (0, 1); the larger, the rarer the prize.
        seed: Of contexts and noise.

    Raises:
        ValueError: for δ outside (0, 1).

    Source: Riquelme, Tucker, Snoek 2018, section 5.

    >>> bandit = wheel(10_000, delta=0.6)
    >>> round((bandit.expected.max(1).values == 50).double().mean().item(), 1)  # 1 − δ² = 0.64
    0.6
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie in (0, 1): got {delta}")
    rng = np.random.default_rng(seed)
    radius, angle = np.sqrt(rng.random(rounds)), 2 * np.pi * rng.random(rounds)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    expected = np.tile([1.2, 1.0, 1.0, 1.0, 1.0], (rounds, 1))
    quadrant = 1 + (x[:, 0] < 0) + 2 * (x[:, 1] < 0)
    far = radius > delta
    expected[far, quadrant[far]] = 50.0
    rewards = expected + 0.01 * rng.standard_normal(expected.shape)
    source = f"wheel, δ = {delta:g}, drawn"
    return Bandit(torch.from_numpy(x), torch.from_numpy(rewards), torch.from_numpy(expected), source)


def shuttle(rounds: int, seed: int = 0) -> Bandit:
    """Seven actions, one for each class of Statlog Shuttle: the right one brings 1, the others 0."""
    data = load("shuttle")
    rows = np.random.default_rng(seed).permutation(len(data.train.y))[:rounds]
    rewards = nn.functional.one_hot(data.train.y[rows], 7).double()
    return Bandit(data.train.x[rows].double(), rewards, rewards, data.source)


def mushroom(rounds: int, seed: int = 0) -> Bandit:
    """Eat (0) or leave (1): an edible one brings 5, a poisonous one 5 or −35 with equal odds, leaving brings 0."""
    data = load("mushroom")
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(data.train.y))[:rounds]
    poisonous = data.train.y[rows].double()
    harmed = poisonous * torch.from_numpy(rng.random(rounds) < 0.5).double()
    rewards = torch.stack([5 - 40 * harmed, torch.zeros(rounds, dtype=torch.float64)], 1)
    expected = torch.stack([5 - 20 * poisonous, torch.zeros(rounds, dtype=torch.float64)], 1)
    return Bandit(data.train.x[rows].double(), rewards, expected, data.source)


PROBLEMS = {"wheel": wheel, "shuttle": shuttle, "mushroom": mushroom}


def play(bandit: Bandit, agent: str, *, every: int = 50, seed: int = 0) -> np.ndarray:
    """Cumulative regret of one agent: expected reward of the best action minus that of the one taken, summed, (T,).

    Each action is tried twice first, in turn; the agent learns then, and every so many rounds after.

    Args:
        bandit: The problem.
        agent: A key of ``AGENTS``.
        every: Rounds between two updates.
        seed: Of the agent.

    Raises:
        ValueError: for an unknown agent.
    """
    if agent not in AGENTS:
        raise ValueError(f"agent must be one of {', '.join(AGENTS)}: got {agent!r}")
    rounds, actions = bandit.rewards.shape
    player = AGENTS[agent](bandit.contexts.shape[1], actions, seed)
    taken = torch.empty(rounds, dtype=torch.long)
    for t in range(rounds):
        taken[t] = t % actions if t < 2 * actions else player.act(bandit.contexts[t])
        if t + 1 == 2 * actions or (t > 2 * actions and (t + 1) % every == 0):
            seen = bandit.rewards[torch.arange(t + 1), taken[: t + 1]]
            player.learn(bandit.contexts[: t + 1], taken[: t + 1], seen)
    regret = bandit.expected.max(1).values - bandit.expected[torch.arange(rounds), taken]
    return regret.cumsum(0).numpy()


def bandit_run(problem: str, agent: str, rounds: int, seed: int = 0) -> dict[str, float]:
    """Regret of one agent after all rounds, and over the last quarter of them.

    Returns:
        ``regret``, the sum; ``late``, per round, in the last quarter.
    """
    regret = play(PROBLEMS[problem](rounds, seed=seed), agent, seed=seed)
    quarter = rounds // 4
    return {"regret": float(regret[-1]), "late": float(regret[-1] - regret[-1 - quarter]) / quarter}
