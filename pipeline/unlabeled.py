"""What methods do alike with a step's unlabelled images."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.augment.cutmix import CutMix, CutMixConfig
from pipeline.batch import Batch
from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.segmentation import PseudoLabel, pseudo_label
from pipeline.metrics import CONFIDENCE_BINS
from pipeline.models.deeplab import Output


def boxes_of(batch: Batch, config: CutMixConfig, *, name: str = "cutmix") -> CutMix:
    """The boxes that mix the batch's unlabelled images, drawn from the stream called `name`."""
    num = len(batch.valid_u)
    if config.partner == "drawn":
        num = len(batch.label_l)
        assert len(batch.valid_u) == 2 * num, "partners are drawn where `Views.partners` says so"
    return CutMix(
        config,
        num,
        batch.valid_u.shape[-2:],
        generator=batch.stream(name),
        device=batch.valid_u.device,
    )


def valid_pixels(batch: Batch) -> Tensor:
    """Bool [N + M, H, W], labelled images and then unlabelled: what has a label, or no padding."""
    return torch.cat([batch.label_l != IGNORE_INDEX, batch.valid_u])


def forward_each(network: nn.Module, *images_NCHW: Tensor, together: bool = True) -> list[Output]:
    """The outputs of several batches of images.

    Args:
      together: those of one size in one pass, so that they share batch statistics, or each in one
        of its own.
    """
    if not together:
        return [network(image) for image in images_NCHW]
    outputs: dict[int, Output] = {}
    for size in dict.fromkeys(image.shape[-2:] for image in images_NCHW):
        numbers = [i for i, image in enumerate(images_NCHW) if image.shape[-2:] == size]
        joint = network(torch.cat([images_NCHW[i] for i in numbers]))
        lengths = [len(images_NCHW[i]) for i in numbers]
        parts = zip(*(x.split(lengths) for x in joint), strict=True)
        outputs |= {i: type(joint)(*part) for i, part in zip(numbers, parts, strict=True)}
    return [outputs[i] for i in range(len(images_NCHW))]


def labels_of(
    networks: Mapping[str, nn.Module], image_NCHW: Tensor, mixed: CutMix
) -> dict[str, PseudoLabel]:
    """What each network says about unmixed images, mixed as the images are; without graph."""
    return {
        name: mixed_label(look(network, image_NCHW, mixed), mixed)
        for name, network in networks.items()
    }


def mixed_label(logits_NCHW: Tensor, mixed: CutMix) -> PseudoLabel:
    """What logits of unmixed images say, mixed as the images are."""
    return PseudoLabel(*map(mixed, pseudo_label(logits_NCHW)))


@torch.no_grad()
def look(network: nn.Module, image_NCHW: Tensor, mixed: CutMix) -> Tensor:
    """A network's logits of unmixed images; drawn partners have a pass of their own."""
    if not mixed.drawn_partners:
        return network(image_NCHW).logits
    outputs = forward_each(network, *image_NCHW.chunk(2), together=False)
    return torch.cat([output.logits for output in outputs])


def accuracy(label_NHW: Tensor, truth_NHW: Tensor, among_NHW: Tensor) -> Tensor:
    """Share of right labels among the pixels whose truth is known; nan if there are none."""
    known_NHW = among_NHW & (truth_NHW != IGNORE_INDEX)
    return (known_NHW & (label_NHW == truth_NHW)).sum() / known_NHW.sum()


def measured(
    taught: PseudoLabel, truth_NHW: Tensor, valid_NHW: Tensor, *, num_classes: int, teacher: str
) -> dict[str, Tensor]:
    """For the log: how right a teacher's labels are where the truth is known, and how sure.

    Returns:
      accuracy and mean confidence; and int64 numbers of labels, and of right ones among them, by
      their class [C] and by confidence [CONFIDENCE_BINS].
    """
    label_NHW, confidence_NHW = taught
    known_NHW = valid_NHW & (truth_NHW != IGNORE_INDEX)
    right_NHW = known_NHW & (label_NHW == truth_NHW)
    bin_NHW = (confidence_NHW * CONFIDENCE_BINS).long().clamp(max=CONFIDENCE_BINS - 1)
    found = {
        f"accuracy_{teacher}": accuracy(label_NHW, truth_NHW, valid_NHW),
        f"confidence_{teacher}": confidence_NHW[valid_NHW].mean(),
    }
    for name, among_NHW in (("labels", known_NHW), ("right", right_NHW)):
        by_class = label_NHW[among_NHW].bincount(minlength=num_classes)
        by_confidence = bin_NHW[among_NHW].bincount(minlength=CONFIDENCE_BINS)
        found |= {
            f"{name}_{teacher}_by_class": by_class,
            f"{name}_{teacher}_by_confidence": by_confidence,
        }
    return found
