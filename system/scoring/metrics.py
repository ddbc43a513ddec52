"""The papers' scores, over arrays: what a table of published results can be compared with.

n is a number of clips (or segments), C of classes. Scores may be logits or probabilities: only their order counts.
Shares run from 0 to 1. Everything is computed by scikit-learn and scipy; what is ours is which classes are averaged.
Paper 000: Tables 1 and 2. Paper 001: Section IV-D, Tables II to IV. Paper 004: Section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri, softmax
from sklearn.metrics import average_precision_score, recall_score, roc_auc_score, top_k_accuracy_score

CHUNK = 256  # clips whose verb-noun pairs are scored at once: 97 x 300 of them each in EPIC-KITCHENS-100


def top_k_accuracy(scores: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Share of the clips whose class is among the k best: scores (n, C), truth (n,) class indices (001, IV-D)."""
    return top_k_hits(scores, truth, k) / len(truth)


def top_k_hits(scores: np.ndarray, truth: np.ndarray, k: int) -> int:
    """How many clips have their class among the k best: scores (n, C), truth (n,) class indices."""
    classes = scores.shape[1]
    if k >= classes:
        return len(truth)
    if classes == 2:  # scikit-learn asks for one column there
        scores = scores[:, 1] - scores[:, 0]
        return int(np.sum((scores > 0) == (truth == 1)))
    return int(top_k_accuracy_score(truth, scores, k=k, normalize=False, labels=np.arange(classes)))


def mean_per_class_accuracy(predicted: np.ndarray, truth: np.ndarray) -> float:
    """mPCA (000, Table 2), the macro accuracy of DCASE: predicted and truth (n,); classes that occur in `truth`."""
    return float(recall_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0.0))


def yes_no(labels: np.ndarray) -> np.ndarray:
    """(n, C) labels of 0 and 1 -> (n, C) int64 that tells each class's yes (2c + 1) and no (2c) apart.

    So the accuracy of several labels is one of 2C classes: `mean_per_class_accuracy(yes_no(a).ravel(), yes_no(b)
    .ravel())` is the mean over the classes of their balanced accuracies.
    """
    return 2 * np.arange(labels.shape[1]) + (np.asarray(labels) > 0)


def one_hot(truth: np.ndarray, classes: int) -> np.ndarray:
    """(n,) class indices -> (n, C) of 0 and 1."""
    return np.eye(classes, dtype=np.int64)[truth]


def average_precision(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(C,) average precision of each class (004, Section 3): scores (n, C), truth (n, C) of 0 and 1.

    NaN for a class that no clip, or every clip, has.
    """
    return _per_class(average_precision_score, scores, truth)


def roc_auc(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(C,) area under each class's ROC curve (004, Section 3): scores (n, C), truth (n, C) of 0 and 1.

    NaN for a class that no clip, or every clip, has.
    """
    return _per_class(roc_auc_score, scores, truth)


def _per_class(score: Callable[[np.ndarray, np.ndarray], float], scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    truth = np.asarray(truth) > 0
    defined = truth.any(axis=0) & ~truth.all(axis=0)
    values = np.full(truth.shape[1], np.nan)
    for c in np.flatnonzero(defined):
        values[c] = score(truth[:, c], scores[:, c])
    return values


def d_prime(auc: np.ndarray | float) -> np.ndarray:
    """Distance between two normal distributions of equal variance with this AUC; infinite for 0 and 1."""
    return np.sqrt(2.0) * ndtri(auc)


def resolved_auc(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`roc_auc`, kept half a step from 0 and 1, so that its d-prime is finite.

    With P positive and N negative clips an AUC moves in steps of 1 / (P N): a perfect one is known to half of that.
    """
    positives = np.sum(np.asarray(truth) > 0, axis=0)
    half = 0.5 / np.maximum(positives * (len(truth) - positives), 1)
    return np.clip(roc_auc(scores, truth), half, 1 - half)


def ranking_scores(scores: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """mAP, AUC (mAUC of paper 000) and d-prime, means over the classes; None where no class has an AUC.

    scores (n, C), truth (n, C) of 0 and 1. The papers print two different d-primes: `d_prime` is the mean of the
    classes' (004, Section 3), `d_prime_of_mean_auc` is of the mean AUC (000, Table 1; 001, Table II; in 004 the rows
    quoted from PANNs).
    """
    names = ("mAP", "AUC", "d_prime", "d_prime_of_mean_auc")
    resolved = resolved_auc(scores, truth)
    if np.isnan(resolved).all():
        return dict.fromkeys(names)
    values = (
        np.nanmean(average_precision(scores, truth)),
        np.nanmean(roc_auc(scores, truth)),
        np.nanmean(d_prime(resolved)),
        d_prime(np.nanmean(resolved)),
    )
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def classification_scores(scores: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """The columns of the papers' tables for one class per clip: scores (n, C), truth (n,) class indices."""
    return {
        "top_1": top_k_accuracy(scores, truth, 1),
        "top_5": top_k_accuracy(scores, truth, 5),
        **ranking_scores(scores, one_hot(truth, scores.shape[1])),
    }


def action_scores(
    verb_scores: np.ndarray, noun_scores: np.ndarray, verb: np.ndarray, noun: np.ndarray, ks: Sequence[int] = (1, 5)
) -> dict[str, dict[str, float]]:
    """Top-k accuracy of verbs, nouns and actions (001, Table IV): {top_1: {verb, noun, action}, top_5: ...}.

    verb_scores (n, V) and noun_scores (n, N) are logits; verb and noun (n,) are class indices. An action is a pair,
    scored by the product of its verb's and its noun's softmax, as EPIC-KITCHENS-100 does.
    """
    nouns = noun_scores.shape[1]
    hits = dict.fromkeys(ks, 0)
    for start in range(0, len(verb), CHUNK):
        part = slice(start, start + CHUNK)
        pairs = softmax(verb_scores[part], axis=1)[:, :, None] * softmax(noun_scores[part], axis=1)[:, None, :]
        for k in ks:
            hits[k] += top_k_hits(pairs.reshape(len(pairs), -1), verb[part] * nouns + noun[part], k)
    return {
        f"top_{k}": {
            "verb": top_k_accuracy(verb_scores, verb, k),
            "noun": top_k_accuracy(noun_scores, noun, k),
            "action": hits[k] / len(verb),
        }
        for k in ks
    }


def epic_kitchens_scores(
    verb_scores: np.ndarray,
    noun_scores: np.ndarray,
    verb: np.ndarray,
    noun: np.ndarray,
    participant: Sequence[str],
    trained_on: Collection[str],
) -> dict[str, Any]:
    """The columns of paper 001's Table IV: `overall`, and `unseen` for participants that are not in `trained_on`.

    `participant` has one name per clip; the other shapes are those of `action_scores`. `unseen` is None if there is
    no such clip.
    """
    unseen = np.array([name not in trained_on for name in participant])
    return {
        "overall": action_scores(verb_scores, noun_scores, verb, noun),
        "unseen": action_scores(verb_scores[unseen], noun_scores[unseen], verb[unseen], noun[unseen], ks=(1,))
        if unseen.any()
        else None,
        "unseen_clips": int(unseen.sum()),
    }
