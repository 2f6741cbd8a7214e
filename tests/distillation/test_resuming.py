"""A training that was stopped goes on and ends with the weights of one that never was, bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import CPU, INTERNAL, run_training, tiny_student, tiny_teacher, tiny_terms

from internal_kd.distillation import checkpoints
from internal_kd.distillation.answers import Live
from internal_kd.distillation.averaging import Averaged
from internal_kd.distillation.checkpoints import CheckpointFolder, read_state, read_tensors
from internal_kd.distillation.curricula import Phase
from internal_kd.distillation.loss import DistillationLoss
from internal_kd.errors import Interrupted, UserError

EPOCHS, STEPS_PER_EPOCH = 4, 5
CURRICULA = ("all", "progressive", "stacked", "phases", "average")
PHASES = [
    {"epochs": 2, "terms": ["hidden_mse", "attention_kl"], "learning_rate": 2e-3},
    {"epochs": 2, "terms": ["soft"]},
]


def run(scratch: Path, curriculum: str, *, stop_at: int | None = None, by=signal.SIGTERM, minutes: float = 1e9):
    """Train a tiny student; at step ``stop_at`` the signal arrives, or what is named happens."""
    phases = curriculum == "phases"
    student, teacher = tiny_student(), tiny_teacher(width=48 if phases else 32)
    weights = {"soft": 1.0, "attention_kl": 1.0, "hidden_mse": 1.0} if phases else INTERNAL
    average = curriculum == "average"  # a teacher that moves with its student
    terms = tiny_terms({"hard": 0.4, "beta_smoothing": 0.6} if average else weights, student, teacher)
    answers = Averaged(student, 0.9, CPU) if average else Live(teacher, CPU)
    loss = DistillationLoss(student, terms, answers, CPU, seed=3)
    steps = 0
    compute = loss.compute

    def counted(part, stage, progress):
        nonlocal steps
        steps += 1
        if steps == stop_at and by == "nan":
            terms = compute(part, stage, progress)
            return replace(terms, total=terms.total * float("nan"))
        if steps == stop_at and by == "gradient":
            student.module.classifier.weight.register_hook(lambda gradient: gradient * float("nan"))
        elif steps == stop_at:
            os.kill(os.getpid(), by)
        return compute(part, stage, progress)

    loss.compute = counted  # the signal must arrive inside a step, as it does in life
    chosen = [Phase.model_validate(phase) for phase in PHASES] if phases else "all" if average else curriculum
    result = run_training(
        student, terms, None, curriculum=chosen, loss=loss, scratch=scratch, checkpoint_minutes=minutes
    )
    return {**student.module.state_dict(), **loss.state_dict()}, result.history


def same(first, second) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def without_time(history):
    return [{k: v for k, v in epoch.items() if k not in ("seconds", "examples_per_second")} for epoch in history]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory):
    """Weights and history of a training that nothing stopped, by curriculum."""
    return {name: run(tmp_path_factory.mktemp("whole"), name) for name in CURRICULA}


def assert_as_if_never_stopped(ended, whole) -> None:
    assert same(ended[0], whole[0]) and without_time(ended[1]) == without_time(whole[1])


@pytest.mark.parametrize("curriculum", CURRICULA)
@pytest.mark.parametrize("stop_at", [2, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 1, 13])
def test_a_stopped_training_goes_on_bit_for_bit(tmp_path, whole, curriculum, stop_at):
    with pytest.raises(Interrupted, match=f"SIGTERM at step {stop_at};"):
        run(tmp_path, curriculum, stop_at=stop_at)
    assert_as_if_never_stopped(run(tmp_path, curriculum), whole[curriculum])


# Where a training is killed, and the checkpoint that is left: in the middle of a step of the first, second and third
# epoch, between two files of the checkpoint of step 7, and with that checkpoint whole and the one before still there.
MOMENTS = {1: None, 6: "step-5", 14: "step-13", "in a checkpoint": "step-6", "after a checkpoint": "step-7"}
KILLED = [*((curriculum, step) for curriculum in ("all", "progressive") for step in (6, 14))]
KILLED += [("stacked", moment) for moment in MOMENTS]


def be_killed(top: str) -> None:
    """In a process of its own, which has torch and has not used it: fork for every death, and see that it is one."""
    for curriculum, moment in KILLED:
        pid = os.fork()
        if pid == 0:
            try:
                _train_until_killed(Path(top) / f"{curriculum} {moment}", curriculum, moment)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (curriculum, moment, status)


def _train_until_killed(scratch: Path, curriculum: str, moment: int | str) -> None:
    torch.set_num_threads(1)
    save, remove = checkpoints.save_file, shutil.rmtree

    def save_file(tensors, path):
        if moment == "in a checkpoint" and path.name.startswith("optimizer") and ".step-7." in path.parent.name:
            os.kill(os.getpid(), signal.SIGKILL)
        save(tensors, path)

    def rmtree(path, **options):
        if moment == "after a checkpoint" and path.name == "step-6" and path.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        remove(path, **options)

    checkpoints.save_file, shutil.rmtree = save_file, rmtree
    stop_at = moment if isinstance(moment, int) else None
    run(scratch, curriculum, stop_at=stop_at, by=signal.SIGKILL, minutes=1e-9)  # a checkpoint after every step


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of trainings that were killed with -9."""
    top = tmp_path_factory.mktemp("killed")
    code = "import sys, test_resuming; test_resuming.be_killed(sys.argv[1])"
    here = Path(__file__).parent
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, str(top)], env=surroundings, check=True)
    return top


