import itertools
import json
import os
import resource
import signal
import time
import zipfile
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch

from pipeline import learner, trainer
from pipeline.batch import Views
from pipeline.checkpoint import load
from pipeline.config import RecipeConfig, RuntimeConfig, TrainConfig
from pipeline.data.splits import Split
from pipeline.learner import Job, polynomial_decay
from pipeline.memory import FeatureBank
from pipeline.methods import base
from pipeline.metrics import CONFIDENCE_BINS
from pipeline.runtime import set_up
from pipeline.trainer import Interrupted, Log, train
from pipeline.typed import ConfigError, InputError
from tests.methods.test_contract import SECTIONS
from tests.prepared import NETWORK

STPG = {"contrast": {"bank_from": 0.1, "loss_from": 0.2, "phi": 0.0, "dim": 16}}


def make_job(folder, data, *, method="stpg", steps=10, seed=0, every=4):
    ids = [item.id for item in data.train]
    return Job(
        title="test",
        method=method,
        method_config=base.resolve(
            method, STPG if method == "stpg" else SECTIONS.get(method, {}), key="m"
        ),
        recipe=RecipeConfig(crop=(32, 32), batch=2, steps=steps, lr=0.05, network=NETWORK),
        train=TrainConfig(threads=1, log_every=2),
        data=data,
        split=Split("tiny", "drawn", "standard", 2, 0, tuple(ids[:3]), tuple(ids[3:])),
        seed=seed,
        record={"run": "test", "seed": seed},
        folder=folder,
        runtime=RuntimeConfig(checkpoint_every=every),
    )


def interrupt_at(monkeypatch, step, number):
    """Sends this process a signal while it computes the given step."""
    usual = trainer.Learner.update

    def update(self, batch, current):
        if current == step:
            os.kill(os.getpid(), number)
        return usual(self, batch, current)

    monkeypatch.setattr(trainer.Learner, "update", update)


def crash_at(monkeypatch, step):
    """Ends the training without any tidying up, as kill -9 would, when it reaches the step."""
    usual = trainer.Learner.update

    def update(self, batch, current):
        if current == step:
            raise KeyboardInterrupt
        return usual(self, batch, current)

    monkeypatch.setattr(trainer.Learner, "update", update)


def test_a_group_may_have_a_learning_rate_of_its_own(tmp_path, data, runtime, monkeypatch):
    usual = base.MethodBase.param_groups
    seen = []

    def param_groups(self, weight_decay):
        decayed, spared = usual(self, weight_decay)
        return [decayed, spared | {"lr_scale": 0.1}]

    monkeypatch.setattr(base.MethodBase, "param_groups", param_groups)
    optimizer_of = learner.optimizer_of
    monkeypatch.setattr(
        learner, "optimizer_of", lambda *a: (seen.append(optimizer_of(*a)), seen[0])[1]
    )
    train(make_job(tmp_path / "run", data, method="supervised", steps=2), runtime)
    decayed, spared = (group["lr"] for group in seen[0].param_groups)
    assert spared == pytest.approx(0.1 * decayed)


def test_trunks_may_learn_more_slowly(data, runtime, tmp_path):
    job = make_job(tmp_path, data)
    job = replace(job, recipe=replace(job.recipe, trunk_lr=0.25))
    method = learner.method_of(job, runtime)
    scales = {
        id(p): group.get("lr_scale", 1.0)
        for group in learner.optimizer_of(job, method).param_groups
        for p in group["params"]
    }
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
    assert {name: scales[id(p)] for name, p in trained.items()} == {
        name: 0.25 if ".trunk." in name else 1.0 for name in trained
    }


def test_crops_are_of_whole_patches(data, runtime, tmp_path):
    job = make_job(tmp_path, data, method="supervised")
    network = replace(NETWORK, trunk="test_vit", trunk_stages=4, low_level_stride=16)
    job = replace(job, recipe=replace(job.recipe, crop=(32, 40), network=network))
    with pytest.raises(ConfigError, match=r"crop \[32, 40\] on test_vit; expected multiples of 16"):
        learner.method_of(job, runtime)


