"""What the papers say of self-tuning networks, and what decides it here. Papers: arXiv 1903.03088 and 2010.13514."""

import math
from itertools import combinations, pairwise

import pandas as pd
import torch

from nnlib.self_tuning import SelfTuner, joint_hessian, respond
from nnlib.self_tuning.tune_ridge import tune
from nnlib.training import Split
from tenpapers.claims import Claim, Direction, Equal, Evidence, Exact, Sample, Threshold, Unfair, held_equal, learned
from tenpapers.claims import sample as sample_of
from tenpapers.runs import NotRun
from tenpapers.self_tuning import runs
from tenpapers.self_tuning.measure import ALL, CONTROL
from tenpapers.self_tuning.networks import mlp
from tenpapers.self_tuning.search import METHODS, STARTUP
from tenpapers.self_tuning.workloads import PROBLEMS, diabetes

TESTS = "tests/nnlib/self_tuning/"
RUN_TESTS = "tests/tenpapers/self_tuning/test_measure.py::"
STEPS = TESTS + "test_tuner.py::test_a_training_step_goes_down_the_losses_of_its_paper"
LOSSES = {"validation": "validation_loss", "test": "test_loss"}
AT_FULL_SIZE = {"MLP, MNIST": "MLP, MNIST (paper)", "LSTM, words": "LSTM, words (paper)"}  # what a paper run trains
CLASSES = {"LSTM, words": 500, "LSTM, characters": 60, "LSTM, words (paper)": 10_000}  # of the others, 10


# Ridge regression: all of it computed.


def _jacobian(profile: str) -> Evidence:
    ridge = diabetes()
    optimum = ridge.optimum()
    exact = ridge.jacobian(optimum)
    errors = {s: float((ridge.linear_response(optimum, s)[1] - exact).norm() / exact.norm()) for s in (0.05, 0.1, 0.2)}
    quotients = {f"quotient at {b:g} and {a:g}": errors[b] / errors[a] for a, b in pairwise(errors)}
    shown = {f"σ = {s:g}": error for s, error in errors.items()} | quotients
    return Evidence(shown, {f"{name}, less 4": quotient - 4 for name, quotient in quotients.items()})


jacobian = Claim(
    "self_tuning",
    "jacobian",
    "The linear response that is learned from perturbations tends to the exact Jacobian as their scale falls, "
    "with an error of order σ² (ridge regression: relative error at σ, and quotients at a scale and its half)",
    "section 3.1",
    Equal(margin=0.2),
    _jacobian,
    same=("laptop", "paper"),
    test=TESTS + "test_ridge.py::test_linear_response_tends_to_the_jacobian_as_sigma_squared",
)


def _gates(profile: str) -> Evidence:
    ridge = diabetes()
    optimum = ridge.optimum()
    gates, components = ridge.gates(optimum)
    gated = components.T @ (gates * (components @ torch.linalg.solve(ridge.hessian, ridge.moment)))
    return Evidence({"largest difference of the weights": float((gated - ridge.best_response(optimum)).abs().max())})


gates = Claim(
    "self_tuning",
    "gates",
    "The best response of ridge regression is a sigmoid gate on each principal component "
    "(largest difference of the weights)",
    "section 3.2, theorem 2",
    Exact(1e-12),
    _gates,
    same=("laptop", "paper"),
    test=TESTS + "test_ridge.py::test_ridge_is_least_squares_with_sigmoid_gates_on_principal_components",
)


def _conditioning(profile: str) -> Evidence:
    ridge = diabetes()
    stn, delta = (torch.linalg.eigvalsh(joint_hessian(ridge, -6.0, 0.5, centred=c)) for c in (False, True))
    largest = {"STN, largest": float(stn[-1]), "Δ-STN, largest": float(delta[-1])}
    conditions = float(stn[-1] / stn[0]) / float(delta[-1] / delta[0])
    quotients = {"quotient of the largest": largest["STN, largest"] / largest["Δ-STN, largest"]}
    quotients |= {"quotient of the condition numbers": conditions}
    return Evidence(largest | quotients, quotients)


