"""A study of a few trainings that nobody runs."""

from typing import Any

import yaml

from pipeline.config import Params
from pipeline.typed import from_mapping

STUDY = """
study: tiny
datasets: {blocks: {source: folder}, absent: {source: folder}}
splits:
  half: {dataset: blocks, protocol: standard, partition: 2}
  later: {dataset: absent, protocol: standard, partition: 2}
recipes:
  short: {crop: [32, 32], batch: 2, steps: 4, lr: 0.1, network: {trunk: resnet10t, weights: none}}
methods: {supervised: {}, stpg: {lambda_u: 1.0}}
train: {}
evaluation: {blocks: {mode: whole}, absent: {mode: whole}}
runs:
  plain:
    {dataset: blocks, split: half, recipe: short, method: supervised, seeds: [0, 1, 2]}
  ours:
    {dataset: blocks, split: half, recipe: short, method: stpg, seeds: [0]}
  late:
    {dataset: absent, split: later, recipe: short, method: supervised, seeds: [0]}
examined: {plain: {dataset: blocks}}
"""


def study(**changes: Any) -> Params:
    """The study above, with keys of the section `methods` set."""
    content = yaml.safe_load(STUDY)
    content["methods"] |= changes
    return from_mapping(Params, content, "")
