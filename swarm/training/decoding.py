"""One token after another for many rows, from the logits after their prompts.

On a CUDA device a step is a recorded graph: for models of this size launching its thousand kernels one by one takes
several times as long as running them. Elsewhere the steps are plain PyTorch.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch

from swarm.training import memory
from swarm.training.device import Device
from swarm.training.keyvalues import KeyValues
from swarm.training.parts import Parts

logger = logging.getLogger(__name__)

GRAPHS = 4
"""Recorded graphs that are kept; each holds keys and values for its rows."""
WIDTH_STEP = 64
"""Graphs are made for multiples of so many slots, so that prompts of other lengths find one."""
LOOK_EVERY = 16
"""Steps between two looks at whether all rows of a graph have ended; looking makes the GPU wait."""
ENDED_SHARE = 1 / 8
"""Of the rows, that have to have ended before the others are moved together."""

Step = Callable[[], None]
"""One token more for all rows, from and into tensors that stay where they are."""

Ended = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Tokens and log-probabilities, shape (rows, steps), valid up to the lengths; lengths and whether ended, (rows,)."""


@dataclass
class Steps:
    """What is needed to go on from the logits after the prompts."""

    cache: KeyValues
    """Holds the prompts, and has room for every step."""
    mask: torch.Tensor
    """(rows, slots): false on padding."""
    positions: torch.Tensor
    """(rows,): of the first token to be drawn."""
    uniforms: torch.Tensor
    """(rows, steps), in [0, 1)."""
    temperature: float | None


