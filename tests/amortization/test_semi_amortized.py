"""Semi-amortized inference: fine-tuning on one query makes a better proposal for it."""

import pytest

from tests.helpers.amortization import QUERIES, TEXTS, WORLD, learner, train
from tests.helpers.tiny import tiny
from textdiff.amortization import SemiAmortized, Task, TrajectoryBalance
from textdiff.errors import UserError
from textdiff.inference import Importance
from textdiff.worlds import table


@pytest.mark.slow
def test_fine_tuning_on_one_query_raises_its_effective_sample_size() -> None:
    """The prior has learnt that all texts are equally likely; the target is a world in which they are not."""
    prior = learner(4)
    train(Task(prior, table(dict.fromkeys(TEXTS, 1.0), WORLD.tokenizer)), TrajectoryBalance(8), 100)
    posterior = prior.given(QUERIES[0].canvas, target=WORLD)
    methods = Importance(), SemiAmortized(60, 16, lr=1e-2)
    runs = [[posterior.sample(64, method, generator=seed) for method in methods] for seed in range(3)]
    plain, refined = runs[0]
    assert sum(after.ess for _, after in runs) > 1.5 * sum(before.ess for before, _ in runs), (
        "one run varies, 0.7 to 3.7"
    )
    assert refined.log_evidence == pytest.approx(float(WORLD.log_evidence(QUERIES[0].canvas)), abs=0.3)
    assert int(refined.nfe[0]) > int(plain.nfe[0]) + 30
    assert not [name for name, _ in prior.network.named_parameters() if "lora" in name]
    with pytest.raises(UserError, match="nothing to refine"):
        tiny(WORLD.tokenizer, causal=True).given(QUERIES[1].canvas, target=WORLD).sample(2, SemiAmortized())
