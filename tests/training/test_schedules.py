"""Learning rates at known steps, by hand."""

from __future__ import annotations

import pytest

from tfkd.config import TrainingConfig
from tfkd.training.schedules import learning_rate_schedule


def test_exponential_decays_by_epoch():
    training = TrainingConfig(
        epochs=4, learning_rate=2e-4, schedule="exponential", epoch_decay=0.99
    )
    rate = learning_rate_schedule(training, total_steps=40)
    assert [float(rate(step)) for step in (0, 9, 10, 19, 39)] == pytest.approx(
        [2e-4, 2e-4, 2e-4 * 0.99, 2e-4 * 0.99, 2e-4 * 0.99**3]
    )


def test_cosine_warms_up_and_ends_at_the_final_rate():
    training = TrainingConfig(learning_rate=1e-3, final_learning_rate=1e-5, warmup_steps=10)
    rate = learning_rate_schedule(training, total_steps=110)
    assert float(rate(0)) == pytest.approx(1e-5)
    assert float(rate(10)) == pytest.approx(1e-3)
    assert float(rate(60)) == pytest.approx((1e-3 + 1e-5) / 2)
    assert float(rate(110)) == pytest.approx(1e-5)
