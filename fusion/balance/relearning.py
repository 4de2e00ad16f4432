"""Diagnosing and re-learning (Wei et al. 2024, D&R): how well classes separate, and how far weights go back."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NUM_STARTS = 4  # of k-means; the best one counts


def purity(clusters: Tensor, target: Tensor) -> Tensor:
    """Share of the clips whose class is the most frequent one of their cluster, `(...)`; 0 without clips.

    Args:
        clusters: Cluster of each clip, from 0, `(..., clips)`.
        target: Class of each clip, from 0, `(..., clips)`.

    >>> purity(torch.tensor([0, 0, 0, 1]), torch.tensor([2, 2, 1, 0]))
    tensor(0.7500)
    """
    num_clips = target.shape[-1]
    if num_clips == 0:
        return torch.zeros(target.shape[:-1], device=target.device)
    in_cluster, of_class = (functional.one_hot(each).float() for each in (clusters, target))
    counts = in_cluster.mT @ of_class  # (..., clusters, classes)
    return counts.amax(-1).sum(-1) / num_clips


def cluster(z: Tensor, num_clusters: int, seed: int = 0) -> Tensor:
    """Cluster of each clip by k-means, int64 `(clips,)`; every dimension is scaled to -1 to 1 first, as in the source.

    Args:
        z: Encodings, `(clips, dim)`.
        num_clusters: Number of clusters; if there are fewer distinct clips, as many as those.
        seed: Seed of the first centers.

    >>> cluster(torch.tensor([[0.0], [9.0], [0.1], [9.1]]), 2).bincount()
    tensor([2, 2])
    """
    from sklearn.cluster import KMeans  # slow to import, and only this method needs it

    if len(z) == 0:
        return torch.zeros(0, dtype=torch.long, device=z.device)
    low, high = z.amin(0), z.amax(0)
    scaled = 2 * (z - low) / torch.where(high > low, high - low, 1) - 1
    most = min(num_clusters, len(scaled.unique(dim=0)))
    means = KMeans(most, n_init=NUM_STARTS, random_state=seed)
    return torch.from_numpy(means.fit_predict(scaled.cpu().numpy())).long().to(z.device)


def relearning_weight(train_purity: Tensor, val_purity: Tensor, strength: float = 3.0) -> Tensor:
    """Part of the way back to its first weights that an encoder goes: tanh(strength |difference of purities|).

    Args:
        train_purity: `purity` of the encodings of train clips, `(...)`.
        val_purity: That of val clips, of the same shape.
        strength: Strength, lambda in the source.

    >>> relearning_weight(torch.tensor([0.9, 0.4]), torch.tensor([0.5, 0.4])).round(decimals=4)
    tensor([0.8337, 0.0000])
    """
    return torch.tanh(strength * (train_purity - val_purity).abs())
