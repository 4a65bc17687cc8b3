"""What AGAD's fit makes of its data, and what it refuses, each in one line."""

import numpy as np
import pytest
import tensorflow as tf
from agad_cases import batch, make, photographs

from agad_tf import AGAD, quota_batches
from agad_tf.errors import InputError
from agad_tf.models.batches import TrainingBatches, with_known_labels
from agad_tf.models.inputs import fitting_batch_size
from agad_tf.models.loop import Position

NORMALS, ANOMALIES = photographs(24), photographs(4, seed=1)
X, Y = np.concatenate([NORMALS, ANOMALIES]), np.repeat([0, 1], [24, 4])


# -- what fit does with the data -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("normals", "anomalies", "batch_size", "min_anomalies", "expected"),
    [
        (6000, 0, 256, 32, 256),
        (6000, 100, 256, 32, 256),
        (100, 0, 256, 32, 100),
        (100, 5, 256, 32, 132),  # a hundred normals and the quota
        (10, 1000, 256, 32, 256),  # the share of anomalies leaves three places for normals
        (24, 4, 16, 32, 16),  # cannot be had: said by quota_batches, not changed in silence
    ],
)
def test_batch_size_shrinks_to_the_normals_there_are(normals, anomalies, batch_size, min_anomalies, expected):
    assert fitting_batch_size(normals, anomalies, batch_size, min_anomalies) == expected


def test_fit_takes_a_repeated_dataset_without_labels():
    model = make(compile_with={"run_eagerly": True})
    dataset = tf.data.Dataset.from_tensor_slices(NORMALS).batch(8).repeat()  # never ends
    history = model.fit(dataset, steps_per_epoch=1, verbose=0).history
    assert model.score == "reconstruction"
    assert history["loss_anomaly"] == [0.0]
    with pytest.raises(InputError, match="pass steps_per_epoch"):
        model.fit(dataset, verbose=0)


# -- what it refuses -----------------------------------------------------------------------------------------

NAN, INFINITE = np.zeros((2, 8, 8, 1), "float32"), np.zeros((2, 8, 8, 1), "float32")
NAN[1, 2, 3], INFINITE[0, 0, 0] = np.nan, np.inf

BAD_SAMPLES = [
    (NAN, "finite values, received NaN or infinity"),
    (INFINITE, "finite values, received NaN or infinity"),
    (
        np.full((2, 8, 8, 1), 255.0),
        r"float images in \[-1, 1\], received 255 to 255: rescale them or pass uint8",
    ),
    (np.zeros((2, 8, 8, 1), "int64"), "uint8 or float images, received int64: convert them"),
    (np.zeros((2, 8, 8, 3), "uint8"), r"images \(n, height, width, 1\), received shape \(2, 8, 8, 3\)"),
    (np.zeros((2, 64), "float32"), r"received shape \(2, 64\)"),
    (np.zeros((2, 16, 16, 1), "float32"), "float images of 8x8, received 16x16: resize them or pass uint8"),
    (np.zeros((2, 8, 8, 1), bool), "received bool"),
]


def one_line(error):
    return "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:the scoring networks were not prepared")  # nothing is trained here
@pytest.mark.parametrize(("x", "words"), BAD_SAMPLES)
def test_bad_samples_are_refused_everywhere(x, words):
    model = make()
    calls = [
        lambda: model.fit(x, np.zeros(len(x)), verbose=0),
        lambda: model.predict(x, verbose=0),
        lambda: model.evaluate(x, np.zeros(len(x)), verbose=0),
        lambda: model.prepare_scoring(x),
        lambda: model.fit(X, Y, batch_size=16, min_anomalies=4, validation_data=(x, np.zeros(len(x)))),
        lambda: model.fit(tf.data.Dataset.from_tensor_slices(x).batch(2), verbose=0),
    ]
    for call in calls:
        with pytest.raises(InputError, match=words) as error:
            call()
        assert one_line(error)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"y": np.full(28, 2)}, r"0 \(normal\) and 1 \(anomaly\), received \[2\]: map the labels"),
        ({"y": np.full(28, np.nan)}, "map the labels"),
        ({"y": np.array(["normal"] * 28)}, "map the labels"),
        ({"y": Y[:5]}, "received 5 for 28 samples"),
        ({"y": np.ones(28)}, "normal samples .label 0., received none"),
        ({"x": X[:0], "y": Y[:0]}, "received none"),
        ({"batch_size": 16}, "fewer anomalies than the batch size 16, received a quota of 32"),
        ({"sample_weight": np.ones(28)}, "received sample_weight: min_anomalies says"),
        ({"validation_data": X}, "validation_data expects arrays .x, y. or a dataset, received ndarray"),
        ({"validation_data": (X, Y, Y)}, "received tuple of 3"),
    ],
)
def test_bad_arguments_of_fit(arguments, words):
    with pytest.raises(InputError, match=words) as error:
        make().fit(**{"x": X, "y": Y, "verbose": 0} | arguments)
    assert one_line(error)


