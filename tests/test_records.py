"""What the committed results say of themselves."""

import json
import shutil
import subprocess

import pytest

from pipeline.artifacts import ROOT


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.skipif(
    shutil.which("git") is None
    or git("rev-parse", "--is-shallow-repository").stdout.strip() != "false",
    reason="needs the whole history",
)
def test_every_committed_record_names_a_commit_of_the_history():
    names = git("ls-files", "reports/*/records/*.json").stdout.splitlines()
    present = [ROOT / name for name in names if (ROOT / name).exists()]
    commits = {
        record["commit"].removesuffix("-dirty")
        for path in present
        for record in json.loads(path.read_text())
    }
    assert commits
    for commit in commits:
        assert git("merge-base", "--is-ancestor", commit, "HEAD").returncode == 0, commit
