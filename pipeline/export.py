"""A trained network as an ONNX file, checked against PyTorch, with a card that describes it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.artifacts import writing_whole
from pipeline.evaluate import to_whole_strides
from pipeline.seeding import stream
from pipeline.typed import InputError

TOLERANCE = 1e-4
"""Between the probabilities of both."""


class Probabilities(nn.Module):
    """From RGB images in [0, 1], float32 [N, 3, H, W], to probabilities [N, C, H, W]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """As `pipeline.evaluate.predict` has them, of whole images."""
        height, width = image.shape[-2:]
        logits = self.network(to_whole_strides(image)).logits[..., :height, :width]
        return logits.float().softmax(dim=1)


def export_onnx(network: nn.Module, path: Path, size: tuple[int, int]) -> float:
    """Writes `path`, for any number of images of one size; returns the largest difference.

    Raises:
      InputError: a package is missing, or the file's probabilities differ from PyTorch's by more
        than `TOLERANCE`; then no file is left.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise InputError(
            f"{error.name} is missing: pip install -r requirements-export.txt"
        ) from None
    model = Probabilities(network).eval()
    images = torch.rand(2, 3, *size, generator=stream(0, "export"))
    with writing_whole(path) as partial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter about itself
            torch.onnx.export(
                model,
                (images,),
                str(partial),
                input_names=["image"],
                output_names=["probability"],
                dynamic_shapes={"image": {0: torch.export.Dim("number", min=1)}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        largest = 0.0
        for batch in (images, images[:1]):
            with torch.inference_mode():
                want = model(batch).numpy()
            (got,) = session.run(None, {"image": batch.numpy()})
            largest = max(largest, float(np.abs(got - want).max()))
        if not largest <= TOLERANCE:
            raise InputError(
                f"{path}: probabilities differ by {largest:.2g} from PyTorch's; expected at most "
                f"{TOLERANCE}: try another version of onnxscript"
            )
    return largest


def card(
    model: dict[str, Any], seed: dict[str, Any], size: tuple[int, int], difference: float
) -> str:
    """A model card in Markdown: what the model is of, how well it does, and what to mind.

    Args:
      model: a model file's content.
      seed: what the run's metrics file says of this seed.
      size: of the exported images, height and width.
      difference: what `export_onnx` returned.
    """
    config, classes = model["config"], model["classes"]
    recipe, split, network = config["recipe"], config["split"], config["recipe"]["network"]
    rows = [
        f"| {k} | {entry['name']} | {'none' if iou is None else f'{100 * iou:.1f}'} |"
        for k, (entry, iou) in enumerate(zip(classes, seed["iou"], strict=True))
    ]
    versions = ", ".join(f"{name} {text}" for name, text in sorted(config["versions"].items()))
    return "\n".join(
        [
            f"# {config['run']}, seed {config['seed']}",
            "",
            f"Semantic segmentation into {len(classes)} classes: DeepLabV3+ on "
            f"`{network['trunk']}`, trained by `{config['method']}` from {split['labeled']} "
            f"labelled and {split['unlabeled']} unlabelled images of `{config['dataset']['name']}` "
            f"({recipe['steps']} steps, crops of {recipe['crop'][0]} x {recipe['crop'][1]}, batch "
            f"{recipe['batch']}).",
            "",
            "## Use",
            "",
            f"Input `image`: float32 [N, 3, {size[0]}, {size[1]}], RGB in [0, 1], any N; the "
            "network normalises by itself. Output `probability`: float32 "
            f"[N, {len(classes)}, {size[0]}, {size[1]}]; the class is its argmax. On random images "
            f"it differs from PyTorch's by {difference:.1g} at most.",
            "",
            "## Measured",
            "",
            f"mIoU {100 * seed['miou']:.2f} % on the validation images of "
            f"`{config['dataset']['name']}`, one scale, no flip.",
            "",
            "| index | class | IoU (%) |",
            "|---:|---|---:|",
            *rows,
            "",
            "## Limits",
            "",
            "- It knows these classes only, and gives every pixel one of them, also where it has "
            "never seen the like.",
            "- It was scored on images like those that it was trained on; on others, measure it.",
            "- Its probabilities are not calibrated: see the report's calibration figure.",
            f"- Pictures of other sizes than {size[0]} x {size[1]}: export again with `--size`, or "
            "cut them into windows.",
            "",
            "## Licence",
            "",
            "The code is under the MIT licence. A model is subject to the terms of the images that "
            f"it was trained on (`{config['dataset']['name']}`) and of its pretrained weights "
            f"(`{network['weights']}`): look them up before you pass it on.",
            "",
            f"Made at commit {config['commit']} with {versions}.",
            "",
        ]
    )
