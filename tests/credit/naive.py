"""Credit by plain Python loops, written from the formulas and not from the library.

Batches are random: seats act in any order, slots may be empty, behaviours ineligible.
"""

import dataclasses
import math

import numpy as np
import torch

# Few shapes and many seeds: every new shape costs a compilation, a new seed costs nothing.
SHAPES = ((1, 1, 1), (3, 5, 2), (6, 14, 4))


@dataclasses.dataclass
class Batch:
    """Random padded arrays; garbage (-1) in empty slots, as the self-play loop leaves it."""

    seat: np.ndarray
    role: np.ndarray
    phase: np.ndarray
    eligible: np.ndarray
    outcome: np.ndarray
    values: np.ndarray
    scores: np.ndarray
    judged: np.ndarray
    num_roles: int
    num_phases: int
    differences: np.ndarray
    forked: np.ndarray
    share: float

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in ("seat", "role", "phase", "eligible", "outcome")}

    def slots(self):
        """Every (episode, slot), empty ones included."""
        return np.ndindex(*self.seat.shape)


def random_batch(seed: int, shape: tuple[int, int, int], num_roles=3, num_phases=2, binary=False) -> Batch:
    rng = np.random.default_rng(seed)
    episodes, slots, seats = shape
    length = rng.integers(0, slots + 1, size=episodes)
    seat = rng.integers(0, seats, size=(episodes, slots))
    seat = np.where(np.arange(slots) < length[:, None], seat, -1)
    role_of_seat = rng.integers(0, num_roles, size=(episodes, seats))
    role = np.where(seat >= 0, np.take_along_axis(role_of_seat, np.maximum(seat, 0), 1), -1)
    phase = np.where(seat >= 0, rng.integers(0, num_phases, size=seat.shape), -1)
    eligible = (seat >= 0) & (rng.random(seat.shape) < 0.8)
    outcome = rng.choice([-1.0, 1.0], size=(episodes, seats))
    if not binary:
        outcome = outcome * rng.choice([0.0, 0.25, 1.0], size=outcome.shape)
    return Batch(
        seat.astype(np.int8),
        role.astype(np.int8),
        phase.astype(np.int8),
        eligible,
        outcome.astype(np.float32),
        rng.uniform(-1, 1, seat.shape).astype(np.float32),
        rng.choice([-1.0, -0.25, 0.0, 1.0], seat.shape).astype(np.float32),
        rng.random(seat.shape) < 0.6,
        num_roles,
        num_phases,
        rng.choice([-2.0, -0.5, 0.0, 1.0], seat.shape).astype(np.float32),
        eligible & (rng.random(seat.shape) < 0.4),
        0.25 + 0.75 * rng.random(),
    )


def decompose(name: str, batch: Batch, discount: float) -> tuple[np.ndarray, np.ndarray]:
    returns = np.zeros(batch.seat.shape)
    carried = np.zeros(batch.seat.shape, bool)
    for e, b in batch.slots():
        seat = batch.seat[e, b]
        if seat < 0:
            continue
        later = sum(1 for other in batch.seat[e, b + 1 :] if other == seat)
        outcome = float(batch.outcome[e, seat])
        if name == "none":
            if later == 0:
                returns[e, b], carried[e, b] = outcome, True
        elif name == "outcome":
            returns[e, b], carried[e, b] = outcome, True
        elif name == "discounted":
            returns[e, b], carried[e, b] = discount**later * outcome, True
    return returns, carried


def by_value(batch: Batch, judged: np.ndarray, decay: float) -> np.ndarray:
    credited = np.zeros(batch.seat.shape)
    for e, b in batch.slots():
        if not judged[e, b]:
            continue
        seat = batch.seat[e, b]
        mine = [k for k in range(b, batch.seat.shape[1]) if batch.seat[e, k] == seat and judged[e, k]]
        prospects = [float(batch.values[e, k]) for k in mine] + [float(batch.outcome[e, seat])]
        for later in range(len(mine)):
            credited[e, b] += decay**later * (prospects[later + 1] - prospects[later])
    return credited


def doubly_robust(batch: Batch, expected: np.ndarray) -> np.ndarray:
    credited = np.array(expected)
    for place in batch.slots():
        if batch.forked[place]:
            credited[place] = expected[place] + (float(batch.differences[place]) - expected[place]) / batch.share
    return credited


def by_rules(batch: Batch, weight: float) -> np.ndarray:
    told = [place for place in batch.slots() if batch.judged[place] and batch.eligible[place]]
    returns = np.zeros(batch.seat.shape)
    for place in batch.slots():
        if batch.eligible[place]:
            returns[place] = batch.outcome[place[0], batch.seat[place]]
    for place in told:
        alike = [p for p in told if (batch.role[p], batch.phase[p]) == (batch.role[place], batch.phase[place])]
        mean = sum(float(batch.scores[p]) for p in alike) / len(alike)
        returns[place] += weight * (float(batch.scores[place]) - mean)
    return returns


