"""Every metric on cases counted by hand, and against other definitions of the same thing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn.metrics import balanced_accuracy_score

from system.scoring import metrics

SCORES = np.array(
    [
        [0.5, 0.3, 0.1, 0.1],
        [0.1, 0.2, 0.3, 0.4],
        [0.25, 0.45, 0.2, 0.1],
        [0.1, 0.2, 0.4, 0.3],
    ]
)
TRUTH = np.array([0, 2, 0, 1])  # ranked first, second, second, third


def test_top_k_accuracy() -> None:
    assert [metrics.top_k_accuracy(SCORES, TRUTH, k) for k in (1, 2, 3, 4, 5)] == [0.25, 0.75, 1.0, 1.0, 1.0]


def test_top_k_accuracy_of_two_classes() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.7, 0.3], [0.4, 0.6]])
    truth = np.array([0, 1, 0, 1, 1])  # all right but the fourth
    assert metrics.top_k_accuracy(scores, truth, 1) == 0.8  # equal scores: the first class
    assert metrics.top_k_accuracy(scores, truth, 2) == 1.0


def test_mean_per_class_accuracy() -> None:
    predicted, truth = np.array([0, 0, 1, 1, 3]), np.array([0, 0, 0, 1, 1])
    assert metrics.mean_per_class_accuracy(predicted, truth) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_several_labels_have_the_mean_of_balanced_accuracies() -> None:
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, 2, (2, 200, 3))
    assert metrics.yes_no(np.array([[1, 0, 1]])).tolist() == [[1, 2, 5]]
    found = metrics.mean_per_class_accuracy(metrics.yes_no(predicted).ravel(), metrics.yes_no(truth).ravel())
    assert found == pytest.approx(np.mean([balanced_accuracy_score(truth[:, c], predicted[:, c]) for c in range(3)]))


def test_average_precision_and_auc() -> None:
    # the positives are ranked first and third of four: precisions 1 and 2/3; they win three of their four pairs
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    truth = np.array([[1], [0], [1], [0]])
    assert metrics.average_precision(scores, truth) == pytest.approx([(1 + 2 / 3) / 2])
    assert metrics.roc_auc(scores, truth) == pytest.approx([3 / 4])


def test_a_class_that_none_or_all_clips_have_is_left_out() -> None:
    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.6, 0.3]])
    truth = np.array([[1, 0, 1], [0, 0, 1]])
    for values in (metrics.average_precision(scores, truth), metrics.roc_auc(scores, truth)):
        assert values[0] == 1.0
        assert np.isnan(values[1:]).all()
    assert metrics.ranking_scores(scores, truth)["mAP"] == 1.0
    nothing = metrics.ranking_scores(scores[:, 1:], truth[:, 1:])
    assert nothing == {"mAP": None, "AUC": None, "d_prime": None, "d_prime_of_mean_auc": None}


def test_d_prime_is_a_distance_of_normal_distributions() -> None:
    assert metrics.d_prime(0.5) == pytest.approx(0.0)
    assert metrics.d_prime(np.array([ndtr(2.5 / np.sqrt(2)), ndtr(-1 / np.sqrt(2))])) == pytest.approx([2.5, -1.0])
    generator = np.random.default_rng(0)
    signal, noise = generator.normal(1.5, 1, 4000), generator.normal(0, 1, 4000)
    auc = metrics.roc_auc(np.concatenate([signal, noise])[:, None], np.repeat([1, 0], 4000)[:, None])
    assert metrics.d_prime(auc) == pytest.approx([1.5], abs=0.05)


@pytest.mark.parametrize(("auc", "printed"), [(0.973, 2.74), (0.974, 2.75), (0.975, 2.76), (0.976, 2.79)])
def test_d_prime_of_the_mean_auc_is_what_paper_000_prints(auc: float, printed: float) -> None:
    """Its Table 1 gives both, the AUC to a tenth of a percent."""
    low, high = metrics.d_prime(np.array([auc - 0.0005, auc + 0.0005]))
    assert low - 0.005 <= printed <= high + 0.005


def test_paper_004_prints_the_other_d_prime() -> None:
    """Table 1: CNN14 as in PANNs has AUC .973 and 2.732; CNN14 (rep.), averaged over classes, .972 and 2.971."""
    assert metrics.d_prime(0.973) == pytest.approx(2.732, abs=0.03)
    assert metrics.d_prime(0.9725) < 2.8 < 2.971


def test_the_two_d_primes() -> None:
    # AUCs of 3/4 and 1; the perfect one is known to half of a step of 1/4
    scores = np.array([[0.9, 0.9], [0.8, 0.8], [0.7, 0.2], [0.6, 0.1]])
    truth = np.array([[1, 1], [0, 1], [1, 0], [0, 0]])
    found = metrics.ranking_scores(scores, truth)
    assert found["AUC"] == pytest.approx(7 / 8)
    assert found["d_prime"] == pytest.approx(np.mean(metrics.d_prime(np.array([3 / 4, 7 / 8]))))
    assert found["d_prime_of_mean_auc"] == pytest.approx(metrics.d_prime(13 / 16))


def test_classification_scores() -> None:
    found = metrics.classification_scores(SCORES, TRUTH)
    assert (found["top_1"], found["top_5"]) == (0.25, 1.0)
    # class 0: clips 0 and 2 rank first and second; class 1: clip 3 shares ranks three and four with clip 1;
    # class 2: clip 1 ranks second; class 3 does not occur
    assert found["mAP"] == pytest.approx((1 + 1 / 4 + 1 / 2) / 3)
    assert found["AUC"] == pytest.approx((1 + 0.5 / 3 + 2 / 3) / 3)


def test_actions_are_pairs() -> None:
    # clip 0: verb 0 and noun 1 are the best of their kind; clip 1: verb right, noun second
    verb_scores = np.log(np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]]))
    noun_scores = np.log(np.array([[0.1, 0.5, 0.4], [0.5, 0.1, 0.4]]))
    found = metrics.action_scores(verb_scores, noun_scores, np.array([0, 0]), np.array([1, 2]), ks=(1, 2))
    assert found["top_1"] == {"verb": 1.0, "noun": 0.5, "action": 0.5}
    # of clip 1 the pairs (0, 0) 0.30 and (0, 2) 0.24 lead
    assert found["top_2"] == {"verb": 1.0, "noun": 1.0, "action": 1.0}


def test_a_verb_and_a_noun_among_five_are_no_action_among_five() -> None:
    flat = np.zeros((1, 6))
    flat[0, :5] = [1.4, 1.3, 1.2, 1.1, 1.0]
    found = metrics.action_scores(flat, flat, np.array([4]), np.array([4]))
    assert found["top_5"] == {"verb": 1.0, "noun": 1.0, "action": 0.0}


def test_actions_of_many_clips_against_counting() -> None:
    generator = np.random.default_rng(1)
    n = 2 * metrics.CHUNK + 5
    verb_scores, noun_scores = generator.normal(size=(n, 7)), generator.normal(size=(n, 4))
    verb, noun = generator.integers(7, size=n), generator.integers(4, size=n)
    found = metrics.action_scores(verb_scores, noun_scores, verb, noun)
    own = verb_scores[np.arange(n), verb] + noun_scores[np.arange(n), noun]  # log of the product, but for a constant
    above = (verb_scores[:, :, None] + noun_scores[:, None, :] > own[:, None, None] + 1e-12).sum(axis=(1, 2))
    assert found["top_1"]["action"] == pytest.approx(np.mean(above < 1))
    assert found["top_5"]["action"] == pytest.approx(np.mean(above < 5))


def test_unseen_participants() -> None:
    scores = np.eye(3)[[0, 1, 2, 0]]
    truth = np.array([0, 1, 0, 1])  # right, right, wrong, wrong
    found = metrics.epic_kitchens_scores(scores, scores, truth, truth, ["P01", "P02", "P02", "P03"], {"P01", "P03"})
    assert found["overall"]["top_1"] == {"verb": 0.5, "noun": 0.5, "action": 0.5}
    assert found["unseen"] == {"top_1": {"verb": 0.5, "noun": 0.5, "action": 0.5}}
    assert found["unseen_clips"] == 2
    assert metrics.epic_kitchens_scores(scores, scores, truth, truth, ["P01"] * 4, {"P01"})["unseen"] is None
