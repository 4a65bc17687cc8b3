"""Metrics against values worked out by hand, scikit-learn and brute force; intervals by simulation."""

import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from agad_tf.errors import InputError
from agad_tf.evaluation import intervals, metrics
from agad_tf.evaluation.summary import summarise


def _scores(seed, n=60, m=25, shift=1.0, decimals=None):
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(size=n), rng.normal(shift, 1.3, size=m)])
    labels = np.repeat([0, 1], [n, m])
    order = rng.permutation(n + m)
    return labels[order], scores[order] if decimals is None else scores[order].round(decimals)


def _one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# --- point values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [1, 2, 3, 4], 1.0),
        ([0, 0, 1, 1], [4, 3, 2, 1], 0.0),
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),  # three of four pairs in order
        ([0, 1], [5, 5], 0.5),  # a tie counts half
        ([0, 0, 1, 1], [1, 2, 2, 3], 0.875),  # (1 + .5 + 1 + 1) / 4
        ([0, 0, 0, 1], [7, 7, 7, 7], 0.5),
    ],
)
def test_auroc_by_hand(labels, scores, expected):
    assert metrics.auroc(labels, scores) == pytest.approx(expected, abs=1e-15)


def test_auroc_is_the_share_of_ordered_pairs():
    labels, scores = _scores(0, decimals=1)
    pairs = [(a > n) + 0.5 * (a == n) for a, n in itertools.product(scores[labels == 1], scores[labels == 0])]
    assert metrics.auroc(labels, scores) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_average_precision_by_hand():
    # Falling scores meet 1 0 1 1 0: precisions 1, 2/3, 3/4 at the three anomalies.
    found = metrics.average_precision([1, 0, 1, 1, 0], [5, 4, 3, 2, 1])
    assert found == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_sweep_equals_scikit_learn(decimals):
    labels, scores = _scores(1, decimals=decimals)
    sweep = metrics._sweep(labels.astype(bool), scores)
    assert sweep.average_precision() == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    for limit in (0.01, 0.05, 0.3, 0.9):
        assert metrics.tpr_at_fpr(labels, scores, limit) == tpr[fpr <= limit].max()
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert metrics.best_f1(labels, scores)[0] == pytest.approx(f1.max(), abs=1e-12)


def test_tpr_at_fpr_by_hand():
    labels = [0] * 10 + [1] * 4
    scores = [*list(range(10)), 20, 9, 8.5, 0]
    assert metrics.tpr_at_fpr(labels, scores, 0.05) == 0.25  # the normal at 9 ties with an anomaly
    assert metrics.tpr_at_fpr(labels, scores, 0.1) == 0.75  # exactly one normal in ten is allowed
    assert metrics.tpr_at_fpr([0, 1], [1, 0], 0.5) == 0.0


def test_tpr_at_fpr_does_not_lose_a_sample_to_rounding():
    scores = np.concatenate([np.arange(100), [70.5]])
    labels = np.repeat([0, 1], [100, 1])
    assert 0.29 * 100 < 29  # why a plain floor would allow 28
    assert metrics.tpr_at_fpr(labels, scores, 0.29) == 1.0


def test_best_f1_by_hand():
    f1, threshold = metrics.best_f1([0, 0, 1, 0, 1], [1, 2, 3, 4, 5])
    assert f1 == pytest.approx(0.8)  # flag 3, 4, 5: two of two found, one false alarm
    assert threshold == 2.5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [None, 0])
def test_best_f1_threshold_gives_that_f1_with_the_strict_rule(seed, decimals):
    labels, scores = _scores(seed, decimals=decimals)
    f1, threshold = metrics.best_f1(labels, scores)
    flagged = scores > threshold
    found = np.sum(flagged & (labels == 1))
    assert 2 * found / (flagged.sum() + labels.sum()) == pytest.approx(f1, abs=1e-12)


def test_best_f1_that_flags_everything_survives_float32():
    labels, scores = [1, 0, 1, 1], np.float32([1e6, 2e6, 3e6, 4e6])
    f1, threshold = metrics.best_f1(labels, scores)
    assert f1 == pytest.approx(6 / 7)
    assert np.all(scores > np.float32(threshold))


@pytest.mark.parametrize("low", [1.0, np.nextafter(1.0, 2.0)])  # the middle is rounded down, then up
def test_threshold_between_neighbouring_floats(low):
    high = np.nextafter(low, 2.0)
    threshold = metrics.threshold_below(high, np.array([low, high]))
    assert low <= threshold < high


def test_known_and_unseen_classes():
    labels = [0, 0, 1, 1, 1, 1]
    scores = [1, 2, 3, 4, 0, 1.5]
    classes = [8, 8, 3, 3, 5, 6]
    assert metrics.known_unseen_auroc(labels, scores, classes, (3,)) == (1.0, 0.25)
    assert metrics.known_unseen_auroc(labels, scores, classes, ()) == (None, metrics.auroc(labels, scores))
    all_known = metrics.known_unseen_auroc(labels, scores, classes, (3, 5, 6))
    assert all_known == (metrics.auroc(labels, scores), None)


