"""What the stores' figures say of growth, and which targets they are held to."""

from __future__ import annotations

from bench.machine import describe
from bench.plans import Window
from bench.report import short_of
from bench.storage.figures import figures, growth, markdown, missed, size_name, targets
from bench.storage.timing import POD, STORE


def window(latency_us: int, calls: int = 100, pod_s: float = 0.01) -> Window:
    return Window(1.0, calls, calls, 0, {POD: pod_s, STORE: 0.02}, 0.0, latencies_us=[latency_us] * calls)


def measured(small_us: int, large_us: int) -> dict[str, object]:
    results = figures("sqlite_1e4_newest_page", [window(small_us)], rates=False)
    return results | figures("sqlite_1e7_newest_page", [window(large_us)], rates=False)


def test_what_is_read_in_proportion_to_the_log_misses_the_target_of_growth() -> None:
    sizes = [10_000, 10_000_000]
    for large_us, is_missed in ((900, False), (5_000, True)):
        results = measured(500, large_us)
        results |= growth(results, "sqlite", sizes)
        wanted = targets(results, "sqlite", sizes)
        assert ("sqlite_newest_page_growth" in short_of(results, wanted)) is is_missed


def test_cpu_is_told_apart_and_rates_are_per_second_of_the_pods() -> None:
    found = figures("postgres_1e4_append_64x1", [window(1_000)], rates=True)
    assert (found["postgres_1e4_append_64x1_pod_us"], found["postgres_1e4_append_64x1_store_us"]) == (
        100,
        200,
    )
    assert found["postgres_1e4_append_64x1_per_cpu_s"] == 10_000


def test_a_target_without_a_figure_is_missed() -> None:
    assert "postgres_1e7_sync_p99_ms" in short_of({}, targets({}, "postgres", [10_000, 10_000_000]))


def test_of_a_part_only_what_was_measured_can_be_missed() -> None:
    sizes = [10_000, 10_000_000]
    results = measured(500, 5_000) | growth(measured(500, 5_000), "sqlite", sizes)
    wanted = targets(results, "sqlite", sizes)
    assert missed(results, wanted, is_part=True) == ["sqlite_newest_page_growth"]
    assert set(missed(results, wanted, is_part=False)) > {"sqlite_newest_page_growth", "sqlite_plan_faults"}


def test_stores_and_sizes_stand_side_by_side() -> None:
    results = measured(500, 900) | {"machine": describe()}
    assert "| newest_page | 0.5 / 0.5 | 0.9 / 0.9 |" in markdown(results)


def test_sizes_are_told_short() -> None:
    assert [size_name(size) for size in (10_000, 2_500_000, 123)] == ["1e4", "25e5", "123"]
