"""PseudoSeg (Zou et al., ICLR 2021; arXiv:2010.09713): designing pseudo-labels.

One network, which teaches itself. A classifier of images on its trunk learns what labelled images
show; Grad-CAM says where, and self-attention over features makes logits of that, which learn the
labelled pixels. On the weak view these and the decoder's logits, brought to one scale, averaged as
probabilities and sharpened, are the soft label of every pixel of the strong view.

Grad-CAM is taken from the classifier's weights, which is the same (`activation_maps`). As in the
code: the scale is one for the batch; the weak view's decoder sees batch statistics, its Grad-CAM
running ones, of the classes that the classifier believes in; consistency is at the decoder's
stride; features are those of the trunk's last two stages.

Deviations: the unlabelled images are not also the labelled ones; colours change as in FixMatch
(there: always, without grey and blur); the erased box has a random shape and lies inside the image
(there: a square of 100 of 513 pixels, cut at the border); labelled images attend to what has a
label (there: what is not padding); no dropout before the classifier, as in the code's ResNet (its
Xception has it); weight decay is the recipe's (there: none of queries, keys and what follows).
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.cells import at_cells
from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.image_level import (
    activation_maps,
    calibrated_mean,
    classes_in,
    sharpen,
    soft_cross_entropy,
)
from pipeline.losses.segmentation import PseudoLabel, pseudo_label
from pipeline.methods.base import MethodBase, Setting
from pipeline.models.deeplab import initialise
from pipeline.models.score_attention import ScoreAttention, in_eval_mode
from pipeline.seeding import drawn_from
from pipeline.teaching import Thresholded
from pipeline.typed import ConfigError, at_least
from pipeline.unlabeled import boxes_of


@dataclass(frozen=True)
class Config(Thresholded):
    """Parameters of PseudoSeg."""

    threshold: float = 0.0
    """Probability in the sharpened label from which on a pixel is learnt; published: 0, so all."""
    temperature: float = 0.5
    dim: int = 128
    """Of queries and keys."""
    stages: int = 2
    """Last stages of the trunk whose features queries and keys are made of."""
    background: bool = True
    """Class 0 is what no other is (VOC), and images are not classified for it. Elsewhere false."""
    cutout: CutMixConfig = field(
        default_factory=lambda: CutMixConfig(num_boxes=1, ratio=(0.038, 0.038))
    )
    """The box of the strong view that is erased and not learnt."""

    def check(self, key: str) -> None:
        """A weight, a probability, sizes; a temperature divides."""
        super().check(key)
        at_least(key, "temperature", self.temperature, 0.01)
        for name in ("dim", "stages"):
            at_least(key, name, getattr(self, name), 1)
        if self.cutout.partner != "next":
            raise ConfigError(f"{key}.cutout.partner: 'drawn'; expected 'next': nothing is pasted")


class Method(MethodBase):
    """One network, a classifier of images, and attention over what that one sees."""

    views = Views(unlabeled=True, strong=1)

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        networks = setting.networks
        network = networks.network("student")
        channels = network.trunk.body.feature_info.channels()
        if config.stages > len(channels):
            raise ConfigError(
                f"methods.pseudoseg.stages: {config.stages} with network.trunk_stages "
                f"{len(channels)}; expected at most as many"
            )
        self.students = nn.ModuleDict({"student": network})
        num_shown = self.num_classes - int(config.background)
        with drawn_from(networks.seed, "classifier", "image"):
            self.classifier = nn.Conv2d(network.trunk.out_channels, num_shown, 1)
            initialise(self.classifier)
        with drawn_from(networks.seed, "attention"):
            width = sum(channels[-config.stages :])
            self.attention = ScoreAttention(width, config.dim, self.num_classes)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """What labels teach network, classifier and attention, and what the weak view teaches."""
        self.diagnostics = {}
        network, size = self.students["student"], batch.image_l.shape[-2:]
        maps = network.trunk.maps(batch.image_l)
        logits = network.decode(maps[network.trunk.low_level], maps[-1], size).logits
        present = classes_in(batch.label_l, num_classes=self.num_classes)
        present = present[:, int(self.config.background) :]
        attended = self.attend(maps, present, batch.label_l != IGNORE_INDEX)
        terms = {
            "supervised": self.labeled_loss(logits, batch.label_l),
            "attention": self.labeled_loss(network.upsample(attended, size), batch.label_l),
            "classification": F.binary_cross_entropy_with_logits(
                self.classify(maps[-1]).float(), present.float()
            ),
        }
        if progress >= self.unsupervised_from:
            terms["unsupervised"] = self.config.lambda_u * self.consistency(batch)
        return terms

    def classify(self, high: Tensor) -> Tensor:
        """Logits of whether an image shows each class: [N, C], without the background."""
        return self.classifier(high.mean(dim=(2, 3), keepdim=True)).flatten(1)

    def attend(self, maps: list[Tensor], present: Tensor, valid: Tensor) -> Tensor:
        """Logits at the trunk's stride.

        Args:
          maps: of the trunk's stages.
          present: bool [N, C], the classes whose Grad-CAM counts.
          valid: bool [N, H, W], of the images' size.
        """
        network, size = self.students["student"], maps[-1].shape[-2:]
        used = [network.upsample(each.detach(), size) for each in maps[-self.config.stages :]]
        score = activation_maps(maps[-1], self.classifier.weight.flatten(1), present)
        valid = at_cells(valid, size, align_corners=network.align_corners)
        return self.attention(torch.cat(used, dim=1), score, valid)

    def consistency(self, batch: Batch) -> Tensor:
        """Cross-entropy of the strong view with the weak view's soft labels."""
        network = self.students["student"]
        erased = boxes_of(batch, self.config.cutout).box_NHW
        # What is erased is 0 to the trunk.
        image = batch.strong_u[0].where(~erased[:, None], network.trunk.mean)
        valid = batch.valid_u & ~erased
        target = self.teach(batch, valid)
        logits = network.classifier(network(image).decoder)
        valid = at_cells(valid, target.shape[-2:], align_corners=network.align_corners)
        learnt = target.amax(dim=1) >= self.config.threshold
        return soft_cross_entropy(logits, target, learnt, valid)

    @torch.no_grad()
    def teach(self, batch: Batch, valid: Tensor) -> Tensor:
        """The soft labels, at the decoder's stride."""
        network = self.students["student"]
        decoded = network.classifier(network(batch.image_u).decoder)
        with in_eval_mode(network.trunk):
            maps = network.trunk.maps(batch.image_u)
        present = self.classify(maps[-1]) >= 0  # a probability of a half
        attended = network.upsample(self.attend(maps, present, valid), decoded.shape[-2:])
        prob = calibrated_mean(decoded, attended)
        confidence, label = prob.max(dim=1)
        truth, counted = (
            at_cells(value, prob.shape[-2:], align_corners=network.align_corners)
            for value in (batch.truth_u, valid)
        )
        for name, taught in (
            ("teacher", PseudoLabel(label, confidence)),
            ("decoder", pseudo_label(decoded)),
            ("attention", pseudo_label(attended)),
        ):
            self.measure(taught, truth, counted, teacher=name)
        return sharpen(prob, temperature=self.config.temperature)

    def predictor(self) -> nn.Module:
        """The network without classifier and attention."""
        return self.students["student"]