# --- intervals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [None, 1, 0])
def test_delong_equals_brute_force_placement_values(decimals):
    labels, scores = _scores(3, decimals=decimals)
    anomalies, normals = scores[labels == 1], scores[labels == 0]
    psi = (anomalies[:, None] > normals) + 0.5 * (anomalies[:, None] == normals)
    expected = psi.mean(1).var(ddof=1) / anomalies.size + psi.mean(0).var(ddof=1) / normals.size
    assert intervals.delong_variance(labels, scores) == pytest.approx(expected, rel=1e-10)


def test_auroc_interval_is_delong_on_the_logit_scale():
    labels, scores = _scores(4)
    area = roc_auc_score(labels, scores)
    half = 1.959964 * math.sqrt(intervals.delong_variance(labels, scores)) / (area * (1 - area))
    low, high = intervals.auroc_interval(labels, scores)
    assert math.log(low / (1 - low)) == pytest.approx(math.log(area / (1 - area)) - half, abs=1e-5)
    assert math.log(high / (1 - high)) == pytest.approx(math.log(area / (1 - area)) + half, abs=1e-5)


def test_auroc_interval_at_complete_separation():
    low, high = intervals.auroc_interval([0] * 10 + [1] * 4, range(14))
    assert (low, high) == (pytest.approx(0.025**0.25), 1.0)
    low, high = intervals.auroc_interval([1] * 4 + [0] * 10, range(14))
    assert (low, high) == (0.0, pytest.approx(1 - 0.025**0.25))


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        ([0, 0, 0, 1], [1, 2, 3, 2.5]),  # one anomaly: no variance between anomalies
        ([0, 0, 1, 1], [1, 1, 1, 1]),  # all tied: DeLong's variance is 0
    ],
)
def test_auroc_interval_where_delong_has_no_variance_is_wide(labels, scores):
    low, high = intervals.auroc_interval(labels, scores)
    assert 0 < low < metrics.auroc(labels, scores) < high < 1
    assert high - low > 0.5


def test_auroc_interval_covers_the_true_value():
    rng = np.random.default_rng(5)
    true = stats.norm.cdf(1.2 / math.sqrt(2))  # two normal distributions 1.2 apart
    labels = np.repeat([0, 1], [60, 30])
    covered = []
    for _ in range(600):
        low, high = intervals.auroc_interval(labels, np.r_[rng.normal(size=60), rng.normal(1.2, 1, 30)])
        covered.append(low <= true <= high)
    assert 0.925 <= np.mean(covered) <= 0.98  # .95 with a standard error of .009


def test_separation_bound_is_not_too_narrow():
    # At the lower bound itself, complete separation must be as rare as the interval says.
    low, _ = intervals.auroc_interval([0, 0, 0, 0, 0, 1, 1, 1], range(8))
    shift = stats.norm.ppf(low) * math.sqrt(2)  # two normal distributions with AUROC `low`
    rng = np.random.default_rng(6)
    separated = rng.normal(shift, 1, (20_000, 3)).min(1) > rng.normal(size=(20_000, 5)).max(1)
    assert separated.mean() <= 0.025


def test_bootstrap_is_seeded_stratified_and_blind_to_row_order():
    labels, scores = _scores(7)
    first = intervals.bootstrap_intervals(labels, scores, draws=200, seed=1)
    assert first == intervals.bootstrap_intervals(labels[::-1], scores[::-1], draws=200, seed=1)
    assert first != intervals.bootstrap_intervals(labels, scores, draws=200, seed=2)
    assert set(first) == {"average_precision", "tpr_at_fpr_01", "tpr_at_fpr_05", "best_f1"}
    low, high = first["average_precision"]
    assert low < metrics.average_precision(labels, scores) < high
    # A constant score keeps the share of anomalies as its average precision only if draws are stratified.
    assert (
        intervals.bootstrap_intervals(labels, np.zeros(labels.size), draws=100)["average_precision"] is None
    )