conditioning = Claim(
    "self_tuning",
    "conditioning",
    "Without centring, the response is badly conditioned (ridge regression at λ = −6, σ = 0.5: largest eigenvalue "
    "and condition number of the expected training loss in weights and slope; both at least ten times larger)",
    "arXiv 2010.13514, section 3",
    Threshold(above=10),
    _conditioning,
    same=("laptop", "paper"),
    test=TESTS + "test_ridge.py::test_without_centring_the_problem_is_a_thousand_times_worse_conditioned",
)

RIDGE_STEPS = 600


def _ridge_delta(profile: str) -> Evidence:
    ridge = diabetes()
    optimum = ridge.optimum()
    ends, left = {}, {}
    for start in (-6.0, 2.0):
        run = tune(ridge, "delta", start, hyper_lr=0.05, steps=RIDGE_STEPS)
        name = f"from {start:g}".replace("-", "−")
        ends[name] = run.rows[-1]["lam"]
        left[f"{name}: share of the way left"] = 1.0 if run.diverged else (ends[name] - optimum) / (start - optimum)
    return Evidence({"optimum": optimum} | ends, left)


ridge_delta = Claim(
    "self_tuning",
    "ridge_delta",
    "Δ-STN finds the optimum of ridge regression (λ at the end from −6 and from 2, in exact expectation, σ = 0.5; "
    "at most a twentieth of the way is left)",
    "arXiv 2010.13514, section 5.1",
    Equal(margin=0.05),
    _ridge_delta,
    test=TESTS + "test_tune_ridge.py::test_delta_stn_ends_at_the_optimum_from_both_sides",
)


def _ridge_stn(profile: str) -> Evidence:
    survived = {}
    for start in (-6.0, 2.0):
        run = tune(diabetes(), "stn", start, hyper_lr=0.05, steps=RIDGE_STEPS)
        survived[f"from {start:g}: steps of λ before it diverges".replace("-", "−")] = len(run.rows)
    return Evidence(survived)


ridge_stn = Claim(
    "self_tuning",
    "ridge_stn",
    "At the same rates STN, which is not centred, diverges on ridge regression (from −6 and from 2, in fewer than the "
    f"{RIDGE_STEPS} steps of λ that Δ-STN takes)",
    "arXiv 2010.13514, sections 3 and 5.1",
    Threshold(below=RIDGE_STEPS),
    _ridge_stn,
    test=TESTS + "test_tune_ridge.py::test_stn_diverges_at_the_rates_at_which_delta_stn_converges",
)


# The tuner: computed.


def _scalable(profile: str) -> Evidence:
    sizes, n = (784, 1200, 1200, 10), 3
    network = mlp(sizes, dtype=torch.float64)
    model = respond(network, PROBLEMS["MLP, MNIST (paper)"].hypers)
    more = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in network.parameters())
    return Evidence({"parameters beside the formula": more - sum(b * (a + 1 + 2 * n) for a, b in pairwise(sizes))})


scalable = Claim(
    "self_tuning",
    "scalable",
    "The best response of a network is a network whose hidden units are gated: to a layer it adds as many weights "
    "and biases again, and two gates for each output and hyperparameter, out (in + 1 + 2n) numbers "
    "(the MLP of 784, 1,200, 1,200 and 10 units, n = 3)",
    "abstract; section 3.2",
    Exact(0.0),
    _scalable,
    same=("laptop", "paper"),
    test=TESTS + "test_layers.py::test_a_layer_has_the_number_of_parameters_that_the_paper_counts",
)


def _without_gradients(profile: str) -> Evidence:
    problem = PROBLEMS["CNN, digits"]
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batch = Split(x, torch.arange(20) % 10)
    model = respond(problem.build(seed=0, dtype=torch.float64), problem.hypers)
    loss, found = problem.training_loss(model.squared_norm), []

    def watched(outputs: torch.Tensor, y: torch.Tensor, values: dict[str, torch.Tensor]) -> torch.Tensor:
        value = loss(outputs, y, values)
        found.extend(torch.autograd.grad(value, (tuner.u, tuner.rho), allow_unused=True, retain_graph=True))
        return value

    tuner = SelfTuner(model, watched, problem.validation_loss, lr=problem.lr)
    tuner.training_step(batch)
    tuner.validation_step(batch)
    assert tuner.u.grad is not None
    through_response = {
        f"{name} has a hypergradient": bool(g) for name, g in zip(tuner.values, tuner.u.grad, strict=True)
    }
    return Evidence({"the training losses have no gradient to u and σ": found == [None] * 4} | through_response)


