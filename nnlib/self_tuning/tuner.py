"""How are hyperparameters tuned while the network trains? Steps on the training loss in turn with steps on validation.

``losses.py`` has the formulas that are descended on; here is who descends when, and what is drawn.

STN: MacKay, Vicol, Lorraine, Duvenaud and Grosse (ICLR 2019, arXiv 1903.03088), algorithm 1.
Delta-STN: Bae and Grosse (NeurIPS 2020, arXiv 2010.13514). Chapter: ``book/self_tuning.ipynb``.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import Adam, Optimizer

from nnlib.arguments import function, one_of, seeded, typed, whole, within
from nnlib.modes import NonFiniteLoss
from nnlib.self_tuning import losses
from nnlib.self_tuning.batches import Batches, batches, following, mean_loss, number_of_examples, pair
from nnlib.self_tuning.hyperparameters import inverse_softplus
from nnlib.self_tuning.response import BestResponse
from nnlib.self_tuning.train import Evaluate, joined, made, momentum_sgd
from nnlib.training import Split

VARIANTS = ("delta", "stn")


@typed
class SelfTuner:
    """Trains a best-response network and its hyperparameters together.

    A *training step* perturbs the coordinates u of each example by sigma times Gaussian noise, trains at the perturbed
    values, and teaches the response:

    - ``stn``: all weights at once go down L_T(f(x; w(u + eps)), values(u + eps)); the response is centred at u = 0.
    - ``delta``: first w_0 at the unperturbed values, as in ordinary training; then the response alone, at perturbed
      values, in the network that is linear in it, f(x; w_0) + J Theta eps; it is centred at the present u.

    A *validation step*, in evaluation mode, moves u and sigma down E[L_V(w(u + eps))] - entropy sum_i log sigma_i. The
    training loss is never differentiated by hyperparameters.

    Args:
        model: Made by ``respond``; trained in place.
        training_loss: ``training_loss(outputs, targets, values)``, a mean over the batch; ``values`` by name, (B,) or
            (). A penalty may ask ``model.squared_norm()``, which is (B,) or ().
        validation_loss: ``validation_loss(outputs, targets)``, without any penalty.
        variant: ``delta`` or ``stn``.
        lr: Learning rate of the weights.
        hyper_lr: Of u and of sigma's coordinate, for Adam.
        optimizer: ``optimizer(parameters, lr=lr)``.
        sigma: Scale of the perturbations at the start, in coordinates u.
        entropy: tau; None keeps sigma as it is, and validation steps then do not perturb.
        train_steps: Training steps before each validation step.
        warm_up: Training steps before the first validation step.
        clip: Largest norm of the gradient of the weights, or None.
        seed: Of batches, perturbations and masks.

    Raises:
        TypeError: for an argument of another class.
        ValueError: for an unknown variant or a number out of range.

    Source: arXiv 1903.03088, algorithm 1; arXiv 2010.13514, algorithm 1. Chapter: ``book/self_tuning.ipynb``.

    >>> from nnlib.self_tuning import Hyperparameter, respond
    >>> draws = torch.Generator().manual_seed(0)
    >>> x = torch.randn(200, 5, generator=draws)
    >>> data = Split(x, x[:, :1] + 2 * torch.randn(200, 1, generator=draws))
    >>> model = respond(nn.Linear(5, 1), [Hyperparameter("decay", (0, None), init=0.1)])
    >>> mse = nn.functional.mse_loss
    >>> loss = lambda out, y, values: mse(out, y) + (values["decay"] * model.squared_norm()).mean()
    >>> tuner = SelfTuner(model, loss, mse, lr=0.02, hyper_lr=0.05)
    >>> history = tuner.fit(Split(*(t[:20] for t in data)), Split(*(t[20:] for t in data)), steps=500, batch_size=20)
    >>> len(history), history[-1]["decay"] > 0.3
    (100, True)
    """

    def __init__(
        self,
        model: BestResponse,
        training_loss: losses.TrainingLoss,
        validation_loss: losses.ValidationLoss,
        *,
        variant: str = "delta",
        lr: float,
        hyper_lr: float = 3e-3,
        optimizer: Callable[..., Optimizer] = momentum_sgd,
        sigma: float = 0.5,
        entropy: float | None = 1e-3,
        train_steps: int = 5,
        warm_up: int = 0,
        clip: float | None = None,
        seed: int = 0,
    ):
        one_of(VARIANTS, variant=variant)
        function(training_loss=training_loss, validation_loss=validation_loss)
        within("[0, inf)", lr=lr, hyper_lr=hyper_lr, entropy=0.0 if entropy is None else entropy)
        within("(0, inf)", sigma=sigma, clip=1.0 if clip is None else clip)
        whole(1, train_steps=train_steps)
        whole(0, warm_up=warm_up)
        self.model, self.variant, self.space = model, variant, model.space
        self.training_loss, self.validation_loss = training_loss, validation_loss
        self.entropy, self.train_steps, self.warm_up, self.clip = entropy, train_steps, warm_up, clip

        self.u = nn.Parameter(model.start())  # (n,)
        self.rho = nn.Parameter(torch.full_like(self.u, inverse_softplus(sigma)))  # (n,)
        self.base_optimizer = made(optimizer, model.base_parameters(), lr)  # of w_0
        self.response_optimizer = made(optimizer, model.response_parameters(), lr)  # of Theta
        self.hyper_optimizer = Adam([self.u] if entropy is None else [self.u, self.rho], lr=hyper_lr)

        self.generator = seeded(seed, model.centre.device)  # of perturbations and masks
        self.order = seeded(seed)  # of batches
        model.setting.generator = self.generator
        self.steps = 0
        self.streams: dict[str, Batches] = {}  # of splits, so that a second ``fit`` goes on where the first ended
        self.found: dict[str, Any] = {}  # where those of a loaded state stood
        self._centre()

    @property
    def values(self) -> dict[str, float]:
        """The present hyperparameters by name."""
        return self.space.values(self.u)

    @property
    def sigma(self) -> Tensor:
        """Scales of the perturbations, (n,)."""
        return softplus(self.rho)

    def training_step(self, batch: Split) -> float:
        """One step of all weights on a batch; returns the training loss at the unperturbed values (for STN, perturbed).

        Raises:
            NonFiniteLoss: where a loss is infinite or not a number; the weights have not gone down it.
            ValueError: for a batch that is no pair (x, y).
        """
        batch = pair(batch, self.steps + 1, "training")
        self.model.train()
        eps = self.sigma.detach() * self._noise(batch)  # (B, n)
        u = self.u.detach()
        if self.variant == "stn":
            loss = losses.perturbed(self.model, self.training_loss, batch, u + eps)
            value = self._finite(loss, self.steps + 1, "training", "lower the learning rate")
            step_down(loss, [self.base_optimizer, self.response_optimizer], self.clip)
        else:
            loss = losses.unperturbed(self.model, self.training_loss, batch, u)
            value = self._finite(loss, self.steps + 1, "training", "lower the learning rate")
            step_down(loss, [self.base_optimizer], self.clip)
            teaching = losses.linear(self.model, self.training_loss, batch, u + eps)
            self._finite(teaching, self.steps + 1, "response's training", "lower the learning rate or sigma")
            step_down(teaching, [self.response_optimizer], self.clip)
        self.steps += 1
        return value

    def validation_step(self, batch: Split) -> float:
        """One step of the hyperparameters, and of sigma where it is tuned; returns the validation loss of the batch.

        Raises:
            NonFiniteLoss: where that loss is infinite or not a number; the hyperparameters have not moved.
            ValueError: for a batch that is no pair (x, y).
        """
        batch = pair(batch, self.steps, "validation")
        self.model.eval()
        u = self.u.expand(number_of_examples(batch), -1)  # (B, n)
        if self.entropy is not None:
            u = u + self.sigma * self._noise(batch)
        loss = losses.validation(self.model, self.validation_loss, batch, u)
        value = self._finite(loss, self.steps, "validation", "are the validation data finite? Else lower hyper_lr")
        held_up = 0.0 if self.entropy is None else self.entropy * losses.entropy(self.sigma)
        step_down(loss - held_up, [self.hyper_optimizer])
        self._centre()
        return value

    @staticmethod
    def _finite(loss: Tensor, step: int, what: str, advice: str) -> float:
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteLoss(step, value, what, advice)
        return value

    def _noise(self, batch: Split) -> Tensor:
        """A standard normal perturbation for each example, (B, n)."""
        return self.space.noise(number_of_examples(batch), self.generator, self.u)

    def _centre(self) -> None:
        """Delta-STN's response is zero at the present hyperparameters; STN's stays where it is zero at u = 0."""
        if self.variant == "delta":
            self.model.centre.copy_(self.u.detach())

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that changes: a tuner made alike and given it goes on as this one would, bit for bit.

        Also the state of torch's global generators, from which a network's own dropout draws.
        """
        return {
            "variant": self.variant,
            "hyperparameters": self.space.names,
            "steps": self.steps,
            "model": copy.deepcopy(self.model.state_dict()),
            "u": self.u.detach().clone(),
            "rho": self.rho.detach().clone(),
            "kinds of optimizers": self._kinds(),
            "optimizers": copy.deepcopy([rule.state_dict() for rule in self._optimizers()]),
            "generators": [generator.get_state() for generator in (self.generator, self.order)],
            "batches": {role: stream.state_dict() for role, stream in self.streams.items()} or self.found,
            "random": torch.get_rng_state(),
            "random on devices": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    @typed
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another tuner of the same network and hyperparameters stood.

        Raises:
            ValueError: for the state of another variant, of other hyperparameters or other optimisers.
        """
        asked = {"variant": self.variant, "hyperparameters": self.space.names, "kinds of optimizers": self._kinds()}
        for name, mine in asked.items():
            if name not in state or state[name] != mine:
                raise ValueError(f"this state has the {name} {state.get(name)}, not {mine}")
        if missing := {"model", "u", "rho", "optimizers", "generators", "batches", "random", "steps"} - set(state):
            raise ValueError(f"state must be one of state_dict: it lacks {', '.join(sorted(missing))}")
        self.model.load_state_dict(state["model"])
        with torch.no_grad():
            self.u.copy_(state["u"])
            self.rho.copy_(state["rho"])
        for rule, theirs in zip(self._optimizers(), state["optimizers"], strict=True):
            rule.load_state_dict(copy.deepcopy(theirs))
        for generator, theirs in zip((self.generator, self.order), state["generators"], strict=True):
            generator.set_state(theirs)
        self.steps, self.streams, self.found = state["steps"], {}, state["batches"]
        torch.set_rng_state(state["random"])
        if state["random on devices"]:
            torch.cuda.set_rng_state_all(state["random on devices"])

    def _kinds(self) -> list[str]:
        return [type(rule).__name__ for rule in self._optimizers()]

    def _optimizers(self) -> list[Optimizer]:
        return [self.base_optimizer, self.response_optimizer, self.hyper_optimizer]

    @typed
    @torch.no_grad()
    def loss(self, batches: Iterable[Split]) -> float:
        """Mean validation loss over batches at the present hyperparameters, unperturbed, in evaluation mode."""
        self.model.eval()
        self.model.place(self.u, (self.u - self.model.centre).expand(1, -1))
        return mean_loss(self.model, batches, self.validation_loss)

    @typed
    def fit(
        self,
        train: Split | Iterable[Split],
        validation: Split | Iterable[Split],
        *,
        steps: int,
        batch_size: int | None = None,
        evaluate: Evaluate | None = None,
    ) -> list[dict[str, Any]]:
        """Train for some steps; a validation step follows every ``train_steps``, the first after the warm-up.

        Args:
            train: A split, drawn in batches without replacement (a second call goes on where the first ended), or an
                iterable of pairs (x, y) that has enough of them, such as a ``DataLoader``.
            validation: The same, of data that the training steps never see.
            steps: Training steps.
            batch_size: Of both, where they are splits.
            evaluate: Called after each validation step with the tuner; what it returns by name joins the row, where
                ``validation_loss`` alone may take the place of what is there.

        Returns:
            A dict for each validation step: ``step`` (training steps so far), ``train_loss``, ``validation_loss`` (of
            one batch), each hyperparameter (as the training steps used it) and ``sigma <name>`` for its scale. Its
            ``step`` and hyperparameters are the schedule that ``replay`` takes.

        Raises:
            NonFiniteLoss: where a loss is infinite or not a number, naming which.
            TypeError: for an argument of another class.
            ValueError: for a number out of range, what is no batch, or batches that end before the steps do.
        """
        whole(1, steps=steps)
        function(evaluate=evaluate)
        training, validating = (
            self._stream(role, part, batch_size) for role, part in (("train", train), ("validation", validation))
        )
        rows: list[dict[str, Any]] = []
        for done in range(steps):
            train_loss = self.training_step(following(training, done, steps, "training"))
            if self.steps < self.warm_up or self.steps % self.train_steps:
                continue
            at = self.space.used(self.u)
            used = {name: float(at[name]) for name in self.space.names}
            found = {"step": self.steps, "train_loss": train_loss}
            found["validation_loss"] = self.validation_step(following(validating, done, steps, "validation"))
            scales = {f"sigma {name}": scale for name, scale in zip(used, self.sigma.tolist(), strict=True)}
            rows.append(
                joined(found | used | scales, {} if evaluate is None else evaluate(self), free=["validation_loss"])
            )
        return rows

    def _stream(self, role: str, data: Split | Iterable[Any], batch_size: int | None) -> Iterator[Any]:
        if not isinstance(data, Split):
            return iter(data)
        before = self.streams[role].state_dict() if role in self.streams else self.found.get(role)
        self.streams[role] = batches(data, batch_size, self.order).goes_on(before)
        return self.streams[role]


def step_down(loss: Tensor, optimizers: list[Optimizer], clip: float | None = None) -> None:
    """One step of these optimisers down a loss; what they do not own gets no gradient, unlike by ``backward``.

    Args:
        loss: A scalar.
        optimizers: Each has its own parameters.
        clip: Largest norm of the gradient over all of them, or None.
    """
    every = [p for rule in optimizers for group in rule.param_groups for p in group["params"]]
    parameters = [p for p in every if p.requires_grad]
    if not loss.requires_grad:
        raise ValueError("the loss depends on nothing that is trained here: is any layer of the network called?")
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
        parameter.grad = gradient  # None for a layer that was not called: it stays as it is
    if clip is not None:
        nn.utils.clip_grad_norm_(parameters, clip)
    for rule in optimizers:
        rule.step()
