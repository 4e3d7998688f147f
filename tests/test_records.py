"""What the committed results say of themselves."""

import json
import subprocess

import pytest

from pipeline.artifacts import ROOT


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.skipif(
    git("rev-parse", "--is-shallow-repository").stdout.strip() != "false",
    reason="needs the whole history",
)
def test_every_record_names_a_commit_that_can_be_checked_out():
    commits = {
        record["commit"]
        for path in ROOT.glob("reports/*/records/*.json")
        for record in json.loads(path.read_text())
    }
    assert commits
    for commit in commits:
        found = git("merge-base", "--is-ancestor", commit.removesuffix("-dirty"), "HEAD")
        assert found.returncode == 0, commit
