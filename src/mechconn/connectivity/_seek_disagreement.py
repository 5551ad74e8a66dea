"""Looking for a model of equal loss whose answers on given rows differ most."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from mechconn.connectivity._disagreement import DATA, Disagreement
from mechconn.connectivity._disagreement_search import DisagreementSearch
from mechconn.connectivity._evaluate_path import evaluate_path
from mechconn.connectivity._path_verdict import TOLERANCE
from mechconn.core import (
    Compute,
    Data,
    Inputs,
    Params,
    PerSampleLoss,
    Progress,
    SampleSource,
    as_data,
    check_by_index,
    check_is,
    check_non_negative,
    isolate_rng,
    iterate_numbered_batches,
    make_generator,
    resolve_compute,
)
from mechconn.datasets import Suite
from mechconn.descent import MasterWeights
from mechconn.losses import Loss, as_loss, cross_entropy
from mechconn.network import (
    KeepNorm,
    Network,
    compute_outcomes,
    iterate_outputs,
    parameters_of,
    unwrap_module,
    with_parameters,
)
from mechconn.paths import LinearPath

FARTHEST = 4.0
"""How far beyond the point reached the line is followed, in lengths of the way to it."""
HALVINGS = 8
LARGEST, LEAST = 1e6, 1e-6
"""Of the weight of the loss."""
UP, DOWN = "larger outputs", "smaller outputs"
RUNNER_UP = "runner-up"
Pull = Callable[[Tensor, Tensor], Tensor]
"""(outputs on some rows, their numbers) -> what a search makes large."""


@torch.inference_mode(False)
def seek_disagreement(
    model: nn.Module,
    data: Data,
    rows: Data | Tensor,
    search: DisagreementSearch | None = None,
    *,
    margin: float = TOLERANCE,
    loss: PerSampleLoss = cross_entropy,
    seed: int = 0,
    compute: Compute | None = None,
    device: str | torch.device | None = None,
    progress: Progress | bool | None = None,
) -> Disagreement:
    r"""Find a model of equal loss on the data whose answers on given rows differ most from this model's.

    With p(x) the model's class probabilities and p'(x) those at theta', it looks for

        max over theta' of mean_rows KL(p(x) || p'(x))    subject to    L(theta') <= L(theta) + tolerance,

    L the mean loss on all data. What it finds is a lower bound: that nothing was found does not say that there is
    nothing. That the loss is as low is exact: it is measured on all data. Where the task is no classification into
    classes, the divergence is the mean squared difference of the outputs.

    The model found lies in the same basin where the straight line to it has a barrier on the data that is at most the
    margin, in another where it is above, by the barrier's 95 % interval (`Disagreement.verdict`).

    The network computes as in evaluation throughout: no dropout, and normalisation statistics stay as they are saved,
    so that both models share them. Parameters that the model holds frozen stay.

    Args:
        model: theta; it stays as it is.
        data: the rows on which the loss must stay, such as the training data: an (x, y) pair or a dataset.
        rows: the rows to disagree on, as data or as inputs alone; their labels are not read.
        search: how to look; default: `DisagreementSearch()`.
        margin: the largest barrier that counts as none, in the units of the loss.
        loss: one value per row from (outputs, targets); also decides what is a classification.
        seed: of the order of the data.
        compute: how to compute; see `Compute`. A model in bfloat16 or float16 is searched as a float32 copy; what is
            measured are its rounded weights.
        device: short for `Compute(device=...)`; default: where the model is.
        progress: short for `Compute(progress=...)`; counts searches.

    Raises:
        TypeError: data or rows that cannot be read by row, or no search.
        ValueError: every parameter is frozen, the model's own loss on the data is not finite, or as in `evaluate_path`.

    Example:
        The line y = w x through x = y = 1 with squared loss: the loss may rise by 0.01, so that w may be 1 + 0.1, and
        its answer at x = 3 other by 0.3.

        >>> import mechconn.losses
        >>> line = nn.Linear(1, 1, bias=False)
        >>> _ = line.load_state_dict({"weight": torch.ones(1, 1)})
        >>> squared, search = mechconn.losses.squared, DisagreementSearch(steps=20, lr=0.01)
        >>> data = torch.ones(1000, 1), torch.ones(1000, 1)
        >>> found = seek_disagreement(line, data, torch.tensor([[3.0]]), search, loss=squared)
        >>> round(found.divergence**0.5, 2), round(found.loss_after, 3), found.verdict
        (0.3, 0.01, 'connected')

    Source: Schweighofer et al. 2023, *Quantification of uncertainty with adversarial models*.
    """
    compute, search = resolve_compute(compute, device, progress), DisagreementSearch() if search is None else search
    check_is("search", search, DisagreementSearch)
    check_non_negative("margin", margin)
    source = check_by_index("seek_disagreement", as_data("data", data))
    given: Any = (rows, torch.zeros(len(rows), dtype=torch.long)) if isinstance(rows, Tensor) else rows
    asked = check_by_index("seek_disagreement", as_data("rows", given))
    model = unwrap_module(model)
    with isolate_rng(seed, "disagreement"):
        seeker = _Seeker.prepare(model, source, asked, search, as_loss(loss), seed, compute)
        pulls = seeker.list_pulls()
        found: dict[str, _Found] = {}
        for number, (name, pull) in enumerate(pulls.items(), start=1):
            found[name] = seeker.search_toward(pull)
            compute.report("seeking disagreement", number, len(pulls))
        best = max(found, key=lambda name: found[name].divergence)
        other = with_parameters(model, found[best].params)
        line = evaluate_path(
            model, LinearPath.between(model, other), Suite({DATA: source}, reference=DATA), norm=KeepNorm(), loss=loss,
            keep_samples=True, seed=seed, compute=compute.without_progress(),
        )  # fmt: skip
    return Disagreement(
        seeker.loss_before, found[best].loss, search.tolerance, found[best].divergence,
        seeker.count_changed(found[best].outputs), best, {name: own.divergence for name, own in found.items()},
        len(asked), len(source), margin, line,
        {
            "search": search.settings(), "loss": seeker.loss.describe(), "loss_unit": seeker.loss.unit,
            **seeker.network.computed, "seed": seed, **seeker.masters.settings,
        },
        other,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Found:
    """A point, and what was measured there."""

    params: Params
    loss: float
    outputs: Tensor
    divergence: float


@dataclass(frozen=True, eq=False)
class _Seeker:
    """A model, what its loss must stay on, and what it is to answer otherwise.

    Attributes:
        network: of the model, in its own types, for measuring.
        masters: what is searched in its place.
        start: the model's own point.
        loss_before: of it.
        outputs: of it on the rows, float64.
        classified: whether outputs are those of classes.
    """

    network: Network
    masters: MasterWeights
    data: SampleSource
    rows: SampleSource
    search: DisagreementSearch
    loss: Loss
    seed: int
    start: Params
    loss_before: float
    outputs: Tensor
    classified: bool

    @classmethod
    def prepare(
        cls, model: nn.Module, data: SampleSource, rows: SampleSource, search: DisagreementSearch, loss: Loss,
        seed: int, compute: Compute,
    ) -> _Seeker:  # fmt: skip
        """Measure the model itself."""
        network, start = Network(model, compute), parameters_of(model)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError("every parameter of the model is frozen, so that no other model can be found; call "
                             "requires_grad_() on some")  # fmt: skip
        bare = cls(network, MasterWeights(model), data, rows, search, loss, seed, start, 0.0, torch.empty(0), False)
        mean, classified = bare.measure_loss(start)
        if not math.isfinite(mean):
            raise ValueError(f"the model's loss on the data is {mean}, so that none can be equal; repair the model")
        outputs = bare.read_outputs(start)
        classified = classified and outputs.dim() == 2 and outputs.shape[1] > 1
        return cls(network, bare.masters, data, rows, search, loss, seed, start, mean, outputs, classified)

    def list_pulls(self) -> Mapping[str, Pull]:
        """Name -> what a search makes large."""
        if not self.classified:
            return {
                UP: lambda outputs, _: outputs.sum() / len(outputs),
                DOWN: lambda outputs, _: -outputs.sum() / len(outputs),
            }
        classes = torch.arange(self.outputs.shape[1])[:, None].expand(-1, len(self.outputs))
        toward = {f"class {k}": own for k, own in enumerate(classes)}
        if len(self.outputs) > 1:  # of a single row it is one of the classes
            toward = {RUNNER_UP: self.outputs.topk(2, dim=1).indices[:, 1], **toward}
        return {name: partial(_compute_log_probability, own.to(self.network.device)) for name, own in toward.items()}

    def search_toward(self, pull: Pull) -> _Found:
        """The allowed point of largest divergence on the way of one search."""
        search, network = self.search, Network(self.masters.module, self.network.compute)
        params = network.load(self.masters.load(self.start))
        moving = {name for name, p in network.make_weightless_parameters().items() if p.requires_grad}
        params = {n: t.detach().clone().requires_grad_() if n in moving else t.detach() for n, t in params.items()}
        optimizer = torch.optim.Adam([params[name] for name in moving], lr=search.lr)
        best, weight = _Found(self.start, self.loss_before, self.outputs, 0.0), search.penalty
        batches, asked, loss = (
            self._repeat(self.data, "data"),
            self._repeat(self.rows, "rows"),
            self.masters.loss(self.loss),
        )
        for step in range(1, search.steps + 1):
            (inputs, targets, _), (wanted, _, numbers) = next(batches), next(asked)
            with torch.enable_grad():
                here = loss(network(params, self._copy_buffers(network), inputs), targets).mean()
                objective = weight * here - pull(network(params, self._copy_buffers(network), wanted), numbers)
                optimizer.zero_grad()
                objective.backward(inputs=[params[name] for name in moving])
            optimizer.step()
            if step % search.check_every == 0 or step == search.steps:
                now = self.measure(self._to_own(params))
                best = _choose_farther(best, now) if self.allows(now) else best
                weight = min(max(weight * (0.5 if self.allows(now) else 2.0), LEAST), LARGEST)
        return _choose_farther(best, self._follow(self._to_own(params)))

    def _follow(self, reached: Params) -> _Found:
        """The most different of the allowed points found on the line from the model through the point reached."""
        path = LinearPath(self.start, reached)

        def at(share: float) -> _Found:
            if share <= 1.0:
                return self.measure(path.at(share))
            far = {n: (t + (share - 1.0) * (t - self.start[n])).to(t.dtype) for n, t in reached.items()}
            return self.measure(far)

        best, low, high = _Found(self.start, self.loss_before, self.outputs, 0.0), 0.0, 1.0
        while high <= FARTHEST and self.allows(now := at(high)):
            best, low, high = _choose_farther(best, now), high, 2.0 * high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self.allows(now := at(middle)):
                best, low = _choose_farther(best, now), middle
            else:
                high = middle
        return best

    def allows(self, found: _Found) -> bool:
        """Whether the loss is as low."""
        return found.loss <= self.loss_before + self.search.tolerance and math.isfinite(found.divergence)

    def measure(self, params: Params) -> _Found:
        """Loss on all data, and divergence on all rows, of a point in the model's own types."""
        mean, _ = self.measure_loss(params)
        outputs = self.read_outputs(params)
        return _Found(params, mean, outputs, self._diverge(outputs))

    def measure_loss(self, params: Params) -> tuple[float, bool]:
        """(the mean loss on all data, whether rows are classified as wholes)."""
        found = compute_outcomes(self._make_forward(params), self.network, self.data, "data", self.loss)
        return float(found.loss.mean()), found.answers is not None and found.answers.each == "rows"

    def read_outputs(self, params: Params) -> Tensor:
        """Outputs on all rows, float64."""
        forward = self._make_forward(params)
        with torch.no_grad():
            return torch.cat([z.double().cpu() for z, _ in iterate_outputs(forward, self.network, self.rows, "rows")])

    def _make_forward(self, params: Params) -> Callable[[Inputs], Tensor]:
        """The network at a point in evaluation; points are too many to make it faster at each."""
        loaded, buffers = self.network.load(params), self._copy_buffers(self.network)
        return lambda inputs: self.network(loaded, buffers, inputs)

    def _diverge(self, outputs: Tensor) -> float:
        if not self.classified:
            return float((outputs - self.outputs).square().mean())
        before, after = self.outputs.log_softmax(1), outputs.log_softmax(1)
        each = (before.exp() * (before - after)).where(before != -math.inf, 0.0)  # 0 log 0 is 0
        return float(each.sum(1).mean())

    def count_changed(self, outputs: Tensor) -> float | None:
        """The share of rows with another class."""
        return float((outputs.argmax(1) != self.outputs.argmax(1)).double().mean()) if self.classified else None

    def _to_own(self, params: Params) -> Params:
        """A point of the search in the model's own types, where the model is."""
        rounded = self.masters.round({name: tensor.detach() for name, tensor in params.items()})
        return {name: tensor.to(self.start[name].device).clone() for name, tensor in rounded.items()}

    def _copy_buffers(self, network: Network) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in network.buffers.items()}

    def _repeat(self, source: SampleSource, name: str) -> Iterator[tuple[Inputs, Tensor, Tensor]]:
        """Shuffled batches without end, each with the numbers of its rows."""
        for epoch in count():
            shuffle = make_generator(self.seed, "disagreement", name, epoch)
            for inputs, targets, numbers in iterate_numbered_batches(
                name, source, batch_size=self.search.batch_size, device=self.network.device, shuffle=shuffle,
                model=self.network.module,
            ):  # fmt: skip
                assert numbers is not None  # of data by index
                yield inputs, targets, numbers


def _choose_farther(one: _Found, other: _Found) -> _Found:
    """The one whose answers differ more."""
    return max(one, other, key=lambda found: found.divergence)


def _compute_log_probability(classes: Tensor, outputs: Tensor, numbers: Tensor) -> Tensor:
    """The mean log-probability of a class of each row."""
    wanted = classes[numbers.to(classes.device)]
    return outputs.log_softmax(1).gather(1, wanted[:, None]).mean()