def test_a_compiled_training_is_of_one_process(data, runtime, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer.processes, "world", lambda: 2)
    job = make_job(tmp_path, data)
    with pytest.raises(ConfigError, match=r"^train\.compile: true in 2 processes; expected false"):
        learner.method_of(replace(job, train=replace(job.train, compile=True)), runtime)


def test_a_method_is_told_before_each_step_and_given_the_unlabelled_images(
    tmp_path, data, runtime, monkeypatch
):
    told = []

    def before_step(self, progress, unlabeled):
        told.append((progress, len(unlabeled), unlabeled[0].shape[:2]))

    monkeypatch.setattr(base.MethodBase, "before_step", before_step)
    train(make_job(tmp_path / "run", data, method="supervised", steps=4), runtime)
    number = len(data.train) - 3
    assert told == [(k / 4, number, (1, 3)) for k in range(4)]


def content(folder):
    model = load(folder / "model.pt")
    written = [(folder / name).read_bytes() for name in ("log.jsonl", "snapshot.npz")]
    return model["network"], written


def assert_same_training(first, second):
    (network, log), (other_network, other_log) = content(first), content(second)
    assert log == other_log
    assert network.keys() == other_network.keys()
    for key, value in network.items():
        assert torch.equal(value, other_network[key]), key


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_the_resumed_training_has_the_same_bits(
    tmp_path, data, runtime, monkeypatch, number
):
    train(make_job(tmp_path / "whole", data), runtime)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5, number)
        with pytest.raises(Interrupted, match="stopped at step 6 of 10"):
            train(make_job(tmp_path / "cut", data), runtime)
    assert not (tmp_path / "cut/model.pt").exists()
    train(make_job(tmp_path / "cut", data), runtime)
    assert_same_training(tmp_path / "whole", tmp_path / "cut")


def test_a_crash_falls_back_to_the_last_state_and_ends_in_the_same_bits(
    tmp_path, data, runtime, monkeypatch
):
    train(make_job(tmp_path / "whole", data), runtime)
    with monkeypatch.context() as patch:
        crash_at(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            train(make_job(tmp_path / "cut", data), runtime)
    assert load(tmp_path / "cut/state.pt")["step"] == 4
    train(make_job(tmp_path / "cut", data), runtime)
    assert_same_training(tmp_path / "whole", tmp_path / "cut")


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path, data, runtime):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(make_job(tmp_path / name, data, seed=seed), runtime)
    assert_same_training(tmp_path / "a", tmp_path / "b")
    assert content(tmp_path / "a")[1] != content(tmp_path / "c")[1]


def test_the_end_leaves_a_model_a_record_and_a_log_and_no_state(tmp_path, data, runtime):
    train(make_job(tmp_path, data), runtime)
    names = {"model.pt", "record.json", "log.jsonl", "snapshot.npz"}
    assert {p.name for p in tmp_path.iterdir()} == names
    model = load(tmp_path / "model.pt")
    assert model["config"] == {"run": "test", "seed": 0}
    assert [c["name"] for c in model["classes"]] == list(data.classes.names)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["seconds_per_step"] > 0
    assert record["peak_memory_gib"] > 0


def test_the_log_has_every_term_the_rate_and_what_the_method_reports(tmp_path, data, runtime):
    train(make_job(tmp_path, data), runtime)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10]
    last = lines[-1]
    terms = [last[f"loss_{t}"] for t in ("supervised", "unsupervised_gen", "unsupervised_pro")]
    terms += [last["loss_anchor"], last["loss_similarity"]]
    assert last["loss"] == pytest.approx(sum(terms), rel=1e-5)
    assert last["lr"] == pytest.approx(0.05 * (1 - 9 / 10) ** 0.9)
    assert {"share_selected", "accuracy_selected", "accuracy_gen_teacher"} <= last.keys()
    labels, right = (last[f"{name}_gen_teacher_by_class"] for name in ("labels", "right"))
    assert len(labels) == len(data.classes)
    assert sum(right) / sum(labels) == pytest.approx(last["accuracy_gen_teacher"])
    assert len(last["labels_gen_teacher_by_confidence"]) == CONFIDENCE_BINS
    assert sum(last["labels_gen_teacher_by_confidence"]) == sum(labels)