class Statistics:
    """Dictionaries of decayed sums, keyed by (role, phase)."""

    def __init__(self):
        self.count: dict = {}
        self.returns: dict = {}
        self.absolute: dict = {}
        self.episodes = 0.0

    def add(self, batch: Batch, returns, advantages, mask, decay, share=1.0):
        for table in (self.count, self.returns, self.absolute):
            for cell in table:
                table[cell] *= decay
        self.episodes = self.episodes * decay + share * batch.seat.shape[0]
        for e, b in batch.slots():
            if mask[e, b]:
                cell = (int(batch.role[e, b]), int(batch.phase[e, b]))
                self.count[cell] = self.count.get(cell, 0.0) + 1.0
                self.returns[cell] = self.returns.get(cell, 0.0) + float(returns[e, b])
                self.absolute[cell] = self.absolute.get(cell, 0.0) + abs(float(advantages[e, b]))

    def total(self, table: dict, role: int | None = None) -> float:
        return sum(value for cell, value in table.items() if role is None or cell[0] == role)

    def mean_return(self, role: int) -> float:
        n = self.total(self.count, role)
        return self.total(self.returns, role) / n if n else 0.0

    def baseline(self, kind: str, role: int, phase: int) -> float:
        if kind == "none":
            return 0.0
        if kind == "role":
            return self.mean_return(role)
        n = self.count.get((role, phase), 0.0)
        cell_mean = self.returns[(role, phase)] / n if n else 0.0
        return (n * cell_mean + 50 * self.mean_return(role)) / (n + 50)

    def scale(self, role: int) -> float:
        n = self.total(self.count, role)
        return max(self.total(self.absolute, role) / n, 0.36) if n else 1.0

    def role_weight(self, role: int, side_of_role) -> float:
        n = self.total(self.count, role)
        if n == 0:
            return 1.0
        seen = [r for r in range(len(side_of_role)) if self.total(self.count, r) > 0]
        num_sides = len({side_of_role[r] for r in seen})
        fellows = sum(1 for r in seen if side_of_role[r] == side_of_role[role])
        share = n / self.total(self.count)
        return min(1 / num_sides / fellows / share, 4.0)


@dataclasses.dataclass
class Credit:
    returns: np.ndarray
    advantages: np.ndarray
    weights: np.ndarray
    eligible: np.ndarray
    normaliser: float


def of_deal(batch: Batch, eligible, size: int, episode: int, seat: int) -> tuple[float, float]:
    """Mean and deviation of a seat's results over the episodes of a deal in which it may learn."""
    first = episode - episode % size
    results = [
        float(batch.outcome[e, seat])
        for e in range(first, first + size)
        if any(batch.seat[e, b] == seat and eligible[e, b] for b in range(batch.seat.shape[1]))
    ]
    mean = sum(results) / len(results)
    return mean, math.sqrt(sum((result - mean) ** 2 for result in results) / len(results))


def credit(options, statistics: Statistics, batch: Batch, side_of_role, decay) -> Credit:
    """Credits a batch and adds it to `statistics`, which the first batch reads itself."""
    share = batch.share if options.decompose == "fork" else 1.0
    if options.decompose in ("value", "pnlc", "fork_dr"):
        returns, carried = by_value(batch, batch.eligible, options.value_decay), batch.eligible
        if options.decompose == "fork_dr":
            returns = doubly_robust(batch, returns)
    elif options.decompose == "fork":
        returns, carried = batch.differences.astype(float), batch.forked
    elif options.decompose == "rules":
        returns, carried = by_rules(batch, options.rules_weight), batch.eligible
    else:
        returns, carried = decompose(options.decompose, batch, options.discount)
    eligible = carried & batch.eligible
    returns = np.where(eligible, returns, 0.0)
    advantages, weights = np.zeros_like(returns), np.zeros_like(returns)

    def own(advantages):
        fresh = Statistics()
        fresh.add(batch, returns, advantages, eligible, 1.0, share)
        return fresh

    lagged = statistics.total(statistics.count) > 0
    used = statistics if lagged else own(advantages)
    for e, b in batch.slots():
        if eligible[e, b]:
            cell = int(batch.role[e, b]), int(batch.phase[e, b])
            if options.baseline == "deal":
                base, _ = of_deal(batch, eligible, options.deal_group, e, batch.seat[e, b])
            else:
                base = used.baseline(options.baseline, *cell)
            advantages[e, b] = returns[e, b] - base
    used = statistics if lagged else own(advantages)
    for e, b in batch.slots():
        if eligible[e, b]:
            role = int(batch.role[e, b])
            weights[e, b] = abs(advantages[e, b])
            if options.balance in ("role", "role_label"):
                weights[e, b] *= used.role_weight(role, side_of_role)
            if options.balance == "role_label":
                weights[e, b] /= used.scale(role)
            if options.balance == "deal" and weights[e, b] > 0:
                weights[e, b] /= of_deal(batch, eligible, options.deal_group, e, batch.seat[e, b])[1]
    mean = used.total(used.count) / used.episodes
    normaliser = max(share * batch.seat.shape[0] * mean, 1.0)
    statistics.add(batch, returns, advantages, eligible, decay, share)
    return Credit(returns, advantages, weights, eligible, normaliser)


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def published_kto(log_ratio, good, weight, beta, reference_point) -> float:
    """λ (1 − σ(β(r − z0))) for a desirable, λ (1 − σ(β(z0 − r))) for an undesirable reply."""
    if good:
        return weight * (1 - sigmoid(beta * (log_ratio - reference_point)))
    return weight * (1 - sigmoid(beta * (reference_point - log_ratio)))


def published_kto_batch(
    policy, reference, mismatched, mismatched_reference, good, beta, desirable, undesirable
) -> torch.Tensor:
    """KTO's loss of a batch as TRL's documentation and trainer give it; log-probabilities of whole replies."""
    with torch.no_grad():
        point = (mismatched - mismatched_reference).mean().clamp(min=0)
    ratio = policy - reference
    wanted = desirable * (1 - torch.sigmoid(beta * (ratio[good] - point)))
    unwanted = undesirable * (1 - torch.sigmoid(beta * (point - ratio[~good])))
    return torch.cat([wanted, unwanted]).mean()


def published_ppo(ratio, advantage, clip) -> float:
    """−min(ρ A, clip(ρ, 1 − ε, 1 + ε) A)."""
    return -min(ratio * advantage, min(max(ratio, 1 - clip), 1 + clip) * advantage)
