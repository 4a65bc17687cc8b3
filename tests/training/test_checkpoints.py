"""Checkpoints: what they hold, how they are written, and what happens to a damaged one."""

import keras
import numpy as np
import pytest
from training_cases import STEPS, Interruption, Killed, Tiny, assert_same_bits

from agad_tf.errors import InputError
from agad_tf.models.guard import DivergenceGuard
from agad_tf.training import Checkpoints
from agad_tf.training.checkpoints import parse_every
from agad_tf.training.state_file import DamagedFileError, read_state, write_state


@pytest.fixture(scope="module")
def tiny():
    return Tiny()


@pytest.fixture(scope="module")
def undisturbed(tiny):
    """State and history of three epochs."""
    history = tiny.train().history
    return tiny.state(), history


def interrupted(tiny, folder, interruption, **arguments):
    """Leaves the checkpoints of a training that did not end; what is left in the folder."""
    with pytest.raises(Killed):
        tiny.train(callbacks=[interruption, Checkpoints(folder, **arguments)])
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("every", "interruption", "newest"),
    [
        (1, {"steps": 2}, "epoch-0000-step-000001.checkpoint"),
        (2, {"steps": 5}, "epoch-0000-step-000004.checkpoint"),  # all steps of an epoch, not yet its end
        (3, {"steps": 3 * STEPS}, "epoch-0002-step-000001.checkpoint"),
        ("epoch", {"steps": STEPS + 1}, "epoch-0001-step-000000.checkpoint"),
        ("epoch", {"epoch": 1}, "epoch-0001-step-000000.checkpoint"),
        ("0.000001 seconds", {"steps": 6}, "epoch-0001-step-000001.checkpoint"),
    ],
)
def test_resumed_is_undisturbed_bit_for_bit(tiny, undisturbed, tmp_path, capsys, every, interruption, newest):
    state, history = undisturbed
    left = interrupted(tiny, tmp_path / "made" / "here", Interruption(**interruption), every=every)
    assert left[-1] == newest
    capsys.readouterr()
    resumed = tiny.train(callbacks=[Checkpoints(tmp_path / "made" / "here", every)])
    assert_same_bits(tiny.state(), state)
    assert resumed.history == history
    assert resumed.epoch == [0, 1, 2]
    assert "going on at epoch" in capsys.readouterr().err


def test_interrupted_again_and_again(tiny, undisturbed, tmp_path):
    for _ in range(4):
        interrupted(tiny, tmp_path, Interruption(steps=3), every=1)
    tiny.train(callbacks=[Checkpoints(tmp_path, every=1)])
    assert_same_bits(tiny.state(), undisturbed[0])


