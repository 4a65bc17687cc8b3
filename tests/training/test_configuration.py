"""Settings by name become what the signature of a detector says they are."""

import pytest

from agad_tf.errors import InputError
from agad_tf.training.configuration import configure


@pytest.mark.parametrize(
    ("given", "kept"), [("5e-3", 0.005), (0.01, 0.01), ("auto", "auto"), (None, None), ("all", "all")]
)
def test_a_number_beside_words_is_a_number(given, kept):
    """YAML 1.1 takes 5e-3 for text; what is no number stays text, and the detector judges it."""
    assert configure("agad", settings=[("score_share", given)])["model"]["score_share"] == kept


def test_text_where_a_number_is_needed_is_refused():
    assert configure("agad", settings=[("learning_rate", "1e-3")])["compile"]["learning_rate"] == 0.001
    with pytest.raises(InputError, match="setting learning_rate expects a number, received 'fast'"):
        configure("agad", settings=[("learning_rate", "fast")])