def test_what_only_the_log_needs_is_measured_where_a_step_is_logged(
    tmp_path, data, runtime, monkeypatch
):
    asked = []
    measure = base.MethodBase.measure

    def counted(self, *arguments, **options):
        asked.append(self.measuring)
        measure(self, *arguments, **options)

    monkeypatch.setattr(base.MethodBase, "measure", counted)
    train(make_job(tmp_path, data, steps=5), runtime)
    assert asked == [step in (2, 4, 5) for step in range(1, 6) for _teacher in range(2)]


def test_the_snapshot_is_of_the_last_step(tmp_path, data, runtime):
    train(make_job(tmp_path, data), runtime)
    with np.load(tmp_path / "snapshot.npz") as file:
        found = dict(file)
    assert found["image_N3HW"].shape == (2, 3, 32, 32)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    share = found["selected_NHW"].sum() / found["valid_NHW"].sum()
    assert share == pytest.approx(last["share_selected"])
    assert found["confusion_CC"].sum() == found["valid_NHW"].sum()


def test_a_method_without_a_snapshot_leaves_none(tmp_path, data, runtime):
    train(make_job(tmp_path, data, method="supervised"), runtime)
    assert not (tmp_path / "snapshot.npz").exists()


def test_a_log_that_cannot_be_written_is_named_with_the_fix(tmp_path):
    log = Log(tmp_path / "log.jsonl", 0)
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(OSError, match=r"log\.jsonl cannot be written .* free some disk space"):
        log.write({"step": 1}, {})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_term_that_is_not_finite_stops_the_run_with_its_name_and_step(
    tmp_path, data, runtime, monkeypatch, bad
):
    class Broken(base.MethodBase):
        views = Views()

        def __init__(self, config, setting):
            super().__init__(config, setting)
            self.weight = torch.nn.Parameter(torch.ones(1, 1))

        def losses(self, batch, progress):
            worse = bad if progress >= 0.3 else 1.0
            return {"good": self.weight.sum(), "broken": self.weight.sum() * worse}

    monkeypatch.setattr(learner, "build", lambda name, config, setting: Broken(config, setting))
    with pytest.raises(FloatingPointError, match=r"step 3: loss terms not finite: {'broken': "):
        train(make_job(tmp_path, data, method="supervised"), runtime)
    assert not (tmp_path / "model.pt").exists()


def test_adamw_resumes_in_the_same_bits_and_warms_up(tmp_path, data, runtime, monkeypatch):
    def job(folder):
        usual = make_job(folder, data)
        return replace(usual, recipe=replace(usual.recipe, optimizer="adamw", warm_up=5, lr=0.01))

    train(job(tmp_path / "whole"), runtime)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5, signal.SIGTERM)
        with pytest.raises(Interrupted):
            train(job(tmp_path / "cut"), runtime)
    train(job(tmp_path / "cut"), runtime)
    assert_same_training(tmp_path / "whole", tmp_path / "cut")
    lines = (tmp_path / "whole/log.jsonl").read_text().splitlines()
    rates = [json.loads(line)["lr"] for line in lines]
    assert rates[0] == pytest.approx(0.01 * 2 / 5 * 0.9**0.9)
    assert rates[2] == pytest.approx(0.01 * 0.5**0.9)


def test_the_decay_by_hand():
    assert polynomial_decay(0, 100, 0.9) == 1
    assert polynomial_decay(50, 100, 1.0) == 0.5
    assert polynomial_decay(75, 100, 2.0) == 0.0625


@pytest.mark.parametrize("method", ["supervised", "stpg"])
@pytest.mark.parametrize(("num_labeled", "batch"), [(1, 2), (3, 8)])
def test_one_labelled_image_or_a_batch_larger_than_the_data_trains_to_the_end(
    tmp_path, data, runtime, method, num_labeled, batch
):
    job = make_job(tmp_path, data, method=method, steps=4)
    ids = [item.id for item in data.train]
    split = replace(job.split, labeled=tuple(ids[:num_labeled]), unlabeled=tuple(ids[num_labeled:]))
    train(replace(job, split=split, recipe=replace(job.recipe, batch=batch)), runtime)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert all(line["loss"] > 0 for line in lines)