class Decoder:
    def __init__(self, parts: Parts, device: Device, ends: torch.Tensor) -> None:
        self._parts = parts
        self._device = device
        self._ends = ends
        self.graphs = device.place.type == "cuda"
        """Record steps as CUDA graphs."""
        self.record: Callable[[Step, torch.device], Step] = recorded
        self._recorded: OrderedDict[tuple[int, int, bool], tuple[_Batch, Step]] = OrderedDict()

    def forget(self) -> None:
        self._recorded.clear()

    def run(self, logits: torch.Tensor, steps: Steps) -> Ended:
        """Draw until every row has ended or has as many tokens as there are uniforms; logits: (rows, vocabulary)."""
        return self._recorded_steps(logits, steps) if self.graphs else self._plain_steps(logits, steps)

    def _plain_steps(self, logits: torch.Tensor, steps: Steps) -> Ended:
        cache, mask, positions = steps.cache, steps.mask, steps.positions
        rows, limit = steps.uniforms.shape
        tokens = torch.zeros((rows, limit), dtype=torch.long, device=logits.device)
        logprobs = torch.zeros((rows, limit), device=logits.device)
        lengths = torch.full((rows,), limit, device=logits.device)
        finished = torch.zeros(rows, dtype=torch.bool, device=logits.device)
        live = torch.arange(rows, device=logits.device)
        for step in range(limit):
            chosen, logprobs[live, step] = choose(logits, steps.temperature, steps.uniforms[live, step])
            tokens[live, step] = chosen
            ended = torch.isin(chosen, self._ends) & ~finished[live]
            lengths[live[ended]] = step + 1
            finished[live[ended]] = True
            over = finished[live]
            number = int(over.sum())
            if step + 1 == limit or number == len(live):
                break
            if number >= ENDED_SHARE * len(live):
                staying = (~over).nonzero().squeeze(1)
                live, chosen, mask, positions = live[staying], chosen[staying], mask[staying], positions[staying]
                cache.keep(staying)
            with self._device.autocast():
                seen = mask[:, None, None, : cache.used + 1]
                hidden = self._parts.hidden(chosen[:, None], seen, positions[:, None], cache)
                logits = self._parts.logits(hidden[:, -1])
            cache.used += 1
            positions = positions + 1
        return tokens, logprobs, lengths, finished

    def _recorded_steps(self, logits: torch.Tensor, steps: Steps) -> Ended:
        limit = steps.uniforms.shape[1]
        width = -(-steps.cache.width // WIDTH_STEP) * WIDTH_STEP
        try:
            batch, replay = self._graph(steps, width)
        except RuntimeError as error:
            if memory.is_out_of_memory(error):
                raise
            logger.warning("CUDA graphs are not used, since recording one failed: %s", error)
            self.graphs = False
            self.forget()
            return self._plain_steps(logits, steps)
        batch.begin(logits, steps)
        for step in range(1, limit):
            if step % LOOK_EVERY == 0 and bool(batch.over.all()):
                break
            replay()
        return batch.ended(limit)

    def _graph(self, steps: Steps, width: int) -> "tuple[_Batch, Step]":
        key = (len(steps.uniforms), width, steps.temperature is None)
        if key not in self._recorded:
            batch = _Batch(self._parts, self._device, self._ends, *key, steps.cache)
            self._recorded[key] = batch, self.record(batch.advance, self._device.place)
        self._recorded.move_to_end(key)
        while len(self._recorded) > GRAPHS:
            self._recorded.popitem(last=False)
        return self._recorded[key]


def recorded(step: Step, place: torch.device) -> Step:
    """`step`, which is run three times, as a CUDA graph: calling what comes back replays it."""
    with torch.cuda.device(place):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # libraries allocate and choose on their first calls, which cannot be recorded
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    return graph.replay


class _Batch:
    """A fixed number of rows and slots, in tensors that stay where they are, so that its step can be recorded."""

    def __init__(
        self,
        parts: Parts,
        device: Device,
        ends: torch.Tensor,
        rows: int,
        width: int,
        greedy: bool,
        like: KeyValues,
    ) -> None:
        place = ends.device
        self._parts, self._device, self._ends, self._greedy = parts, device, ends, greedy
        self._cache = like.repeated(1, width)
        self._cache.slot = torch.zeros(1, dtype=torch.long, device=place)
        self._token = torch.zeros(rows, dtype=torch.long, device=place)
        self._mask = torch.ones(rows, width, dtype=torch.bool, device=place)
        self._position = torch.zeros(rows, dtype=torch.long, device=place)
        self._step = torch.zeros(1, dtype=torch.long, device=place)
        self._uniforms = torch.zeros(rows, width, device=place)
        self._temperature = torch.ones((), device=place)
        self._tokens = torch.zeros(rows, width, dtype=torch.long, device=place)
        self._logprobs = torch.zeros(rows, width, device=place)
        self._lengths = torch.zeros(rows, dtype=torch.long, device=place)
        self.over = torch.zeros(rows, dtype=torch.bool, device=place)
        """Rows that have ended by themselves."""

    def begin(self, logits: torch.Tensor, steps: Steps) -> None:
        """Take over a batch, and draw its first token from `logits`."""
        limit = steps.uniforms.shape[1]
        used = steps.cache.used
        self._cache.load(steps.cache)
        assert self._cache.slot is not None
        self._cache.slot.fill_(used)
        self._mask.zero_()
        self._mask[:, :used] = steps.mask[:, :used]
        self._position.copy_(steps.positions)
        self._step.zero_()
        self._uniforms[:, :limit] = steps.uniforms
        self._temperature.fill_(steps.temperature or 1.0)
        self._lengths.zero_()
        self.over.zero_()
        self._draw(logits)

    def ended(self, limit: int) -> Ended:
        return self._tokens[:, :limit], self._logprobs[:, :limit], self._lengths.clamp(max=limit), self.over

    def advance(self) -> None:
        """The step; after `begin`, as often as there are tokens to come."""
        assert self._cache.slot is not None
        self._mask.index_fill_(1, self._cache.slot, True)
        seen = self._mask[:, None, None, :]
        # Converted weights are not kept between operations: a graph that kept them would go on with old ones.
        with self._device.autocast(keep_converted=False):
            hidden = self._parts.hidden(self._token[:, None], seen, self._position[:, None], self._cache)
            logits = self._parts.logits(hidden[:, -1])
        self._cache.slot.add_(1)
        self._position.add_(1)
        self._draw(logits)

    def _draw(self, logits: torch.Tensor) -> None:
        uniforms = self._uniforms.index_select(1, self._step).squeeze(1)
        chosen, logprobs = choose(logits, None if self._greedy else self._temperature, uniforms)
        self._tokens.index_copy_(1, self._step, chosen[:, None])
        self._logprobs.index_copy_(1, self._step, logprobs[:, None])
        self._lengths.add_((~self.over).long())
        self.over.logical_or_((chosen[:, None] == self._ends).any(dim=1))
        self._token.copy_(chosen)
        self._step.add_(1)


def choose(
    logits: torch.Tensor, temperature: torch.Tensor | float | None, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The chosen token and its log-probability per row; `uniforms`, in [0, 1), pick it by inverting the CDF."""
    if temperature is None:
        logprobs = torch.log_softmax(logits, dim=-1)
        chosen = logits.argmax(dim=-1)
    else:
        logprobs = torch.log_softmax(logits / temperature, dim=-1)
        cumulated = logprobs.exp().cumsum(dim=-1)
        # Scaled by the last sum, and kept below it, so that rounding cannot point past the last possible token.
        targets = uniforms[:, None].clamp(max=1 - 1e-6) * cumulated[:, -1:]
        chosen = torch.searchsorted(cumulated, targets, right=True).squeeze(1)
    return chosen, logprobs.gather(1, chosen[:, None]).squeeze(1)
