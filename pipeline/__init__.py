"""STPG as a pipeline: data, networks, losses, methods, trainer, evaluation, report."""
