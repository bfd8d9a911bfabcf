"""Whatever bytes come in, tfkd reads them or refuses them with a typed error, and soon."""

from __future__ import annotations

import pytest
import watchdog
from proof import SEED, Proof

TARGETS = [
    "mutated_audio",
    "mutated_containers",
    "mutated_manifests",
    "mutated_records",
    "mutated_configs",
    "mutated_nbest",
    "mutated_language_models",
    "mutated_stores",
    "mutated_tflite",
]


# Kinds of files among which a target chooses: 20,000 cases of each.
KINDS = {"mutated_containers": 10}
# Fewer of what starts a process for each case: with small counts, and with the full ones.
FEWER = {"mutated_tflite": (12, 2_000)}


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_input_is_read_or_refused(target: str, proof: Proof) -> None:
    fast, full = FEWER.get(target, (300, 20_000 * KINDS.get(target, 1)))
    count = proof.count(fast=fast, full=full)
    outcome = watchdog.run_cases(target, count, SEED)
    assert outcome.findings == []
    assert outcome.results.total() == count
    # A target that reads everything, or nothing, tests nothing.
    assert 0 < outcome.results["read"] < count
    proof.report(target, cases=count, **outcome.results)


def test_the_watchdog_sees_crashes_hangs_and_untyped_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "BUSY_SECONDS", 0.5)
    monkeypatch.setattr(watchdog, "ASLEEP_SECONDS", 2.0)
    outcome = watchdog.run_cases("failing_target", 16, SEED)
    assert outcome.results.total() + len(outcome.findings) == 16
    assert set(outcome.results) == {"read", "TfkdError"}
    found = {
        finding.partition(": ")[2].partition(" (")[0].partition(": sur")[0]
        for finding in outcome.findings
    }
    assert found == {
        "the process died, exit code -11",
        "asleep without end, twice",
        "busy without end, twice",
        "MemoryError: ",
        "ValueError: untyped",
        "UnicodeEncodeError: 'utf-8' codec can't encode character '\\udc80' in position 0",
    }