def test_a_damaged_state_is_named(tmp_path, data, runtime):
    (tmp_path / "state.pt").write_bytes(b"not a state")
    with pytest.raises(ValueError, match=r"state.pt \(11 bytes\) is not a readable file"):
        train(make_job(tmp_path, data), runtime)


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_a_damaged_state_is_left_for_the_one_before(
    tmp_path, data, runtime, monkeypatch, capsys, damage
):
    train(make_job(tmp_path / "whole", data), runtime)
    with monkeypatch.context() as patch:
        crash_at(patch, 9)  # states of steps 4 and 8 are there
        with pytest.raises(KeyboardInterrupt):
            train(make_job(tmp_path / "cut", data), runtime)
    newest, previous = learner.states_of(tmp_path / "cut")
    assert [load(path)["step"] for path in (newest, previous)] == [8, 4]
    content = bytearray(newest.read_bytes())
    if damage == "cut":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        with zipfile.ZipFile(newest) as zipped:
            largest = max(zipped.infolist(), key=lambda entry: entry.file_size)
        content[largest.header_offset + 200 + largest.file_size // 2] ^= 1
        newest.write_bytes(content)
    else:
        newest.unlink()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5, signal.SIGINT)
        with pytest.raises(Interrupted, match="stopped at step 6 of 10"):
            train(make_job(tmp_path / "cut", data), runtime)
    said = "Not needed: going on from state.previous.pt, step 4" in capsys.readouterr().out
    assert said == (damage != "missing")
    # The whole one before is not lost to the damaged one.
    assert load(newest)["step"] == 6
    assert load(previous)["step"] == 4
    train(make_job(tmp_path / "cut", data), runtime)
    assert_same_training(tmp_path / "whole", tmp_path / "cut")
    assert not newest.exists()
    assert not previous.exists()