# -- files ---------------------------------------------------------------------------------------------------


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:-100], lambda content: b""])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tiny, undisturbed, tmp_path, capsys, damage):
    left = interrupted(tiny, tmp_path, Interruption(steps=7), every=2)
    newest = tmp_path / left[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    capsys.readouterr()
    tiny.train(callbacks=[Checkpoints(tmp_path, every=2)])
    assert_same_bits(tiny.state(), undisturbed[0])
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{newest}: a damaged checkpoint (")
    assert first.endswith("taking the one before")
    assert second == f"{tmp_path}: going on at epoch 1 of 3, step 4 of {STEPS}"


def test_without_a_whole_checkpoint_it_starts_over(tiny, undisturbed, tmp_path, capsys):
    for name in interrupted(tiny, tmp_path, Interruption(steps=3), every=1):
        (tmp_path / name).write_bytes(b"nothing")
    capsys.readouterr()
    tiny.train(callbacks=[Checkpoints(tmp_path)])
    assert_same_bits(tiny.state(), undisturbed[0])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"{tmp_path}: no checkpoint, training starts at the beginning"


def test_the_newest_are_kept_and_what_a_kill_left_is_removed(tiny, tmp_path):
    assert len(interrupted(tiny, tmp_path, Interruption(steps=8), every=1, keep=2)) == 2
    (tmp_path / ".epoch-0001-step-000004.checkpoint.1234.partial").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("not ours")
    tiny.train(callbacks=[Checkpoints(tmp_path, every=1, keep=1)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-0003-step-000000.checkpoint",
        "notes.txt",
    ]


def test_checkpoints_of_a_future_that_was_given_up_do_not_stay(tiny, undisturbed, tmp_path):
    (name,) = interrupted(tiny, tmp_path, Interruption(steps=8), every=1, keep=1)
    (tmp_path / name).write_bytes(b"")
    assert interrupted(tiny, tmp_path, Interruption(steps=3), every=1, keep=1) == [
        "epoch-0000-step-000002.checkpoint"
    ]
    tiny.train(callbacks=[Checkpoints(tmp_path)])
    assert_same_bits(tiny.state(), undisturbed[0])


def test_a_file_is_read_back_as_it_was_and_holds_equal_arrays_once(tmp_path):
    large = np.arange(10_000.0)
    state = {
        "arrays": [large, large.copy(), np.zeros((0, 3), "int8"), np.array(2.5, "float32")],
        "nested": {
            "text": "ä",
            "none": None,
            "number": np.float32(0.1),
            "infinite": float("inf"),
            "pair": (1, 2),
        },
    }
    write_state(tmp_path / "a.checkpoint", state)
    content = (tmp_path / "a.checkpoint").read_bytes()
    assert len(content) < 1.1 * large.nbytes
    found = read_state(content)
    for one, other in zip(found["arrays"], state["arrays"], strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    assert found["nested"] == state["nested"] | {"number": float(np.float32(0.1)), "pair": [1, 2]}
    with pytest.raises(TypeError, match="object is not JSON"):
        write_state(tmp_path / "b.checkpoint", {"a": object()})
    assert not (tmp_path / "b.checkpoint").exists()


def test_no_damage_is_missed(tmp_path):
    write_state(tmp_path / "a", {"array": np.random.default_rng(0).normal(size=50), "text": "abc"})
    content = bytearray((tmp_path / "a").read_bytes())
    read_state(bytes(content))
    for place in np.linspace(0, len(content) - 1, 300).astype(int):
        content[place] ^= 4
        with pytest.raises(DamagedFileError):
            read_state(bytes(content))
        content[place] ^= 4
    read_state(bytes(content))
    for length in (0, 10, 90, len(content) - 1):
        with pytest.raises(DamagedFileError):
            read_state(bytes(content[:length]))


# -- what goes on and what does not --------------------------------------------------------------------------


def test_a_finished_training_says_so(tiny, undisturbed, tmp_path, capsys):
    state, history = undisturbed
    tiny.train(callbacks=[Checkpoints(tmp_path)])
    capsys.readouterr()
    again = tiny.train(callbacks=[Checkpoints(tmp_path)])
    assert capsys.readouterr().err == f"{tmp_path}: training was finished after epoch 3\n"
    assert_same_bits(tiny.state(), state)
    assert again.history == history


def test_a_longer_training_goes_on_and_resume_false_starts_over(tiny, undisturbed, tmp_path):
    tiny.train(epochs=2, callbacks=[Checkpoints(tmp_path)])
    tiny.train(epochs=3, callbacks=[Checkpoints(tmp_path)])
    assert_same_bits(tiny.state(), undisturbed[0])
    assert tiny.train(epochs=1, callbacks=[Checkpoints(tmp_path, resume=False)]).epoch == [0]
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0001-step-000000.checkpoint"]


def test_another_training_is_refused_and_nothing_is_touched(tiny, tmp_path):
    left = interrupted(tiny, tmp_path, Interruption(steps=3), every=1)
    with pytest.raises(InputError, match=r"model.rate was 0.1, is 0.2; undo the change or take") as error:
        tiny.train(callbacks=[Checkpoints(tmp_path)], identity={"model": {"rate": 0.2}})
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="data was None, is abc; undo"):
        tiny.train(callbacks=[Checkpoints(tmp_path, identity={"data": "abc"})])
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_optimizers_that_keras_numbers_are_the_same(tiny, undisturbed, tmp_path):
    def identity(number, rate=0.1):
        adam = {"class_name": "Adam", "config": {"name": f"adam_{number}", "learning_rate": rate}}
        return {"compile": {"optimizers": [{"module": "keras.optimizers"} | adam]}}

    with pytest.raises(Killed):
        tiny.train(callbacks=[Interruption(steps=3), Checkpoints(tmp_path, 1)], identity=identity(1))
    with pytest.raises(InputError, match=r"compile\.optimizers changed"):
        tiny.train(callbacks=[Checkpoints(tmp_path)], identity=identity(1, rate=0.2))
    tiny.train(callbacks=[Checkpoints(tmp_path)], identity=identity(2))
    assert_same_bits(tiny.state(), undisturbed[0])


def test_what_says_most_of_a_difference_comes_first(tiny, tmp_path):
    before = {"batches": {"first_batch": "a" * 64, "normals": "b" * 64, "size": 10}}
    now = {"batches": {"first_batch": "c" * 64, "normals": "d" * 64, "size": 12}}
    with pytest.raises(Killed):
        tiny.train(callbacks=[Interruption(steps=3), Checkpoints(tmp_path, 1)], identity=before)
    with pytest.raises(InputError, match=r"another: batches.size was 10, is 12; .* changed and 1 more; undo"):
        tiny.train(callbacks=[Checkpoints(tmp_path)], identity=now)


class Remembering(keras.callbacks.Callback):
    """Draws from random generators, and keeps what it drew and saw."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append([np.random.random(), float(logs["error"])])

    def get_state(self):
        return {"seen": np.array(self.seen)}

    def set_state(self, state):
        self.seen = state["seen"].tolist()


def test_callbacks_remember(tiny, tmp_path):
    def callbacks():
        plateau = keras.callbacks.ReduceLROnPlateau("error", 0.5, 1, mode="min", min_delta=1e9)
        stopping = keras.callbacks.EarlyStopping(
            "error", patience=3, min_delta=1e9, mode="min", restore_best_weights=True
        )
        best = keras.callbacks.ModelCheckpoint(
            tmp_path / "best.weights.h5", "error", save_best_only=True, save_weights_only=True, mode="min"
        )
        return [plateau, stopping, best, Remembering()]

    wanted = callbacks()
    history = tiny.train(epochs=9, callbacks=wanted)
    assert len(history.epoch) == 4  # stopped
    state, folder = tiny.state(), tmp_path / "c"
    killed = Interruption(steps=2 * STEPS + 2)
    with pytest.raises(Killed):
        tiny.train(epochs=9, callbacks=[*callbacks(), killed, Checkpoints(folder, 3)])
    found = callbacks()
    resumed = tiny.train(epochs=9, callbacks=[*found, Checkpoints(folder, 3)])
    assert_same_bits(tiny.state(), state)
    assert resumed.history == history.history
    assert found[-1].seen == wanted[-1].seen
    assert found[2].best == wanted[2].best
    assert (found[1].wait, found[1].stopped_epoch) == (wanted[1].wait, wanted[1].stopped_epoch)
    # Stopped is stopped: once more does not go on.
    assert len(tiny.train(epochs=9, callbacks=[*callbacks(), Checkpoints(folder)]).epoch) == 4


class Ruin(keras.callbacks.Callback):
    """Ruins a weight at the start of the third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            self.model.v.assign([np.nan, 0.0])


@pytest.mark.parametrize("steps", [2 * STEPS + 3, 3 * STEPS + 2])
def test_the_guard_remembers_its_good_weights(tiny, tmp_path, capsys, steps):
    def train(*callbacks):
        guard = DivergenceGuard(error="error")
        guard.factor = float("inf")
        tiny.train(epochs=4, callbacks=callbacks, own=[Watched(), guard])
        return guard

    class Watched(keras.callbacks.Callback):
        """Puts the weight into the logs that the guard sees."""

        def on_epoch_end(self, epoch, logs=None):
            logs["weight"] = float(self.model.v[0])

    guard = train(Ruin())
    state = tiny.state()
    assert guard.rollbacks == 1
    assert all(np.isfinite(value).all() for value in state)
    with pytest.raises(Killed):
        train(Ruin(), Interruption(steps=steps), Checkpoints(tmp_path, 1))
    assert train(Checkpoints(tmp_path)).rollbacks == 1  # the ruined weight is in the checkpoint, or undone
    assert_same_bits(tiny.state(), state)
    assert capsys.readouterr().err.count("went back to the weights of epoch 2") >= 2


@pytest.mark.parametrize(
    ("every", "parsed"),
    [("epoch", (None, None)), (7, (7, None)), ("10 minutes", (None, 600.0)), ("1.5 hours", (None, 5400.0))],
)
def test_every(every, parsed):
    assert parse_every(every) == parsed


@pytest.mark.parametrize("every", [0, -1, True, "often", "0 minutes", "ten minutes", None, 2.5])
def test_every_that_cannot_be(every, tmp_path):
    with pytest.raises(InputError, match="every expects 'epoch', a number of steps, or a time such as"):
        Checkpoints(tmp_path, every)


def test_other_arguments_that_cannot_be(tiny, tmp_path):
    with pytest.raises(InputError, match="keep expects a whole number of at least 1, received 0"):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(InputError, match="no BackupAndRestore"):
        tiny.train(callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "b")])
