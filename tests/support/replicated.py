"""Steps on two replicas, held against one."""

import numpy as np
import pytest
import tensorflow as tf


def shared(strategy, parts):
    """A value of which each replica has one part."""
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )


def check_step(strategy, model, x, y, logs, **tolerance):
    """One train_step on a batch in two halves logs on each replica what one replica logged."""
    halves = shared(strategy, np.split(x, 2)), shared(strategy, np.split(y, 2))
    replicated = strategy.run(model.train_step, args=(halves,))
    for name, value in logs.items():
        for copy in strategy.experimental_local_results(replicated[name]):
            assert float(copy) == pytest.approx(value, **tolerance), name


def check_variables(strategy, one, two, tolerance=1e-9):
    """Every replica's copies of variables equal those of one replica."""
    for alone, both in zip(one, two, strict=True):
        for copy in strategy.experimental_local_results(both.value):
            np.testing.assert_allclose(
                copy, np.array(alone), rtol=tolerance, atol=tolerance, err_msg=alone.path
            )
