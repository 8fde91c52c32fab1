"""Named random streams."""

from __future__ import annotations

import torch

from psdbench.streams import Streams, randn


def test_a_stream_does_not_depend_on_the_others() -> None:
    alone, busy = Streams(7), Streams(7)
    randn((100,), busy["pair_noise"])
    randn((3,), busy["method"])
    assert torch.equal(randn((5,), alone["noise"]), randn((5,), busy["noise"]))


def test_streams_differ_by_name_and_by_seed() -> None:
    draws = [
        randn((8,), Streams(seed)[name]) for seed in (0, 1) for name in ("noise", "pair_noise", "cameras")
    ]
    assert len({tuple(d.tolist()) for d in draws}) == 6


def test_numbers_stay_what_they_were() -> None:
    """A change here would silently give every job other results under the same id."""
    drawn = torch.randint(1_000_000, (3,), generator=Streams(0)["timesteps"])
    assert drawn.tolist() == [689593, 422805, 675984]


def test_state_round_trip_continues_and_forgets_what_was_not_stored() -> None:
    streams = Streams(3)
    randn((5,), streams["noise"])
    state = streams.state_dict()
    expected = randn((4,), streams["noise"])

    other = Streams(3)
    randn((9,), other["noise"])
    randn((9,), other["lora"])
    other.load_state_dict(state)
    assert torch.equal(randn((4,), other["noise"]), expected)
    assert torch.equal(randn((4,), other["lora"]), randn((4,), Streams(3)["lora"]))
    assert all(t.dtype == torch.uint8 for t in state.values())


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    randn((5,), Streams(0)["noise"])
    assert torch.equal(before, torch.get_rng_state())