without_gradients = Claim(
    "self_tuning",
    "without_gradients",
    "Whole numbers, strengths of augmentation and dropout rates are tuned although the training loss is never "
    "differentiated by them (the small CNN: each of cutout, noise, dropout and weight decay has a hypergradient, "
    "through the response alone)",
    "abstract; section 3.3",
    Exact(0.0),
    _without_gradients,
    same=("laptop", "paper"),
    test=TESTS + "test_tuner.py::test_the_training_loss_has_no_gradient_to_the_hyperparameters",
)


# Tuners beside searches, beside each other, and beside a network that is not tuned: the table of budgets.


def _slug(*names: str) -> str:
    return "_".join(names).lower().replace("δ", "delta").replace(", ", "_").replace("-", "_")


def _ends(problem: str, profile: str) -> pd.DataFrame:
    """Losses of a problem when the budget is spent, a row a method and seed: of seeds at which every method was run."""
    name = AT_FULL_SIZE.get(problem, problem) if profile == "paper" else problem
    return _when_spent(runs.budget.read(profile, problem=name), profile)


def _when_spent(frame: pd.DataFrame, profile: str) -> pd.DataFrame:
    frame = frame.loc[frame.groupby(["method", "seed"], sort=False).cost.idxmax()]
    of_all = frame.groupby("seed").method.nunique() == len(ALL)
    frame = frame[frame.seed.isin(list(of_all[of_all].index))]
    if frame.empty:
        raise NotRun(f"there is no seed at which every method was run: {runs.budget.how(profile)}")
    return frame


def _by_method(ends: pd.DataFrame, loss: str) -> dict[str, Sample]:
    return {str(method): sample_of(part, LOSSES[loss]) for method, part in ends.groupby("method", sort=False)}


def _same_cost(ends: pd.DataFrame, ours: dict[str, Sample]) -> None:
    held_equal("training steps charged", {str(m): part.cost.max() for m, part in ends.groupby("method")}, ours=ours)


def _searched(ends: pd.DataFrame, profile: str, ours: dict[str, Sample]) -> None:
    """Refuse searches that had no chance to search.

    Raises:
        Unfair: where the budget pays for no more trials than those at random with which two of them begin, where two
            searches are one and the same run, or where one of them ends at chance for a seed.
    """
    problem = ends.problem.iloc[0]
    trials = min(cell["trials"] for cell in runs.budget.declared(profile) if cell["problem"] == problem)
    if trials <= STARTUP:
        raise Unfair(f"the budget pays for {trials} trials, two of the searches begin after {STARTUP}", ours)
    values = {
        method: [value.values for value in (_by_method(ends, loss)[method] for loss in LOSSES)] for method in METHODS
    }
    for one, other in combinations(METHODS, 2):
        if values[one] == values[other]:
            raise Unfair(f"{one} and {other} are one and the same run", ours)
    for method in METHODS:  # exp(-loss) is the mean probability of the right class, a geometric mean
        worst = max(_by_method(ends, "test")[method].values)
        learned(f"{method}, probability of the right class", math.exp(-worst), 1 / CLASSES.get(problem, 10), ours)


def _beside_searches(tuner: str, problem: str, profile: str) -> Evidence:
    ends = _ends(problem, profile)
    shown, ahead = {}, {}
    for loss in LOSSES:
        found = _by_method(ends, loss)
        best = min(METHODS, key=lambda method: found[method].mean)
        shown |= {loss: found[tuner], f"{loss}, best search ({best})": found[best]}
        ahead |= {f"{method} ({loss})": found[method] - found[tuner] for method in METHODS}
    _same_cost(ends, shown)
    _searched(ends, profile, shown)
    return Evidence(shown, ahead)