@contextmanager
def file_size_limit(size):
    """Inside, no file of this process can grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_for_a_state_ends_with_the_fix_and_keeps_the_one_before(
    tmp_path, data, runtime, monkeypatch
):
    train(make_job(tmp_path / "whole", data), runtime)
    usual = learner.save

    def save(path, state, **options):
        with file_size_limit(10_000) if state["step"] == 8 else nullcontext():
            usual(path, state, **options)

    with monkeypatch.context() as patch:
        patch.setattr(learner, "save", save)
        with pytest.raises(
            OSError, match=r"state\.pt could not be written \(.*free some disk space"
        ):
            train(make_job(tmp_path / "cut", data), runtime)
    names = {path.name for path in (tmp_path / "cut").iterdir()}
    assert names == {"log.jsonl", "state.pt", "state.previous.pt"}
    train(make_job(tmp_path / "cut", data), runtime)
    assert_same_training(tmp_path / "whole", tmp_path / "cut")


def test_a_killed_worker_is_named_and_the_training_goes_on_in_the_same_bits(
    tmp_path, data, runtime, monkeypatch
):
    train(make_job(tmp_path / "whole", data), runtime)
    job = make_job(tmp_path / "cut", data)
    job = replace(job, runtime=replace(job.runtime, workers=1))
    usual = learner.Learner.update

    def update(self, batch, current):
        if current == 6:
            for worker in psutil.Process().children():
                worker.kill()
            time.sleep(1)  # in which its end is noticed
        return usual(self, batch, current)

    with monkeypatch.context() as patch:
        patch.setattr(learner.Learner, "update", update)
        message = r"a process that loads data has ended \(.*: run again .*lower runtime\.workers"
        with pytest.raises(InputError, match=message):
            train(job, runtime)
    assert load(tmp_path / "cut/state.pt")["step"] == 4
    train(job, runtime)
    assert_same_training(tmp_path / "whole", tmp_path / "cut")


def test_a_clock_that_jumps_back_changes_nothing(tmp_path, data, runtime, monkeypatch):
    train(make_job(tmp_path / "whole", data), runtime)
    jumps = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    train(make_job(tmp_path / "back", data), runtime)
    assert_same_training(tmp_path / "whole", tmp_path / "back")
    record = json.loads((tmp_path / "back/record.json").read_text())
    assert 0 < record["minutes"] < 10


def test_no_memory_left_says_what_to_lower(tmp_path, data, runtime, monkeypatch):
    def losses(self, batch, progress):
        return {"supervised": torch.empty(1 << 60)}

    monkeypatch.setattr("pipeline.methods.supervised.Method.losses", losses)
    message = r"step 0: no memory left on cpu \(.*allocate memory.*lower `batch` or `crop`"
    with pytest.raises(InputError, match=message):
        train(make_job(tmp_path, data, method="supervised"), runtime)


class Slope(base.MethodBase):
    """One weight, whose gradient is the mean of the labelled images."""

    views = Views()

    def __init__(self, config, setting):
        super().__init__(config, setting)
        self.weight = torch.nn.Parameter(torch.zeros(1, 1))
        self.calls = []

    def losses(self, batch, progress):
        self.calls.append(len(batch.image_l))
        return {"mean": (self.weight * batch.image_l.mean()).sum()}

    def after_backward(self, progress):
        self.calls.append("backward")

    def after_update(self, progress):
        self.calls.append("update")

    def predictor(self):
        return self


def test_parts_of_a_batch_add_up_to_its_gradient(tmp_path, data, runtime, monkeypatch):
    methods = []
    monkeypatch.setattr(
        learner, "build", lambda *a: (methods.append(Slope(*a[1:])), methods[-1])[1]
    )
    for parts in (1, 2):
        job = make_job(tmp_path / str(parts), data, method="supervised", steps=1)
        train(replace(job, recipe=replace(job.recipe, batch=4, accumulate=parts)), runtime)
    whole, parted = methods
    assert whole.calls == [4, "backward", "update"]
    assert parted.calls == [2, "backward", 2, "backward", "update"]
    assert whole.weight != 0
    torch.testing.assert_close(parted.weight, whole.weight)
    logs = [(tmp_path / x / "log.jsonl").read_text() for x in "12"]
    lines = [json.loads(log) for log in logs]
    assert lines[1] == pytest.approx(lines[0])


def test_the_bank_of_stpg_takes_from_every_part(tmp_path, data, runtime, monkeypatch):
    pushed, usual = [], FeatureBank.push

    def push(self, feature, label):
        pushed.append(len(label))
        usual(self, feature, label)

    monkeypatch.setattr(FeatureBank, "push", push)
    job = make_job(tmp_path, data, steps=4)
    train(replace(job, recipe=replace(job.recipe, batch=4, accumulate=2)), runtime)
    assert len(pushed) == 2 * 3  # from the second step on, as bank_from says
    assert all(pushed)


def test_float16_scales_the_loss_and_resumes_in_the_same_bits(tmp_path, data, monkeypatch):
    runtime = set_up(TrainConfig(threads=1, precision="fp16"))
    assert runtime.scaler().is_enabled()
    train(make_job(tmp_path / "whole", data, method="supervised", steps=6), runtime)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, signal.SIGTERM)
        with pytest.raises(Interrupted):
            train(make_job(tmp_path / "cut", data, method="supervised", steps=6), runtime)
    assert load(tmp_path / "cut/state.pt")["scaler"]["scale"] > 1
    train(make_job(tmp_path / "cut", data, method="supervised", steps=6), runtime)
    whole, cut = (load(tmp_path / x / "model.pt")["network"] for x in ("whole", "cut"))
    assert all(torch.equal(cut[name], value) for name, value in whole.items())


def test_a_compiled_training_has_the_losses_of_one_that_is_not(
    tmp_path, data, runtime, monkeypatch
):
    # Traced as always; kernels are left to torch, whose compiler takes a minute for them.
    calls, usual = [], torch.compile

    def traced(function):
        compiled = usual(function, backend="aot_eager")
        return lambda *inputs: (calls.append(function), compiled(*inputs))[1]

    monkeypatch.setattr(learner.torch, "compile", traced)
    for name, compiled in (("eager", False), ("compiled", True)):
        job = make_job(tmp_path / name, data, method="supervised", steps=4)
        train(replace(job, train=replace(job.train, compile=compiled)), runtime)
    eager, compiled = (
        [json.loads(x)["loss"] for x in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("eager", "compiled")
    )
    assert compiled == pytest.approx(eager, rel=1e-3)
    assert len(calls) == 4
