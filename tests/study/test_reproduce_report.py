"""The report: figures, differences, what is missing; the committed one rebuilt from its results files."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from agad_tf.cli import main
from agad_tf.errors import InputError
from study import report
from study.costs import Costs
from study.figures import Figure, Results, all_runs, hours_in, paired
from study.grids import OWN, UNLABELLED
from study.job import Job
from study.lines import append_lines
from study.markdown import with_part
from study.paper_tables import load
from study.report_tables import beside, epoch_times, missing_table, own_section, paper_matrix
from study.runner import stamped
from study.training import PROTOCOL, STEPS, lines_of, training

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "study" / "results"


def run_of(job, last, best=None, known=None, seconds=3600.0, epochs=5):
    """Lines of a run whose reconstruction score reached `best` on the way to `last`."""
    curve = [
        {"epoch": at, "normal_error": float(epochs - at), "validation_reconstruction": value}
        | {
            "test_reconstruction": value,
            "test_known_reconstruction": known,
            "test_unseen_reconstruction": known,
        }
        for at, value in ((1, best or last), (epochs, last))
    ]
    lines = lines_of(curve, ("reconstruction",), {"seconds": seconds, "train_normal": 6000})
    return stamped(job, lines, "abc")


@pytest.fixture
def results(tmp_path):
    """AGAD's naive net on MNIST 8 with three seeds, one class of nine; AA-BiGAN on cardio with two."""
    path = tmp_path / "runs.jsonl"
    for seed, last in enumerate((0.90, 0.92, 0.94)):
        job = training("mnist", "agad", 8, backbone="encoder_decoder", epochs=5, seed=seed)
        append_lines(path, run_of(job, last, best=0.95))
    append_lines(path, stamped(job, {"error": "ValueError: no"}, "abc"))
    return path


def test_a_figure_is_a_mean_with_its_interval():
    figure = Figure.of([0.90, 0.92, 0.94])
    assert figure.text() == "92.0 (87.0 to 97.0)"  # 2 · t(.975, 2) / √3 = 4.97
    assert figure.deviation == pytest.approx(2)
    assert Figure.of([0.5]).text() == "50.0"
    assert Figure.of([]) is None


def test_ours_stand_beside_the_paper(results):
    runs = Results(all_runs(results))
    (line,) = [line for line in beside(load("agad_9"), runs) if "| 8 |" in line]
    assert "| mnist | 8 | agad (encoder_decoder) | 95.8 | 5 | 3 | 92.0 (87.0 to 97.0) | 92.0 |" in line
    # last minus the paper's, all_labels minus the paper's, the configuration
    sha = training("mnist", "agad", 8, backbone="encoder_decoder", epochs=5).sha256[:8]
    assert line.endswith(f"| 95.0 (95.0 to 95.0) | -3.8 | -0.8 | `{sha}` |")
    (mean,) = [line for line in beside(load("agad_9"), runs) if "| avg |" in line]
    # One class of ten is no mean over classes: no difference.
    assert "| 3 of 30 |" in mean
    assert "| – | – | 10 |" in mean


def test_missing_runs_have_a_cost_where_something_like_them_was_measured(results):
    runs = Results(all_runs(results))
    jobs = [job for job in OWN["naive-agad"].jobs() if not job.compile]
    epochs_15 = 3600 * 15 / 5  # a run of the default epochs
    costs = Costs(runs.lines)
    assert costs.seconds(jobs[0]) == pytest.approx(epochs_15)
    without_anomalies = [job for job in jobs if not job.gamma and job.dataset == "mnist"]
    (line,) = missing_table(without_anomalies, runs, costs)[2:]
    assert line == "| mnist | agad (encoder_decoder) | 12 | 15 | 36.0 |"
    other = [job.but(backbone="unet") for job in without_anomalies]
    assert missing_table(other, runs, costs)[2].endswith("| not measured |")
    assert missing_table([job for job in without_anomalies if job.normal_class == 8], runs, costs) == [
        "Nothing."
    ]


def test_contrasts_pair_runs_of_one_seed(tmp_path):
    path = tmp_path / "runs.jsonl"
    jobs = OWN["fashion-pairs"].jobs(2)
    for job in jobs:
        if job.normal_class == 0:
            append_lines(path, run_of(job, 0.8 + (0.1 if job.gamma else 0) + job.seed / 50, known=0.95))
    runs = Results(all_runs(path))
    both = [(job, job.but(gamma=0.0, anomaly_classes=None)) for job in jobs if job.gamma]
    figure = paired(runs, both, "last", 5)
    assert (figure.count, round(figure.mean, 6), round(figure.deviation, 6)) == (2, 10, 0)
    text = own_section("fashion-pairs", OWN["fashion-pairs"], runs, Costs(runs.lines))
    assert "| 0, collected 6 | 5 | 2 | 10.0 (10.0 to 10.0) |" in text
    assert "| all pairs | 5 | 2 |" in text
    assert "| 95.0 | 95.0 |" in text  # known and unseen


def test_borrowed_figures_are_marked_and_empty_ones_explained():
    text = "\n".join(paper_matrix(load("agad_1")))
    assert "| mnist | GeoTrans (b) | 98.2 |" in text
    assert "| mnist | ADGAN | 92.9 |" in text  # the authors' own run
    assert "twelve values are printed under eleven heads" in text
    assert "| mnist | ALAD (?) | 91.0 ± 5.6 |" in "\n".join(paper_matrix(load("aa_bigan_7")))