def _budget(tuner: str, problem: str) -> Claim:
    return Claim(
        "self_tuning",
        _slug("budget", tuner, problem),
        f"With the same budget, {tuner} reaches a lower validation and test loss than every search "
        f"({problem}: {', '.join(METHODS)}; means over seeds)",
        "section 4, tables and figures on CIFAR-10 and PTB" if tuner == "STN" else "arXiv 2010.13514, section 5",
        Direction(),
        lambda profile: _beside_searches(tuner, problem, profile),
        equal="training steps charged; every search has trials beyond its start-up, none ends at chance",
        same=("paper",) if problem == "MLP, MNIST" else (),
        test=STEPS,
    )


def _beside_stn(problem: str, profile: str) -> Evidence:
    ends = _ends(problem, profile)
    found = {loss: _by_method(ends, loss) for loss in LOSSES}
    shown = {f"{loss}, {tuner}": found[loss][tuner] for loss in LOSSES for tuner in ("Δ-STN", "STN")}
    _same_cost(ends, shown)
    return Evidence(shown, {loss: found[loss]["STN"] - found[loss]["Δ-STN"] for loss in LOSSES})


def _delta(problem: str) -> Claim:
    return Claim(
        "self_tuning",
        _slug("delta", problem),
        f"Δ-STN reaches a lower validation and test loss than STN ({problem}: each step of Δ-STN is charged as four "
        "ordinary ones, of STN as three)",
        "arXiv 2010.13514, section 5",
        Direction(),
        lambda profile: _beside_stn(problem, profile),
        equal="training steps charged, learning rates; training steps before a validation step are the papers' own",
        same=("paper",) if problem == "MLP, MNIST" else (),
        test=STEPS,
    )


budget_stn_mlp_digits = _budget("STN", "MLP, digits")
budget_delta_stn_mlp_digits = _budget("Δ-STN", "MLP, digits")
delta_mlp_digits = _delta("MLP, digits")
budget_stn_mlp_mnist = _budget("STN", "MLP, MNIST")
budget_delta_stn_mlp_mnist = _budget("Δ-STN", "MLP, MNIST")
delta_mlp_mnist = _delta("MLP, MNIST")
budget_stn_cnn_digits = _budget("STN", "CNN, digits")
budget_delta_stn_cnn_digits = _budget("Δ-STN", "CNN, digits")
delta_cnn_digits = _delta("CNN, digits")
budget_stn_lstm_words = _budget("STN", "LSTM, words")
budget_delta_stn_lstm_words = _budget("Δ-STN", "LSTM, words")
delta_lstm_words = _delta("LSTM, words")
budget_stn_lstm_characters = _budget("STN", "LSTM, characters")
budget_delta_stn_lstm_characters = _budget("Δ-STN", "LSTM, characters")
delta_lstm_characters = _delta("LSTM, characters")


def _beside_control(tuner: str, profile: str) -> Evidence:
    quotients: dict[str, Sample] = {}
    for problem, frame in runs.budget.read(profile).groupby("problem", sort=False):
        ends = _when_spent(frame, profile)
        for loss in LOSSES:
            found = _by_method(ends, loss)
            pairs = zip(found[tuner].values, found[CONTROL].values, strict=True)
            quotients[f"{problem} ({loss})"] = Sample(tuple(mine / control for mine, control in pairs))
        _same_cost(ends, quotients)
    return Evidence(quotients)


def _control(tuner: str) -> Claim:
    return Claim(
        "self_tuning",
        _slug("control", tuner),
        f"{tuner} reaches a lower loss than one ordinary network that stays at the tuner's start values and is "
        "trained for the whole budget (loss over that of this network; means over seeds)",
        "not in the papers; a control of our own",
        Threshold(below=1.0),
        lambda profile: _beside_control(tuner, profile),
        equal="training steps charged, learning rate, start values",
        same=(),
        test=RUN_TESTS + "test_the_control_trains_one_ordinary_network_for_the_whole_budget",
    )


control_stn = _control("STN")
control_delta_stn = _control("Δ-STN")


# One hyperparameter on a schedule.


def _kinds(problem: str, profile: str) -> dict[str, Sample]:
    """Best validation loss of each kind of schedule, a value a seed; of the constants the best one at each seed."""
    name = AT_FULL_SIZE.get(problem, problem) if profile == "paper" else problem
    frame = runs.schedules.read(profile, problem=name)
    of_each = frame.groupby(["schedule", "seed"], sort=False).validation_loss.min().reset_index()
    parts = {str(kind): part for kind, part in of_each.groupby("schedule", sort=False)}
    parts = {"best constant": parts.pop("constant"), **parts}
    return {kind: sample_of(part, "validation_loss") for kind, part in parts.items()}