@pytest.mark.slow
@pytest.mark.parametrize(("curriculum", "moment"), KILLED)
def test_a_training_killed_with_9_goes_on_bit_for_bit(killed, whole, curriculum, moment):
    folder = killed / f"{curriculum} {moment}"
    newest = CheckpointFolder(folder, 1.0).newest()
    assert (newest and newest.name) == MOMENTS[moment]
    assert_as_if_never_stopped(run(folder, curriculum), whole[curriculum])


def test_twice_stopped_is_no_different(tmp_path, whole):
    for stop_at in (4, 7):
        with pytest.raises(Interrupted):
            run(tmp_path, "progressive", stop_at=stop_at, by=signal.SIGINT)
    assert_as_if_never_stopped(run(tmp_path, "progressive"), whole["progressive"])


@pytest.mark.parametrize(("by", "said"), [("nan", r"step 9\b"), ("gradient", r"step 9 \(")])
def test_a_loss_that_is_no_number_never_replaces_the_last_good_checkpoint(tmp_path, by, said):
    with pytest.raises(UserError, match=said):
        run(tmp_path, "all", stop_at=9, by=by, minutes=1e-9)
    newest = CheckpointFolder(tmp_path, 1.0).newest()
    assert newest.name == "step-8"
    assert all(torch.isfinite(weight).all() for weight in read_tensors(newest, "model").values())


@pytest.mark.parametrize("curriculum", ["all", "progressive"])
def test_weights_the_last_step_broke_are_never_the_result(tmp_path, curriculum):
    # No step comes after it whose loss would be none, and no checkpoint: these are the weights a run would publish.
    with pytest.raises(UserError, match=rf"step {EPOCHS * STEPS_PER_EPOCH} \("):
        run(tmp_path, curriculum, stop_at=EPOCHS * STEPS_PER_EPOCH, by="gradient")


def test_a_checkpoint_that_was_never_finished_does_not_count(tmp_path):
    (tmp_path / "step-9").mkdir()
    (tmp_path / "step-9/model.safetensors").write_bytes(b"half")
    assert CheckpointFolder(tmp_path, 1.0).newest() is None