def test_bootstrap_covers_the_average_precision():
    rng = np.random.default_rng(8)
    labels = np.repeat([0, 1], [80, 80])
    big = np.repeat([0, 1], 200_000)
    true = average_precision_score(big, rng.normal(size=big.size) + big)
    covered = []
    for _ in range(150):
        scores = rng.normal(size=160) + labels
        low, high = intervals.bootstrap_intervals(labels, scores, draws=200)["average_precision"]
        covered.append(low <= true <= high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_mean_interval_by_hand():
    mean, low, high, n = intervals.mean_interval([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # t with 2 degrees of freedom, standard deviation 1
    assert (mean, n) == (2.0, 3)
    assert (low, high) == (pytest.approx(2 - half, abs=1e-5), pytest.approx(2 + half, abs=1e-5))
    assert intervals.mean_interval([0.9]) == (0.9, None, None, 1)


# --- summary ------------------------------------------------------------------------------------------------


def test_summary_is_json_and_agrees_with_its_parts():
    labels, scores = _scores(9)
    classes = np.where(labels == 0, 8, np.arange(labels.size) % 3)
    summary = summarise(labels, scores, classes, (1,), draws=200)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["auroc"] == metrics.auroc(labels, scores)
    assert summary["auroc_interval"] == list(intervals.auroc_interval(labels, scores))
    assert (summary["best_f1"], summary["best_f1_threshold"]) == metrics.best_f1(labels, scores)
    assert (summary["n_normal"], summary["n_anomaly"]) == (60, 25)
    known, unseen = metrics.known_unseen_auroc(labels, scores, classes, [1])
    assert (summary["auroc_known"], summary["auroc_unseen"]) == (known, unseen)
    rows = (labels == 0) | (classes != 1)
    assert summary["auroc_unseen_interval"] == list(intervals.auroc_interval(labels[rows], scores[rows]))
    assert "DeLong" in summary["interval_method"]
    assert "200 draws" in summary["interval_method"]
    for name in ("average_precision", "tpr_at_fpr_01", "tpr_at_fpr_05", "best_f1", "auroc_known"):
        low, high = summary[f"{name}_interval"]
        assert 0 <= low <= high <= 1


def test_summary_without_classes_and_with_complete_separation():
    summary = summarise([0, 0, 0, 1, 1], [1, 2, 3, 4, 5], draws=100)
    assert summary["auroc"] == 1.0
    assert summary["auroc_interval"] == [pytest.approx(0.025**0.5), 1.0]
    assert summary["average_precision_interval"] is None
    assert summary["auroc_known"] is summary["auroc_unseen"] is summary["auroc_known_interval"] is None


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([0, 1, 2], [1, 2, 3], "labels 0 (normal) or 1 (anomaly), received 2"),
        ([0, 1], [1, 2, 3], "labels of shape (2,) and scores of shape (3,)"),
        ([[0, 1]], [[1, 2]], "shape (n,) with n >= 1, received shape (1, 2)"),
        ([], [], "received shape (0,)"),
        ([0, 1, 1], [1, np.nan, np.inf], "received 2 NaN or infinite (first at index 1)"),
        ([0, 1], ["a", "b"], "to be numbers"),
        (["a", "b"], [1, 2], "received 'a'"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        metrics.auroc,
        metrics.average_precision,
        metrics.best_f1,
        intervals.auroc_interval,
        intervals.delong_variance,
        intervals.bootstrap_intervals,
        summarise,
    ],
)
def test_bad_labels_and_scores(function, labels, scores, words):
    with pytest.raises(InputError) as error:
        function(labels, scores)
    assert words in _one_line(error)


@pytest.mark.parametrize(("kind", "words"), [(0, "2 normals (0) only"), (1, "2 anomalies (1) only")])
@pytest.mark.parametrize("function", [metrics.auroc, metrics.best_f1, intervals.auroc_interval])
def test_one_kind_alone_is_refused(function, kind, words):
    with pytest.raises(InputError) as error:
        function([kind, kind], [1, 2])
    assert f"AUROC needs both normals and anomalies, received {words}" in _one_line(error)


@pytest.mark.parametrize("kind", [0, 1])
def test_the_summary_of_one_kind_says_what_is_not_known(kind):
    of_both = summarise([0, 0, 1, 1], [1, 2, 3, 4], [0, 0, 1, 2], (1,), draws=100)
    of_one = summarise([kind, kind], [1, 2], [kind, kind], (1,))
    assert of_one.keys() == of_both.keys()
    known = {name: value for name, value in of_one.items() if value is not None}
    assert known == {"n_normal": 2 * (1 - kind), "n_anomaly": 2 * kind}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.tpr_at_fpr([0, 1], [0, 1], 0), "fpr above 0 and below 1, received 0"),
        (lambda: intervals.auroc_interval([0, 1], [0, 1], 95), "confidence above 0 and below 1, received 95"),
        (
            lambda: intervals.delong_variance([0, 0, 1], [0, 1, 2]),
            "2 normals and 2 anomalies, received 2 and 1",
        ),
        (lambda: intervals.bootstrap_intervals([0, 1], [0, 1], draws=5), "at least 100 bootstrap draws"),
        (lambda: intervals.mean_interval([]), "values of shape (n,)"),
        (lambda: intervals.mean_interval([1, math.nan]), "finite values, received 1"),
        (lambda: metrics.known_unseen_auroc([0, 1], [0, 1], [8], (1,)), "received classes of shape (1,)"),
        (
            lambda: metrics.known_unseen_auroc([0, 1], [0, 1], [8, 1], (8,)),
            "class 8, which has samples labelled",
        ),
    ],
)
def test_bad_arguments(call, words):
    with pytest.raises(InputError) as error:
        call()
    assert words in _one_line(error)


# --- what is not loaded -------------------------------------------------------------------------------------


def test_metrics_and_thresholds_do_not_load_tensorflow():
    code = (
        "import sys, agad_tf.evaluation.summary as m, agad_tf.evaluation.pixel_metrics\n"
        "import agad_tf.evaluation.thresholds as t, agad_tf.evaluation.heatmaps\n"
        "m.summarise([0, 0, 1, 1], [1, 2, 3, 4], draws=100); t.calibrate(range(30))\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'keras', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
