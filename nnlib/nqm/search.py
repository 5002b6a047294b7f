"""Which hyperparameters reach a target risk first? The search behind `steps_to_target`, for all batch sizes at once.

1. `start`: one coarse table over t and the hyperparameters serves every batch size, since bias and variance do not
   depend on it: at step t the smallest batch that will do is min variance / (target - bias).
2. `best_basin`: Newton steps on the smoothed risk of a few eigenvalues, from several valleys.
3. `refine`: the same on the exact risk; the heavy ball's ripples are searched from many starts.
4. `settle`, `shorten`, `certify`: the whole number of steps, decided on the whole spectrum.

Chapter: book/nqm.ipynb.
"""

import itertools
import math

import numpy as np

from nnlib.nqm.bounds import small_batch_examples
from nnlib.nqm.methods import SGD, HeavyBall
from nnlib.nqm.risk import total_risk

BLUR = 0.1  # the sketch cannot follow phases beyond some 10 rad, and the valley does not depend on them
LONG = math.log(2000)  # log steps from which the heavy ball's ripples look alike at all batch sizes
SHORT, VERY_SHORT = 400, 64  # steps up to which the heavy ball is searched far from what is good already
MOST_STEPS = 10**13  # float64 closed forms still tell two neighbouring steps apart here


class Search:
    """Hyperparameters as points z, y without bounds that matter: lr = limit (1 + b) / (1 + exp(y - z)),
    b = 1 - exp(-y) for the momentum (in z, along y, the effective learning rate stays); for the average
    lr = limit / (1 + exp(-z)) and decay = 1 - exp(-y). Both ends of lr are dense in z: tiny, and just stable.
    """

    def __init__(self, problem, kind, target, power):
        self.problem, self.kind, self.target, self.power = problem, kind, target, power
        self.limit = 2 / problem.h[0] ** (1 - power)
        self.axes = 1 if kind is SGD else 2
        self.longer = np.array([-1.0, 1.0])[: self.axes]  # with more steps: lr t and (1 - b) t stay, so do the phases

    def run(self, batch_sizes):
        """Best lr, momentum or decay (None for SGD) and steps at each batch size, (n,) each."""
        asked = batch_sizes
        knee = small_batch_examples(self.problem.sketch, self.target, self.power) / self.problem.condition_number
        if self.kind is HeavyBall and batch_sizes.max() > knee * 4**7:
            # On the floor many minima are about as deep: what smaller batches find on the way there helps.
            asked = np.append(batch_sizes, knee * 4.0 ** np.arange(1, 8))
        points, steps = (result[: batch_sizes.size] for result in self.solve(asked))
        return *self.hyperparameters(points), steps.astype(np.int64)

    def solve(self, batch_sizes):
        """Best points (n, axes) and steps (n,)."""
        sgd = None if self.kind is SGD else Search(self.problem, SGD, self.target, self.power).solve(batch_sizes)
        if sgd is None:
            longest = small_batch_examples(self.problem.sketch, self.target, self.power) / batch_sizes.min() + 1
        else:
            longest = 1.05 * sgd[1].max() + 1  # SGD is momentum 0 and decay 0
        points, log_t = self.best_basin(*self.start(batch_sizes, 1.1 * longest), batch_sizes)
        points, steps = self.settle(*self.refine(points, log_t, batch_sizes), batch_sizes, sgd)
        points, steps = self.shorten(points, steps, batch_sizes)
        return self.certify(*self.inherit(points, steps, batch_sizes), batch_sizes, sgd)

    def hyperparameters(self, points):
        """lr and momentum or decay (None for SGD) at points (..., axes)."""
        z = points[..., 0]
        if self.kind is SGD:
            return self.limit / (1 + np.exp(-z)), None
        extra = -np.expm1(-points[..., 1])
        if self.kind is HeavyBall:
            return self.limit * (1 + extra) / (1 + np.exp(points[..., 1] - z)), extra
        return self.limit / (1 + np.exp(-z)), extra

    def clip(self, points, log_t):
        """Keep lr within 1e-6 of the limit at most, and the memory within ten runs."""
        points = points.copy()
        longest = log_t + math.log(10)
        if self.axes == 2:
            points[..., 1] = np.clip(points[..., 1], 0, longest)
        ridge = points[..., 1] if self.kind is HeavyBall else 0
        points[..., 0] = np.clip(points[..., 0], -longest - 30, 14 + ridge)
        return points

    def log_risk(self, spectrum, points, log_t, batch_sizes, blur=0.0):
        """log R over points (m, k, axes), times and batch sizes (m,); smoothed on the sketch."""
        lr, extra = self.hyperparameters(points)
        blur = BLUR if spectrum is self.problem.sketch else blur
        bias, variance = total_risk(spectrum, self.kind, lr, extra, self.power, np.exp(log_t)[:, None], blur)
        return np.log(np.maximum(bias + variance / batch_sizes[:, None], 1e-300))  # the floor: no noise, all forgotten

    def start(self, batch_sizes, longest):
        """Points (basins, n, axes) and log steps (basins, n) from the table that serves every batch size."""
        spectrum = self.problem.sketch
        while True:
            t, points, needed = self.table(spectrum, longest)
            reached = np.minimum.accumulate(needed.min(axis=(1, 2)))
            if (reached[-1] <= batch_sizes.min() and reached[-1] < np.inf) or longest > MOST_STEPS:
                break
            longest *= 3
        if longest > MOST_STEPS:
            raise ValueError(f"target {self.target} takes more than {MOST_STEPS:.0e} steps at some batch size")
        starts, log_ts = [], []
        rows = np.array_split(np.arange(needed.shape[1]), 1 if self.axes == 1 else 3)
        for basin in rows:  # short, middle and long memory: the risk has several valleys
            part = needed[:, basin].reshape(t.size, -1)
            best = part.argmin(axis=1)
            envelope = np.minimum.accumulate(part.min(axis=1))
            never = np.isinf(envelope)[:, None]  # not even without noise
            first = np.minimum(
                (never | (envelope[:, None] > batch_sizes)).sum(axis=0), t.size - 1
            )  # first that will do
            starts.append(points[:, basin].reshape(t.size, -1, self.axes)[first, best[first]])
            log_ts.append(np.log(t[first]))
        return np.stack(starts), np.stack(log_ts)

    def table(self, spectrum, longest):
        """Smallest batch size that reaches the target in exactly t steps: variance / (target - bias), or inf."""
        t = np.unique(np.round(np.geomspace(1, longest, 2 + int(8 * np.log10(longest)))))
        points = self.grid(np.log(t), memories=7, lrs=28)
        lr, extra = self.hyperparameters(points)
        bias, variance = total_risk(spectrum, self.kind, lr, extra, self.power, t[:, None, None], BLUR)
        room = self.target - bias
        return t, points, np.where(room > 0, variance / np.where(room > 0, room, 1), np.inf)

    def grid(self, log_t, memories, lrs):
        """Points (n, memories, lrs, axes) over all that can be useful in runs of t steps, (n,)."""
        log_t = log_t[:, None, None]
        memory = np.linspace(0, 1, 1 if self.axes == 1 else memories)[:, None] * (log_t + math.log(2))
        low = math.log(min(1.0, math.log(self.problem.initial_risk / self.target))) - log_t - 4
        share = np.linspace(0, 1.3, lrs)
        below, above = np.minimum(share, 1), np.maximum(share - 1, 0) / 0.3
        ridge = memory if self.kind is HeavyBall else 0 * memory
        z = low * (1 - below) + ridge * below + 10 * above**1.5  # from tiny lr to half the limit, and on to its edge
        return np.stack(np.broadcast_arrays(z, memory), axis=-1)[..., : self.axes]

    def best_basin(self, points, log_t, batch_sizes):
        """Alternate: Newton on the smoothed risk at fixed t, and t to where it meets the target. Fewest steps win."""
        basins, n = log_t.shape
        points, log_t, batches = points.reshape(-1, self.axes), log_t.ravel(), np.tile(batch_sizes, basins)
        size = np.full(log_t.size, 0.5)
        for _ in range(3 if self.axes == 1 else 5):
            points, size = self.descend(self.problem.sketch, points, log_t, batches, size, rounds=2)
            for basin in np.arange(log_t.size).reshape(basins, n):
                points[basin], _ = self.ask(self.problem.sketch, points[basin], log_t[basin], batch_sizes)
            log_t = self.meet(self.problem.sketch, points, log_t, batches)
        best = log_t.reshape(basins, n).argmin(axis=0) * n + np.arange(n)
        return points[best], log_t[best]

    def refine(self, points, log_t, batch_sizes):
        """The same on the exact risk; where the heavy ball ripples, from many starts."""
        spectrum, size = self.problem.compressed, np.full(log_t.size, 0.1)
        if self.kind is HeavyBall:
            near = points[:, None] + np.linspace(-0.03, 0.03, 9)[:, None] * [1.0, 0.0]
            exact, smooth = (self.log_risk(spectrum, near, log_t, batch_sizes, blur) for blur in (0, BLUR))
            gain = np.ptp(exact - smooth, axis=1) / -self.slope(points, log_t, batch_sizes)  # in log t
            rough = gain > np.maximum(5e-4, 0.3 * np.exp(-log_t))
            for part, starts, keep, rounds in (
                (rough & (log_t > LONG), 240, 80, 3),
                (rough & (log_t <= LONG), 2048, 48, 3),
            ):
                if n := np.count_nonzero(part):  # long runs share what they find, short ones are too different
                    effort = max(starts // n, 12), max(keep // n, 4), rounds
                    points[part], log_t[part] = self.ripples(points[part], log_t[part], batch_sizes[part], *effort)
            size[rough] = 0.003
        else:
            rough = np.zeros(log_t.size, dtype=bool)
        smooth = ~rough
        for spectrum in [self.problem.reduced] * 3 + [self.problem.compressed] * 2:
            part = points[smooth], log_t[smooth], batch_sizes[smooth]
            log_t[smooth] = self.meet(spectrum, *part)
            points[smooth], size[smooth] = self.descend(
                spectrum, points[smooth], log_t[smooth], batch_sizes[smooth], size[smooth], rounds=2
            )
        return points, log_t

    def ripples(self, points, log_t, batch_sizes, starts, keep, rounds):
        """The best of the ripples that oscillating modes draw on the valley of the heavy ball.

        At a fixed whole t, each batch size tries its own starts in the valley, then what every other one has found:
        where batches are small, the same lr t, (1 - momentum) t and hence the same phases are best at all of them.
        The slope of the valley, free of ripples, then tells at which t the best risk found would meet the target.
        """
        spectrum, n, each = self.problem.reduced, log_t.size, np.arange(log_t.size)
        centre, best, goal = points.copy(), points, math.log(self.target)
        centre[:, 0] = np.minimum(centre[:, 0], centre[:, 1] + 3)  # at the edge of stability z says little
        reached, reached_at = points.copy(), np.full(n, np.inf)  # fewest steps so far, and where
        for turn in range(rounds):
            steps = np.maximum(np.round(np.exp(log_t)), 1)
            steps = np.where(steps >= reached_at, np.maximum(reached_at - 1, 1), steps)
            centre = centre + (np.log(steps) - log_t)[:, None] * self.longer
            log_t = np.log(steps)
            number = np.arange(turn * n * starts, (turn + 1) * n * starts)
            tried = self.around(centre, log_t, number.reshape(n, starts))
            tried[:, 0] = best
            order = self.log_risk(spectrum, tried, log_t, batch_sizes).argsort(axis=1)[:, :keep]
            tried = np.take_along_axis(tried, order[..., None], axis=1)
            runs = np.repeat(log_t, keep), np.repeat(batch_sizes, keep), np.full(n * keep, 0.006)
            tried = self.descend(spectrum, tried.reshape(-1, 2), *runs, rounds=3)[0].reshape(n, keep, 2)
            best = tried[each, self.log_risk(spectrum, tried, log_t, batch_sizes).argmin(axis=1)]
            best, values = self.ask(spectrum, best, log_t, batch_sizes)
            better = (values < goal) & (steps < reached_at)
            reached[better], reached_at[better] = best[better], steps[better]
            shift = (goal - values) / self.slope(centre, log_t, batch_sizes)
            shift = np.maximum(np.clip(shift, -0.2, 0.2), -log_t)
            log_t, longer = log_t + shift, shift[:, None] * self.longer
            centre, best = centre + longer, best + longer
        found = np.isfinite(reached_at) & (np.exp(log_t) > reached_at - 1)
        log_t[found], best[found] = np.log(reached_at[found]), reached[found]
        return self.clip(best, log_t), log_t

    def around(self, points, log_t, number):
        """Points (n, k, 2) spread evenly, without chance, by their numbers (n, k): half near, half further."""
        box = number[..., None] * np.array([0.7548776662, 0.5698402910]) % 1 - 0.5
        box *= np.where(number % 2, 0.2, 0.5)[..., None]
        wide = 1 + np.exp(np.minimum(points[:, 0] - points[:, 1], 1.2))  # dz / d log lr: z creeps near the limit
        return self.clip(points[:, None] + box * np.stack([wide, np.ones_like(wide)], axis=-1)[:, None], log_t[:, None])

    def ask(self, spectrum, points, log_t, batch_sizes):
        """The best of all points, each scaled to the run of each batch size, and its log R."""
        scaled = self.clip(points + (log_t[:, None] - log_t)[..., None] * self.longer, log_t[:, None])
        values = self.log_risk(spectrum, scaled, log_t, batch_sizes)  # (asking, asked)
        return scaled[np.arange(log_t.size), values.argmin(axis=1)], values.min(axis=1)

    def slope(self, points, log_t, batch_sizes):
        """d log R / d log t on the sketch, where the heavy ball has no ripples; at most -0.1."""
        now, later = (
            self.log_risk(self.problem.sketch, points[:, None], log_t + shift, batch_sizes)[:, 0] for shift in (0, 0.01)
        )
        return np.minimum((later - now) / 0.01, -0.1)

    def meet(self, spectrum, points, log_t, batch_sizes):
        """Two Newton steps in log t towards log R = log target; t >= 1."""
        for _ in range(2):
            value = self.log_risk(spectrum, points[:, None], log_t, batch_sizes)[:, 0] - math.log(self.target)
            log_t = log_t - np.clip(value / self.slope(points, log_t, batch_sizes), -0.5, 0.5)
            log_t = np.maximum(log_t, 0)
        return log_t

    def descend(self, spectrum, points, log_t, batch_sizes, size, rounds):
        """Fit a parabola to log R on a star of points, go to its minimum, shrink the star."""
        star = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * self.axes, indexing="ij"), -1).reshape(-1, self.axes)
        for _ in range(rounds):
            around = self.clip(points[:, None] + size[:, None, None] * star, log_t[:, None])
            values = self.log_risk(spectrum, around, log_t, batch_sizes)  # (m, 3^axes)
            jump = _newton(values.reshape(-1, *[3] * self.axes))  # in units of the star
            target = self.clip(points + size[:, None] * jump, log_t)
            at_target = self.log_risk(spectrum, target[:, None], log_t, batch_sizes)
            values, around = np.append(values, at_target, 1), np.append(around, target[:, None], 1)
            points = around[np.arange(log_t.size), values.argmin(axis=1)]
            length = np.abs(jump).max(axis=1)
            size = size * np.where(length < 0.5, 0.3, np.where(length < 1.5, 0.7, 1.2))
        return points, size

    def settle(self, points, log_t, batch_sizes, sgd):
        """A whole number of steps that is enough, on the few eigenvalues; at worst what SGD needs."""
        spectrum, steps = self.problem.compressed, np.maximum(np.ceil(np.exp(log_t)), 1)
        slope, each, goal = self.slope(points, log_t, batch_sizes), np.arange(steps.size), math.log(self.target)
        for _ in range(4):
            value = self.log_risk(spectrum, points[:, None], np.log(steps), batch_sizes)[:, 0]
            shift = (goal - value) / slope
            shift = np.where((steps > 2000) | (shift > 0), np.clip(shift, -0.1, 0.1), 0)
            before, steps = steps, np.maximum(np.ceil(steps * np.exp(shift) * (1 - 1e-12)), 1)
            if self.kind is HeavyBall:
                points = self.clip(points + np.log(steps / before)[:, None] * self.longer, np.log(steps))
            points = self.retune(points, steps, batch_sizes)
        for _ in range(200):
            value = self.log_risk(spectrum, points[:, None], np.log(steps), batch_sizes)[:, 0]
            late = each[value >= goal]
            if not late.size:
                break
            steps[late] += np.maximum(1, steps[late] // 500)
            points[late] = self.retune(points[late], steps[late], batch_sizes[late])
        if sgd is not None:
            self.prefer(points, steps, sgd)
        return points, steps

    @staticmethod
    def prefer(points, steps, sgd):
        """Put SGD, which is momentum 0 and decay 0, wherever it is faster."""
        worse = steps > sgd[1]
        points[worse], steps[worse] = np.append(sgd[0], 0 * sgd[0], axis=1)[worse], sgd[1][worse]

    def shorten(self, points, steps, batch_sizes):
        """One step less at a time, with hyperparameters tuned for it, on the few eigenvalues.

        Short runs of the heavy ball are searched everywhere, not only near: their risk has no valley to follow.
        """
        spectrum, goal, early = self.problem.compressed, math.log(self.target), np.flatnonzero(steps > 1)
        for _ in range(30):
            if not early.size:
                break
            t, batches = steps[early] - 1, batch_sizes[early]
            tuned = self.retune(points[early], t, batches, rounds=2)
            better = self.log_risk(spectrum, tuned[:, None], np.log(t), batches)[:, 0] < goal
            for stuck in (t <= VERY_SHORT, (VERY_SHORT < t) & (t <= SHORT)):
                stuck &= ~better & (self.kind is HeavyBall)
                if stuck.any():
                    tuned[stuck] = self.far(tuned[stuck], np.log(t[stuck]), batches[stuck])
            better = self.log_risk(spectrum, tuned[:, None], np.log(t), batches)[:, 0] < goal
            early = early[better]
            points[early], steps[early] = tuned[better], t[better]
            early = early[steps[early] > 1]
        return points, steps

    def far(self, points, log_t, batch_sizes):
        """The best point at fixed t: of everything in very short runs, else of the neighbourhood."""
        spectrum, n = self.problem.reduced, log_t.size
        if np.exp(log_t.max()) <= VERY_SHORT + 0.5:
            tried, size = self.grid(log_t, memories=14, lrs=40).reshape(n, -1, 2), 0.1
        else:
            starts = max(256, 1024 // n)
            tried, size = self.around(points, log_t, np.arange(n * starts).reshape(n, starts)), 0.006
        order = self.log_risk(spectrum, tried, log_t, batch_sizes).argsort(axis=1)[:, :6]
        tried = np.take_along_axis(tried, order[..., None], axis=1)
        runs = np.repeat(log_t, 6), np.repeat(batch_sizes, 6), np.full(n * 6, size)
        tried = self.descend(spectrum, tried.reshape(-1, 2), *runs, rounds=4)[0].reshape(tried.shape)
        return tried[np.arange(n), self.log_risk(spectrum, tried, log_t, batch_sizes).argmin(axis=1)]

    def retune(self, points, steps, batch_sizes, rounds=1):
        """Newton steps near a point that is good already, at whole steps, on the few eigenvalues."""
        size = np.full(steps.size, 0.005)
        return self.descend(self.problem.compressed, points, np.log(steps), batch_sizes, size, rounds)[0]

    def certify(self, points, steps, batch_sizes, sgd):
        """On the whole spectrum: the risk of these points is below the target at t, and not at t - 1."""
        goal, slope = math.log(self.target), self.slope(points, np.log(steps), batch_sizes)
        for attempt in range(100):
            excess = self.exact_log_risk(points, steps, batch_sizes) - goal
            late = np.flatnonzero(excess >= 0)
            if not late.size:
                break
            t = steps[late]
            more = np.maximum(np.floor(t * excess[late] / -slope[late]), 1 if attempt < 4 else 1 + t // 500)
            points[late] += np.log1p(more / t)[:, None] * self.longer
            steps[late] = t + more
            points[late] = self.retune(self.clip(points[late], np.log(t + more)), t + more, batch_sizes[late])
        if sgd is not None:
            self.prefer(points, steps, sgd)
        return points, self.earliest(points, steps, batch_sizes)

    def earliest(self, points, steps, batch_sizes):
        """From steps that are enough back to the last crossing of the target: ever larger strides, then halves."""
        goal, enough, few, stride = math.log(self.target), steps.copy(), np.zeros_like(steps), 1
        while (open_ := np.flatnonzero((few == 0) & (enough > 1))).size:
            t = np.maximum(enough[open_] - stride, 1)
            below = self.exact_log_risk(points[open_], t, batch_sizes[open_]) < goal
            enough[open_[below]], few[open_[~below]] = t[below], t[~below]
            stride *= 2
        while (open_ := np.flatnonzero(enough - few > 1)).size:
            t = (enough[open_] + few[open_]) // 2
            below = self.exact_log_risk(points[open_], t, batch_sizes[open_]) < goal
            enough[open_[below]], few[open_[~below]] = t[below], t[~below]
        return enough

    @staticmethod
    def inherit(points, steps, batch_sizes):
        """What reaches the target with a batch also does with a larger one, whose noise is less."""
        order = np.argsort(batch_sizes, kind="stable")
        for before, after in itertools.pairwise(order):
            if steps[before] < steps[after]:
                steps[after], points[after] = steps[before], points[before]
        return points, steps

    def exact_log_risk(self, points, t, batch_sizes):
        """log R on the whole spectrum, one point (m, axes) for each time and batch size (m,)."""
        risks = []
        for point, step, batch in zip(points, t, batch_sizes, strict=True):
            bias, variance = total_risk(
                self.problem.spectrum, self.kind, *self.hyperparameters(point), self.power, step
            )
            risks.append(bias + variance / batch)
        return np.log(risks)


def _newton(values):
    """Minimum of the parabola through values on {-1, 0, 1}^axes, (m, 3) or (m, 3, 3), at most 2 away."""
    if values.ndim == 2:
        slope = (values[:, 2] - values[:, 0]) / 2
        curvature = values[:, 2] + values[:, 0] - 2 * values[:, 1]
        curvature = np.maximum(np.abs(curvature), 1e-12)  # where the function is not convex, go down, not up
        return np.clip(-slope / curvature, -2, 2)[:, None]
    middle = values[:, 1, 1]
    a = values[:, 2, 1] + values[:, 0, 1] - 2 * middle
    b = values[:, 1, 2] + values[:, 1, 0] - 2 * middle
    c = (values[:, 2, 2] - values[:, 2, 0] - values[:, 0, 2] + values[:, 0, 0]) / 4
    slope = np.stack([values[:, 2, 1] - values[:, 0, 1], values[:, 1, 2] - values[:, 1, 0]], axis=-1) / 2
    radius = np.sqrt((a - b) ** 2 / 4 + c**2)
    smallest, largest = (a + b) / 2 - radius, np.abs(a + b) / 2 + radius
    shift = np.maximum(0, 1e-3 * largest - smallest) + 1e-12  # makes the parabola convex
    a, b = a + shift, b + shift
    step = -np.stack([b * slope[:, 0] - c * slope[:, 1], a * slope[:, 1] - c * slope[:, 0]], axis=-1)
    step /= (a * b - c**2)[:, None]
    return step / np.maximum(1, np.abs(step).max(axis=1, keepdims=True) / 2)