def test_lines_of_the_other_experiment_count_as_runs(tmp_path):
    own = {"dataset": "cardio", "seed": 1, "policy": "last", "score": "reconstruction", "auroc": 0.98}
    own |= {"validation_auroc": 0.97, "step": STEPS, "config": PROTOCOL | {"steps": STEPS}, "seconds": 7.0}
    path = tmp_path / "runs.jsonl"
    append_lines(tmp_path / "aa_bigan_table2.jsonl", [own, own | {"config": {}}])
    runs = Results(all_runs(path))
    (line,) = beside(load("aa_bigan_2"), runs)[2:]
    assert "| cardio | aa_bigan | 98.0 ± 1.2 |" in line
    assert f"| {STEPS} steps | 1 of 10 | 98.0 |" in line
    # A run of the grid itself takes its place.
    append_lines(path, run_of(training("cardio", "aa_bigan", gamma=0.01, seed=1), 0.5))
    assert {line["auroc"] for line in all_runs(path) if line["policy"] == "last"} == {0.5}


def test_an_epochs_seconds_stand_beside_the_papers(tmp_path):
    path = tmp_path / "runs.jsonl"
    for method, seconds in (("aa_bigan", 30.0), ("alad", 20.0)):
        job = training("fashion_mnist", method, 0, epochs=2)
        append_lines(path, [line | {"epoch_cpu_seconds": seconds} for line in run_of(job, 0.9, epochs=2)])
    lines = epoch_times(load("aa_bigan_time"), Results(all_runs(path)))[2:]
    assert lines == [
        "| fashion_mnist | here, one core of a CPU | 30.000 | 20.000 | 1.50 |",
        "| fashion_mnist | the paper, its GPU | 8.833 | 7.924 | 1.11 |",
    ]


def test_hours_count_a_run_once(results):
    table2 = {"dataset": "cardio", "seed": 0, "config": {}, "step": 1, "seconds": 1800.0}
    lines = [table2 | {"policy": policy} for policy in ("last", "all_labels")]
    append_lines(results.with_name("aa_bigan_table2.jsonl"), [*lines, lines[0] | {"seed": 1}])
    append_lines(results.with_name("other.jsonl"), [{"seconds": 1800.0}])
    expected = {"runs.jsonl": pytest.approx(3), "aa_bigan_table2.jsonl": pytest.approx(1)}
    assert hours_in(results.parent) == expected


def test_the_generated_part_leaves_the_rest_of_a_page_alone():
    page = with_part("# Results\n\nby hand\n", "reproduce", "first")
    assert page == "# Results\n\nby hand\n\n<!-- reproduce: begin -->\nfirst\n<!-- reproduce: end -->\n"
    again = with_part(page + "\nmore by hand\n", "reproduce", "second")
    assert again == page.replace("first", "second") + "\nmore by hand\n"
    with pytest.raises(InputError, match="expected <!-- reproduce: end"):
        with_part("<!-- reproduce: begin -->", "reproduce", "x")


def test_the_command_writes_pages_that_name_every_policy(results):
    done = CliRunner().invoke(main, ["reproduce", "report", "--results", str(results)])
    assert done.exit_code == 0, done.output
    written = {path.name for path in results.parent.iterdir()}
    assert {*report.PAPER_PAGES.values(), report.OWN_PAGE, report.README, "curves.svg"} <= written
    glance = (results.parent / report.README).read_text()
    assert "| AGAD, Table 9 | mnist 8 | AGAD, encoder_decoder | 95.8 |" in glance
    assert "| AA-BiGAN, Table 4 | – | – | – | expected the weights of InceptionV3" in glance
    text = (results.parent / report.PAPER_PAGES["agad"]).read_text()
    for policy in ("last", "normal_only", "known_anomalies", "all_labels"):
        assert f"- **{policy}**" in text
    none = CliRunner().invoke(main, ["reproduce", "report", "--results", str(results.with_name("no.jsonl"))])
    assert (none.exit_code, none.output.count("\n")) == (2, 1)


def test_the_committed_report_is_what_the_committed_results_give(tmp_path):
    pages = ROOT / "docs" / "results"
    shutil.copy(pages / report.README, tmp_path)
    for path in report.write(COMMITTED / "runs.jsonl", tmp_path):
        assert path.read_bytes() == (pages / path.name).read_bytes(), (
            f"{path.name} is not what its results files give: run agad-tf reproduce report"
        )


def test_every_committed_line_says_where_it_comes_from():
    lines = [json.loads(line) for line in (COMMITTED / "runs.jsonl").read_text().splitlines()]
    assert lines
    for line in lines:
        job = Job(line["job"])
        assert line["config_sha256"] == job.sha256
        assert job.seed < 100
        if "policy" in line:
            assert line["commit"]
            assert line["split_sha256"]
            assert line["test_normal"] > 0
            assert line["test_anomaly"] > 0
            assert 0 <= line["auroc"] <= 1
            assert job.method in ("agad", "aa_bigan", "deep_sad", "classifier", *UNLABELLED)


def test_repeated_runs_agree_as_the_documentation_says():
    def lines_by_key(name):
        lines = [json.loads(line) for line in (COMMITTED / name).read_text().splitlines()]
        kept = [line for line in lines if "policy" in line]
        return {
            (line["config_sha256"], line["job"]["seed"], line["policy"], line["score"]): line for line in kept
        }

    first, repeated = lines_by_key("runs.jsonl"), lines_by_key("repeated.jsonl")
    assert len(repeated) == 63
    assert len({key[:2] for key in repeated}) == 21
    assert all(line["split_sha256"] == first[key]["split_sha256"] for key, line in repeated.items())
    differences = [abs(line["auroc"] - first[key]["auroc"]) for key, line in repeated.items()]
    assert differences.count(0) == 43
    assert max(differences) < 0.0015
