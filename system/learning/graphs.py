"""CUDA graphs: a network's forward and backward pass as one launch each, where launches take most of the time."""

from __future__ import annotations

import copy
import logging
from typing import cast

import torch
from torch import Tensor, nn


class Graphed:
    """`network` in training, captured for batches of one shape; other batches, such as an epoch's last, run as usual.

    Weights, gradients and statistics are the network's own. `benchmarks/training_step.py --device cuda` measures it.
    """

    def __init__(self, network: nn.Module, like: Tensor) -> None:
        """`like`: a batch on the GPU. What the warm-up does to statistics of norms is undone.

        cuDNN tries its algorithms during the warm-up, and the fastest are captured. Which one wins may differ between
        two trainings; so may rounding then.

        A network that waits for the GPU, say to branch on a value, cannot be captured: it runs as usual, and that is
        told.
        """
        self.network, self.shape = network, like.shape
        before = [buffer.clone() for buffer in network.buffers()]
        # weights meet a second stream only here; the waiting that this costs is what the warning would tell
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        tries_before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
        with torch.random.fork_rng([like.device]):  # a resumed training captures anew, and draws the same noise after
            # of a shallow copy, which shares parameters and buffers: the network itself keeps its plain forward
            sample = (torch.zeros_like(like),)
            try:
                found = torch.cuda.make_graphed_callables(copy.copy(network), sample, allow_unused_input=True)
                self.captured = cast(nn.Module, found)
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                logging.getLogger(__name__).warning("not captured as a CUDA graph, and slower: %s", reason)
                self.captured = network
            finally:
                torch.backends.cudnn.benchmark = tries_before
        with torch.no_grad():
            for buffer, value in zip(network.buffers(), before, strict=True):
                buffer.copy_(value)

    def __call__(self, x: Tensor) -> Tensor:
        return (self.captured if x.shape == self.shape else self.network)(x)
