import pytest
import yaml

from pipeline.artifacts import ROOT
from stages.download import check


def test_a_source_says_what_it_filled_the_folder_with():
    check({"one.tar": "md5:0", "two": "sha256:0"}, "pairs")
    for made_of in (None, {}, ["one.tar"], {"one.tar": None}):
        with pytest.raises(TypeError, match=r"sources/pairs\.py: download\(\) returned"):
            check(made_of, "pairs")


def test_no_cache_of_dvc_holds_a_manifest_without_its_folder():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    ((_, how),) = stages["download"]["do"]["outs"][0].items()
    assert how == {"cache": False, "persist": True}