def test_labels_inside_a_dataset_are_checked():
    dataset = tf.data.Dataset.from_tensor_slices((X, np.where(Y == 1, 2, 0))).batch(7)
    with pytest.raises(InputError, match=r"received \[0, 2\]: map the labels"):
        make().fit(dataset, verbose=0)
    # Images are looked through only as far as scoring needs them: what comes later stops the training.
    checked = iter(with_known_labels(tf.data.Dataset.from_tensor_slices((X, Y)).batch(14)))
    next(checked)
    wrong = with_known_labels(tf.data.Dataset.from_tensors((X, np.where(Y == 1, 2, 0))))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"y expects 0 .normal. and 1 .anomaly."):
        next(iter(wrong))


def test_one_image_is_not_taken_for_a_batch():
    with pytest.raises(InputError, match=r"received one image \(8, 8, 1\): give x\[None\]"):
        make().predict(X[0], verbose=0)


def test_batches_of_one_worker_are_completed():
    y = np.repeat([0, 1], [24, 4])
    share = quota_batches(X[y == 0], X[y == 1], 8, 2, workers=2, worker=1)
    whole = quota_batches(X[y == 0], X[y == 1], 8, 2)
    batches = TrainingBatches(share, None)
    assert batches.identity() == TrainingBatches(whole, None).identity()
    for workers, worker in ((1, 0), (2, 0), (2, 1)):
        expected = quota_batches(X[y == 0], X[y == 1], 8, 2, workers=workers, worker=worker)
        for mine, theirs in zip(
            batches.stream(Position(), workers, worker).take(2), expected.stream().take(2), strict=True
        ):
            np.testing.assert_array_equal(mine[0], theirs[0])
            np.testing.assert_array_equal(mine[1], theirs[1])


def test_labels_inside_and_beside_a_dataset():
    with pytest.raises(InputError, match="received y beside it: leave y out"):
        make().fit(tf.data.Dataset.from_tensors((X, Y)), Y, verbose=0)


def test_nothing_to_score():
    model = make()
    for call in (lambda: model.predict(X[:0]), lambda: model.prepare_scoring(X[:0])):
        with pytest.raises(InputError, match="at least one sample, received none") as error:
            call()
        assert one_line(error)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (28, 28, 1), "backbone": "unet"}, "multiples of 16, received 28x28"),
        ({"input_shape": (28, 28, 1)}, "unet_plus_plus expects height and width in multiples of 16"),
        ({"input_shape": (8, 8, 2), "backbone": "encoder_decoder"}, "received 2: convert the images"),
        ({"input_shape": 32}, "input_shape expects whole numbers, for instance .32, 32, 1., received 32"),
        ({"input_shape": (32, 32)}, r"\(height, width, channels\), or \(features,\) .* received \(32, 32\)"),
        ({"backbone": "resnet"}, "unet_plus_plus, a Keras model or a registered class, received 'resnet'"),
        ({"bn_strategy": "group"}, "one of shared, adv_prop, freeze, adv_prop_freeze, received 'group'"),
        ({"score": "auroc"}, "one of auto, fused, reconstruction, discriminator, local, received 'auroc'"),
    ],
)
def test_bad_arguments_of_the_constructor(arguments, words):
    with pytest.raises(InputError, match=words) as error:
        AGAD(**{"input_shape": (16, 16, 1)} | arguments)
    assert one_line(error)


def test_sample_weights_in_a_training_step():
    with pytest.raises(InputError, match="sample weights beside them: leave them out"):
        make().train_step((*batch([0, 1]), np.ones(2)))


def test_quota_batches_of_the_package_is_that_of_fit():
    batches = quota_batches(NORMALS, ANOMALIES, 16, 4)
    x, y = next(iter(batches))
    assert (x.shape, int(tf.reduce_sum(y))) == ((16, 8, 8, 1), 4)


@pytest.mark.parametrize(
    "nonsense",
    [{"clip_norm": 0.0}, {"clip_norm": -1.0}, {"reciprocal_epsilon": -0.1}, {"average_epochs": -1.0},
     {"latent_weight": -5.0}, {"learning_rate": float("nan")}, {"discriminator_reset_threshold": -1e-5}],
)  # fmt: skip
def test_nonsense_in_compile(nonsense):
    with pytest.raises(InputError, match=f"{next(iter(nonsense))} expects a number") as error:
        make().compile(**nonsense)
    assert one_line(error)
