"""What the latency figures make of the seconds of a run."""

from __future__ import annotations

from bench.plans import Window, merged, middle_percentile_ms, undisturbed

USUAL_US = sorted([2_000] * 90 + [8_000] * 10)
PAUSED_US = sorted([2_000] * 60 + [90_000] * 40)


def second(latencies_us: list[int], stolen_share: float = 0.0) -> Window:
    return Window(1.0, 100, 1, 0, {1: 0.8}, 0.5, latencies_us=latencies_us, stolen_share=stolen_share)


def test_one_second_with_a_pause_does_not_decide_but_shows_in_the_whole() -> None:
    seconds = [second(USUAL_US), second(PAUSED_US), second(USUAL_US)]
    assert middle_percentile_ms(seconds, 0.99) == 8.0
    assert merged(seconds).percentile_ms(0.99) == 90.0


def test_what_comes_again_in_most_seconds_decides() -> None:
    seconds = [second(PAUSED_US), second(PAUSED_US), second(USUAL_US)]
    assert middle_percentile_ms(seconds, 0.99) == 90.0


def test_seconds_in_which_the_host_took_the_cpu_are_left_out() -> None:
    calm, stolen = second(USUAL_US), second(PAUSED_US, stolen_share=0.2)
    assert undisturbed([stolen, calm, stolen]) == [calm]


def test_without_a_calm_second_the_better_half_is_kept() -> None:
    seconds = [second(USUAL_US, share) for share in (0.5, 0.1, 0.3)]
    assert [each.stolen_share for each in undisturbed(seconds)] == [0.1, 0.3]
