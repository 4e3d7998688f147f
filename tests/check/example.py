"""A small study in which everything is in order."""

NETWORK = {"trunk": "resnet10t", "weights": "none"}
RUN = {"dataset": "shapes", "split": "half", "recipe": "short", "method": "mix"}
PARAMS = {
    "study": "tiny",
    "datasets": {"shapes": {"source": "folder"}},
    "splits": {"half": {"dataset": "shapes", "protocol": "standard", "partition": 2}},
    "recipes": {"short": {"crop": [32, 32], "batch": 2, "steps": 1, "lr": 0.1, "network": NETWORK}},
    "methods": {"mix": {"rate": 1.0, "bank": {"size": 4, "decay": 0.5}}, "plain": {}},
    "train": {},
    "evaluation": {"shapes": {"mode": "whole"}},
    "runs": {"one": RUN | {"seeds": [0]}},
    "examined": {"one": {"dataset": "shapes"}},
    "tables": ["first"],
}
