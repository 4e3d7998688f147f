"""s4GAN's discriminator: is this the ground truth of that image?"""

import torch
from torch import Tensor, nn


class Discriminator(nn.Module):
    """From an image and a label map of it to one logit, high for ground truth, and the features.

    Four convolutions of stride 2, whose last map is averaged over the image; images have at least
    16 pixels a side.
    """

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = num_classes + 3
        for number in range(4):
            outputs = width * 2**number
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            if number < 3:
                layers.append(nn.Dropout2d(0.5))
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.score = nn.Linear(inputs, 1)

    def forward(self, image_N3HW: Tensor, prob_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N] and features [N, D]."""
        feature_ND = self.layers(torch.cat([prob_NCHW, image_N3HW], dim=1)).mean(dim=(2, 3))
        return self.score(feature_ND).squeeze(1), feature_ND