def _ahead(found: dict[str, Sample], mine: str, others: tuple[str, ...], shown: tuple[str, ...]) -> Evidence:
    return Evidence({kind: found[kind] for kind in shown}, {kind: found[kind] - found[mine] for kind in others})


def _schedule(problem: str) -> Claim:
    others = ("best constant", "constant with noise", "constant with a wave")
    return Claim(
        "self_tuning",
        _slug("schedule", problem),
        "A rate tuned by STN is better than the best constant rate, also with noise or a wave "
        f"({problem}, one dropout rate: best validation loss, means over seeds)",
        "section 4.2, table on schedules",
        Direction(),
        lambda profile: _ahead(_kinds(problem, profile), "STN", others, ("STN", *others)),
        equal="training steps of each network, its start, learning rate",
        same=(),
        test=RUN_TESTS + "test_a_study_has_every_kind_and_replays_what_the_tuner_did",
    )


def _replay(problem: str) -> Claim:
    mine, others = "replay of STN", ("best constant", "final value of STN")
    return Claim(
        "self_tuning",
        _slug("replay", problem),
        "The schedule matters, not where it ends: an ordinary network with STN's recorded schedule is better than one "
        f"at the best constant rate or at STN's final value ({problem}, one dropout rate: best validation loss)",
        "section 4.2, table on schedules",
        Direction(),
        lambda profile: _ahead(_kinds(problem, profile), mine, others, (mine, *others, "STN")),
        equal="training steps of each network, its start, learning rate",
        same=(),
        test=TESTS + "test_tuner.py::test_a_saved_schedule_comes_back_the_same_and_is_replayed_step_by_step",
    )


schedule_mlp_digits = _schedule("MLP, digits")
replay_mlp_digits = _replay("MLP, digits")
schedule_lstm_words = _schedule("LSTM, words")
replay_lstm_words = _replay("LSTM, words")


def _meet(tuner: str, profile: str) -> Evidence:
    frame = runs.starts.read(profile, variant=tuner)
    paths = frame[frame.value.notna()]
    ends = paths.groupby("start").value.last()
    apart = {"at the start": ends.index.max() - ends.index.min(), "at the end": ends.max() - ends.min()}
    apart |= {"starts that diverge": frame.start.nunique() - len(ends)}
    share = Sample((apart["at the end"] / apart["at the start"],))
    return Evidence({name: Sample((value,)) for name, value in apart.items()}, {"share of the distance left": share})


def _starts(tuner: str) -> Claim:
    return Claim(
        "self_tuning",
        _slug("starts", tuner),
        f"Schedules of {tuner} from different starts meet in one curve (how far apart the dropout rates are: at the "
        "end less than a fifth of the distance at the start)",
        "section 4.2, figure on schedules" if tuner == "STN" else "not in the paper; the same of Δ-STN",
        Threshold(below=0.2),
        lambda profile: _meet(tuner, profile),
        same=(),
        test=RUN_TESTS + "test_only_the_named_hyperparameter_moves_and_the_others_are_at_zero",
    )


starts_stn = _starts("STN")
starts_delta_stn = _starts("Δ-STN")

ptb = Claim(
    "self_tuning",
    "ptb",
    "PTB, LSTM with seven hyperparameters: STN has the lowest validation and test perplexity",
    "section 4, table 2",
    Direction(),
    paper={"STN, validation": 70.30},
    certainty="quoted by a summary of Lorraine, Vicol and Duvenaud, arXiv 1911.02590",
    missing="Penn Treebank, which has no loader here, and a GPU",
)
cifar10 = Claim(
    "self_tuning",
    "cifar10",
    "CIFAR-10, AlexNet with fifteen hyperparameters: STN has the lowest validation and test loss",
    "section 4, table 2",
    Direction(),
    lambda profile: _beside_searches("STN", "AlexNet, CIFAR-10", profile),
    equal="training steps charged; every search has trials beyond its start-up, none ends at chance",
    test=RUN_TESTS + "test_the_papers_networks_go_through_the_same_code",
)
