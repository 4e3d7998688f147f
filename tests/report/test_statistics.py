import numpy as np
import pytest

from pipeline.report.statistics import Interval, mean_iou, over_images, over_seeds

pytestmark = pytest.mark.filterwarnings("error")
NONE = [0, 0, 0]


def counts(*images):
    """[1, I, 3, C] of one seed; an image is a list of classes, a class is hit, true, predicted."""
    return np.array([images], np.int32).swapaxes(2, 3)


def random_counts(generator, shape=(2, 5, 3)):
    """[S, I, 3, C] with hit <= true, predicted; a third of the classes is not on an image."""
    true = generator.integers(0, 50, shape) * (generator.random(shape) < 2 / 3)
    hit = generator.integers(0, true + 1)
    return np.stack([hit, true, hit + generator.integers(0, 9, shape)], axis=2).astype(np.int32)


def test_mean_iou_worked_by_hand():
    # 2 of 2 + 3 - 2, 1 of 4 + 1 - 1; nowhere
    assert mean_iou(counts([[2, 2, 3], [1, 4, 1], NONE])[0, 0]) == pytest.approx(
        (2 / 3 + 1 / 4) / 2
    )


def test_a_class_that_is_only_predicted_counts_nowhere():
    assert mean_iou(counts([[2, 2, 2], [0, 0, 5]])[0, 0]) == 1.0


def test_mean_iou_of_nothing_is_nan_there_only():
    got = mean_iou(counts([NONE, NONE], [[1, 1, 2], NONE])[0])
    np.testing.assert_array_equal(got, [np.nan, 0.5])


def test_one_image_leaves_no_doubt():
    # base 1 of 2 + 2 - 1; other 2 of 2
    got = over_images(counts([[1, 2, 2]]), counts([[2, 2, 2]]))
    assert got == pytest.approx((2 / 3, 2 / 3))


def test_two_images_worked_by_hand():
    # A quarter of the draws is twice the image where both are equal, a quarter twice the other.
    base = counts([[1, 2, 1]], [[0, 2, 2]])
    other = counts([[1, 2, 1]], [[2, 2, 2]])
    assert over_images(base, other) == (0, 1)
    assert over_images(other, base) == (-1, 0)


