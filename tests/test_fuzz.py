import pytest

from tests.fuzz import fuzz, targets

NAMES = (
    "params.yaml", "paper.yaml", "classes.yaml", "val.txt", "list of images", "index.json",
    "split.json", "image", "mask", "mask in colours", "tar", "tgz", "zip", "model or state",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_parser_reads_or_refuses(name, tmp_path):
    target = targets(tmp_path)[name]
    found = fuzz(target, 40, start=1)
    assert set(found) <= {"read", "refused"}, "\n".join(found)
    assert found["refused"] > 0


def test_no_parser_is_left_out(tmp_path):
    assert set(targets(tmp_path)) == set(NAMES)
