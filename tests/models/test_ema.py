import pytest
import torch
from torch import nn

from pipeline.models.ema import Teacher, TeacherConfig, update_teacher
from pipeline.typed import ConfigError, from_mapping


class Net(nn.Module):
    """One parameter, one real buffer, one integer buffer."""

    def __init__(self, weight, mean, count):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))
        self.register_buffer("mean", torch.tensor([mean]))
        self.register_buffer("count", torch.tensor(count))

    def values(self):
        return self.weight.item(), self.mean.item(), self.count.item()


def updated(config, num_updates):
    """A teacher of (1, 10, 5) after an update by a student of (2, 20, 9)."""
    teacher, student = Net(1.0, 10.0, 5), Net(2.0, 20.0, 9)
    update_teacher(teacher, student, config, num_updates)
    assert student.values() == (2.0, 20.0, 9)
    return teacher.values()


@pytest.mark.parametrize(
    ("num_updates", "share"),
    # decay min(1 - 1 / (i + 1), 0.75): 0, 1/2, 2/3, 3/4, 3/4
    [(0, 1), (1, 1 / 2), (2, 1 / 3), (3, 1 / 4), (99, 1 / 4)],
)
def test_warm_up_by_hand(num_updates, share):
    got = updated(TeacherConfig(decay=0.75), num_updates)
    assert got == pytest.approx((1 + share, 10 + 10 * share, 9))


@pytest.mark.parametrize("num_updates", [0, 99])
def test_without_warm_up_the_decay_is_the_same_from_the_first_step(num_updates):
    got = updated(TeacherConfig(decay=0.75, warm_up=False), num_updates)
    assert got == pytest.approx((1.25, 12.5, 9))


def test_buffers_stay_where_they_are_not_averaged():
    config = TeacherConfig(decay=0.75, average_buffers=False, mode="train")
    assert updated(config, 99) == pytest.approx((1.25, 10, 5))


def test_the_first_update_makes_the_teacher_equal_to_the_bit():
    student = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    teacher = Teacher(student, TeacherConfig())
    with torch.no_grad():
        for value in (*student.parameters(), *student.buffers()):
            value.add_(3) if value.dtype == torch.int64 else value.mul_(1.7).add_(0.3)
    teacher.follow(student)
    torch.testing.assert_close(teacher.average.state_dict(), student.state_dict(), rtol=0, atol=0)


def test_a_teacher_is_a_copy_that_no_gradient_reaches():
    student = nn.Linear(2, 1)
    teacher = Teacher(student, TeacherConfig())
    feature = torch.ones(1, 2)
    (student(feature) - teacher(feature)).square().sum().backward()
    assert student.weight.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())
    teacher.follow(student)
    assert not any(p.requires_grad for p in teacher.parameters())
    with torch.no_grad():
        student.weight.zero_()
    assert teacher.average.weight.all()


def test_a_teacher_counts_its_updates_and_keeps_the_count():
    config = TeacherConfig(decay=0.75)
    student = Net(2.0, 20.0, 9)
    teacher = Teacher(Net(1.0, 10.0, 5), config)
    teacher.follow(student)  # the first makes it equal
    student.weight.data += 1
    teacher.follow(student)  # 1/2 of the way
    assert teacher.average.values() == pytest.approx((2.5, 20, 9))
    resumed = Teacher(Net(0.0, 0.0, 0), config)
    resumed.load_state_dict(teacher.state_dict())
    resumed.follow(student)  # 1/3
    assert resumed.average.values() == pytest.approx((2.5 + 0.5 / 3, 20, 9))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_teacher_predicts_in_the_mode_it_is_told(mode):
    teacher = Teacher(nn.BatchNorm1d(2), TeacherConfig(mode=mode))
    whole = nn.ModuleList([teacher])
    assert teacher.average.training == (mode == "train")
    assert whole.train()[0].average.training == (mode == "train")
    assert not whole.eval()[0].average.training


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"decay": 1.5}, r"teacher\.decay: 1\.5; expected 0\.0 to 1\.0"),
        (
            {"average_buffers": False},
            r"teacher\.average_buffers: false with teacher\.mode eval; expected true, or mode",
        ),
    ],
)
def test_a_teacher_that_cannot_work_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(TeacherConfig, given, "teacher")
