"""compile's arguments, their defaults and their documentation."""

import inspect
import re

import keras
import pytest
from agad_cases import make
from docstrings import documented

from agad_tf import AGAD
from agad_tf.errors import InputError
from agad_tf.losses import agad as losses
from agad_tf.models.agad import LITERAL
from agad_tf.models.detector import AnomalyDetector


def test_literal_sets_the_documented_stabilisers_and_nothing_else():
    stabilisers = {name for name, text in documented(AGAD.compile).items() if text.startswith("stabiliser:")}
    assert stabilisers == set(LITERAL)
    model = make()
    usual = dict(model.settings)
    assert [model.choose_score(some) for some in (True, False)] == ["fused", "reconstruction"]
    model.compile(literal=True)
    changed = {name: value for name, value in model.settings.items() if value != usual[name]}
    off = {"reciprocal_epsilon": 0.0, "clip_norm": None, "average_epochs": 0.0, "guard": False}
    assert changed == off | {"reestimate_batch_norm": False, "literal": True}
    assert model.settings["discriminator_sees_anomaly_reconstructions"] is False
    # The paper scores with the reconstruction error alone.
    assert {model.choose_score(some) for some in (True, False)} == {"reconstruction"}
    model.compile(literal=True, discriminator_sees_anomaly_reconstructions=True, clip_norm=3.0)
    assert {name: model.settings[name] for name in LITERAL} == LITERAL


def test_defaults_of_the_paper():
    defaults = {name: p.default for name, p in inspect.signature(AGAD.compile).parameters.items()}
    assert defaults["learning_rate"] == 2e-4
    names = ("adversarial_weight", "contextual_weight", "contextual_adversarial_weight", "latent_weight")
    assert [defaults[name] for name in names] == [1, 50, 15, 5]
    fit = inspect.signature(AGAD.fit).parameters
    assert (fit["batch_size"].default, fit["min_anomalies"].default) == (256, 32)
    model = make()
    assert type(model.optimizer) is type(model.discriminator_optimizer) is keras.optimizers.Adam
    for optimizer in (model.optimizer, model.discriminator_optimizer):
        assert float(optimizer.learning_rate) == pytest.approx(2e-4)
        assert optimizer.beta_1 == 0.5


@pytest.mark.parametrize(
    "function", [AGAD.__init__, AGAD.compile, AGAD.fit, AnomalyDetector.prepare_scoring, losses.latent_loss]
)
def test_documented_arguments_and_defaults_are_those_of_the_signature(function):
    text = documented(AGAD if function is AGAD.__init__ else function)
    parameters = inspect.signature(function).parameters
    taken = {n for n, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD} - {"self"}
    assert set(text) == taken
    for name, words in text.items():
        stated = re.search(r"(\S+) \(default\b", words) or re.search(
            r"[Dd]efaults? (?:is |to )?([^\s),;]+)", words
        )
        if stated:
            assert stated[1].strip("`,.\"'") == str(parameters[name].default), f"default of {name}"


@pytest.mark.parametrize(
    "name", ["latent_distance", "anomaly_contextual_pair", "group_weighting", "update_order"]
)
def test_unknown_settings(name):
    model = make()
    with pytest.raises(InputError, match=f"{name} expects one of .*, received 'other'"):
        model.compile(**{name: "other"})


def test_jit_compile_is_no_word_but_auto():
    model = make()
    for value in ("on", "off", None):
        with pytest.raises(InputError, match="jit_compile expects True, False or 'auto'"):
            model.compile(jit_compile=value)


@pytest.mark.parametrize("setting", ["learning_rate", "contextual_weight", "average_epochs"])
def test_none_where_a_number_is_needed_is_refused(setting):
    with pytest.raises(InputError, match=f"{setting} expects a number of at least 0, received None"):
        make(compile_with={setting: None})