@pytest.mark.parametrize("block", [1, 2, 3])
def test_bootstrap_equals_the_slow_loop(block):
    generator = np.random.default_rng(1)
    base, other = random_counts(generator), random_counts(generator)
    num, draws = base.shape[1], 60
    firsts = np.random.default_rng(7).integers(num, size=(draws, -(-num // block)))
    differences = []
    for first in firsts:
        images = [(i + k) % num for i in first for k in range(block)][:num]
        scores = []
        for of_method in (base, other):
            for of_seed in of_method:
                ious = []
                for c in range(base.shape[3]):
                    hit, true, predicted = (sum(of_seed[i, k, c] for i in images) for k in range(3))
                    if true:
                        ious.append(hit / (true + predicted - hit))
                scores.append(sum(ious) / len(ious))
        differences.append(np.mean(scores[2:]) - np.mean(scores[:2]))
    want = np.percentile(differences, [2.5, 97.5])
    assert want[0] < want[1]
    got = over_images(base, other, block=block, draws=draws, seed=7)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_the_same_draws_are_taken_for_both():
    same = random_counts(np.random.default_rng(2))
    assert over_images(same, same) == (0, 0)


def test_films_of_like_frames_leave_more_doubt():
    # Ten scenes of ten equal frames each: single frames look like a hundred images.
    generator = np.random.default_rng(6)
    base, other = (
        random_counts(generator, (1, 10, 4)).repeat(10, axis=1).astype(np.int32) for _ in range(2)
    )
    widths = [high - low for low, high in (over_images(base, other, block=b) for b in (1, 10))]
    assert widths[1] > 2 * widths[0]
    # all at once, from wherever on: nothing is left to chance
    low, high = over_images(base, other, block=100)
    assert low == pytest.approx(high)


def test_the_same_interval_each_time():
    generator = np.random.default_rng(3)
    base, other = random_counts(generator), random_counts(generator)
    assert over_images(base, other) == over_images(base, other)


def test_a_class_that_few_images_have_leaves_the_draws_without_it():
    # Without the second image only the first class is there, and both have all of it.
    base = counts([[5, 5, 5], NONE], [[5, 5, 5], [0, 4, 0]])
    other = counts([[5, 5, 5], NONE], [[5, 5, 5], [4, 4, 4]])
    assert over_images(base, other) == (0, 0.5)


def test_counts_beyond_32_bits_add_up():
    many = 2_000_000_000
    base = counts(*[[[many // 2, many, many // 2]]] * 4)
    other = counts(*[[[many, many, many]]] * 4)
    assert over_images(base, other) == (0.5, 0.5)


def test_95_of_100_intervals_over_images_hold_the_truth():
    # Truth: all images of a population, of which each study has 60. Of 200 studies the share is
    # within 0.95 +- 0.05: three standard deviations, and the percentile bootstrap's own deficit.
    generator = np.random.default_rng(4)
    population, studies, images = 20_000, 200, 60
    true = generator.integers(0, 400, (population, 3)) * (generator.random((population, 3)) < 0.7)
    ease = generator.normal(0, 0.15, (population, 1))
    both = []
    for chance in (0.6, 0.64):
        seeds = []
        for _ in range(2):
            hit = generator.binomial(true, np.clip(chance + ease, 0, 1))
            wrong = generator.poisson(0.3 * (true.sum(axis=1, keepdims=True) - true) / 2)
            seeds.append(np.stack([hit, true, hit + wrong], axis=1))
        both.append(np.stack(seeds))
    base, other = both
    truth = np.mean(mean_iou(other.sum(axis=1)) - mean_iou(base.sum(axis=1)))
    held = 0
    for _ in range(studies):
        drawn = generator.integers(0, population, images)
        got = over_images(base[:, drawn], other[:, drawn], draws=400)
        held += got.low <= truth <= got.high
    assert 0.9 <= held / studies <= 0.99


def test_over_seeds_worked_by_hand():
    # Differences 1, 2, 3 points: mean 2, standard error 1 / sqrt(3); t of 2 degrees is 4.3027.
    base, other = np.array([0.50, 0.60, 0.40]), np.array([0.51, 0.62, 0.43])
    half = 4.302653 * 0.01 / np.sqrt(3)
    got = over_seeds(base, other)
    assert got == pytest.approx((0.02 - half, 0.02 + half), rel=1e-6)
    assert isinstance(got, Interval)


def test_two_seeds_are_the_fewest():
    # Differences 0 and 2 points: standard error 1 point; t of 1 degree is 12.7062.
    got = over_seeds(np.array([0.5, 0.5]), np.array([0.5, 0.52]))
    assert got == pytest.approx((0.01 - 0.127062, 0.01 + 0.127062), rel=1e-5)
    assert over_seeds(np.array([0.5]), np.array([0.6])) is None


def test_equal_scores_of_all_seeds_leave_no_doubt():
    same = np.array([0.5, 0.6, 0.7])
    assert over_seeds(same, same) == (0, 0)


def test_pairs_are_of_equal_seeds():
    # Seeds differ much, the methods by one point each time: paired, nothing is in doubt.
    base = np.array([0.2, 0.5, 0.8])
    assert over_seeds(base, base + 0.01) == pytest.approx((0.01, 0.01))


def test_95_of_100_intervals_over_seeds_hold_the_truth():
    # Of 2000 studies: 0.95 +- 0.02 is four standard deviations.
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(2000):
        luck = generator.normal(0.5, 0.05, 3)
        got = over_seeds(luck, luck + generator.normal(0.01, 0.02, 3))
        held += got.low <= 0.01 <= got.high
    assert 0.93 <= held / 2000 <= 0.97