FILES = ("model.safetensors", "optimizer.safetensors", "loss.safetensors", "training.json")


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of steps 3 and 7 of one training, beside folders that are none."""
    folder = tmp_path_factory.mktemp("two")
    for stop_at in (3, 4):
        with pytest.raises(Interrupted):
            run(folder, "stacked", stop_at=stop_at)
        newest = CheckpointFolder(folder, 1.0).newest()
        shutil.copytree(newest, folder / "kept" / newest.name)
    shutil.copytree(folder / "kept" / "step-3", folder / "step-3")
    shutil.rmtree(folder / "kept")
    for name in ("step-x", "step-99-copy", "step-"):
        shutil.copytree(folder / "step-7", folder / name)
    return folder


def test_the_newest_checkpoint_is_that_of_the_highest_step(two_checkpoints):
    assert CheckpointFolder(two_checkpoints, 1.0).newest().name == "step-7"


@pytest.mark.parametrize("text", [b"", b"half", b"[1]", b"null", None])
@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_that_cannot_be_read_is_passed_over(two_checkpoints, tmp_path, capsys, name, text):
    shutil.copytree(two_checkpoints, tmp_path, dirs_exist_ok=True)
    broken = tmp_path / "step-7" / name
    if text == b"half":
        text = broken.read_bytes()[: broken.stat().st_size // 2]
    if text is None:
        broken.unlink()
    else:
        broken.write_bytes(text)
    checkpoints = CheckpointFolder(tmp_path, 1.0)
    assert checkpoints.newest().name == "step-3"
    (line,) = capsys.readouterr().out.splitlines()
    assert str(tmp_path / "step-7") in line and name in line
    shutil.rmtree(tmp_path / "step-3")
    assert checkpoints.newest() is None


@pytest.mark.parametrize("name", FILES[:3])
def test_a_flipped_bit_is_found_and_its_file_named(two_checkpoints, tmp_path, capsys, name):
    shutil.copytree(two_checkpoints, tmp_path, dirs_exist_ok=True)
    broken = tmp_path / "step-7" / name
    content = bytearray(broken.read_bytes())
    content[-1] ^= 1
    broken.write_bytes(content)
    assert CheckpointFolder(tmp_path, 1.0).newest().name == "step-3"
    assert name in capsys.readouterr().out


def test_a_checkpoint_that_bears_anothers_name_is_passed_over(two_checkpoints, tmp_path):
    shutil.copytree(two_checkpoints / "step-7", tmp_path / "step-8")
    assert CheckpointFolder(tmp_path, 1.0).newest() is None


def test_a_training_whose_last_checkpoint_is_broken_goes_on_from_the_one_before(two_checkpoints, tmp_path, whole):
    shutil.copytree(two_checkpoints, tmp_path, dirs_exist_ok=True)
    (tmp_path / "step-7" / "training.json").write_bytes(b"")
    # It comes past the broken one's step and writes that checkpoint again; what is no checkpoint is left alone.
    with pytest.raises(Interrupted):
        run(tmp_path, "stacked", stop_at=4)
    assert {path.name for path in tmp_path.iterdir()} == {"step-7", "step-x", "step-99-copy", "step-"}
    assert_as_if_never_stopped(run(tmp_path, "stacked"), whole["stacked"])


def test_a_checkpoint_is_on_the_disk_before_the_one_before_it_goes(tmp_path, monkeypatch):
    with pytest.raises(Interrupted):
        run(tmp_path, "all", stop_at=3)
    happened, fsync, rename, remove = [], os.fsync, Path.rename, shutil.rmtree
    monkeypatch.setattr(os, "fsync", lambda handle: (happened.append(os.fstat(handle).st_ino), fsync(handle)))
    monkeypatch.setattr(Path, "rename", lambda path, to: (happened.append("renamed"), rename(path, to)))
    monkeypatch.setattr(
        shutil, "rmtree", lambda path, **options: (happened.append(f"removed {path.name}"), remove(path, **options))
    )
    with pytest.raises(Interrupted):
        run(tmp_path, "all", stop_at=1)
    written = {path.stat().st_ino for path in [tmp_path / "step-4", *(tmp_path / "step-4").iterdir()]}
    renamed, gone = happened.index("renamed"), happened.index("removed step-3")
    assert written <= set(happened[:renamed]) and happened[renamed + 1] == tmp_path.stat().st_ino and renamed + 1 < gone


def test_no_checkpoint_holds_a_pickle(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, "all", stop_at=3)
    names = {path.name for path in (tmp_path / "step-3").iterdir()}
    assert names == set(FILES)


def test_a_checkpoint_keeps_the_projections_and_a_student_does_not(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, "phases", stop_at=3)
    kept = read_tensors(tmp_path / "step-3", "loss")
    assert sorted(tuple(tensor.shape) for tensor in kept.values()) == [(48,), (48, 32)]
    assert not any("projection" in name for name in read_tensors(tmp_path / "step-3", "model"))
    assert read_state(tmp_path / "step-3")["step"] == 3
