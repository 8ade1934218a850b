"""Mirostat: keeps a text's surprise, in bits a token, near a target.

Basu et al., 2007.14966: a truncation with a limit mu that each token drawn corrects. mu is all the
state there is. Knows nothing of the draw.
"""

from __future__ import annotations

import math

import numpy as np

from gpt2onnx.samplers.candidates import LARGEST, Candidates
from gpt2onnx.samplers.warpers import top_k

# m of the paper: how many tokens the exponent of Zipf's law is estimated from.
_HEAD = 100


class Mirostat:
    """One sequence's limit, and what corrects it.

    `mode` is the paper's algorithm: 1 cuts at a rank, 2 at a surprise. `tau` is the target in bits,
    `eta` how much of an error the next limit takes back.

    A token's surprise is what it has before the truncation, as in the paper and its authors'
    program; llama.cpp takes the one after it, which is lower.
    """

    def __init__(self, mode: int, tau: float = 5.0, eta: float = 0.1) -> None:
        self._truncate = zipf_top_k if mode == 1 else top_surprise
        self._tau, self._eta = tau, eta
        self.mu = min(2 * tau, LARGEST)

    def warp(self, candidates: Candidates) -> Candidates:  # [n] -> [kept]
        """What the limit leaves, with its log-probabilities among all `candidates` for logits."""
        logprobs = Candidates(candidates.ids, candidates.logprobs())
        return self._truncate(logprobs, mu=self.mu)

    def observe(self, logprob: float) -> None:
        """Takes in the token that was drawn, by the logit that `warp` gave it."""
        surprise = -logprob / math.log(2)
        mu = self.mu - self._eta * (surprise - self._tau)
        self.mu = min(max(mu, -LARGEST), LARGEST)


def top_surprise(logprobs: Candidates, *, mu: float) -> Candidates:  # [n] -> [kept]
    """Algorithm 2: keeps tokens of at most `mu` bits, in any case the most probable one."""
    limit = min(-mu * math.log(2), logprobs.logits.max())
    return logprobs.where(logprobs.logits >= limit)


def zipf_top_k(logprobs: Candidates, *, mu: float) -> Candidates:  # [n] -> [kept]
    """Algorithm 1: keeps the k most probable tokens, k from `mu` as if they followed Zipf's law.

    k is rounded, and one added, as in the authors' program.
    """
    n = len(logprobs.logits)
    if n == 1:
        return logprobs
    s = max(_zipf_exponent(logprobs), 1e-6)
    epsilon, log_n = s - 1, math.log(n)
    # epsilon / (1 - n ** -epsilon), which comes to 1 / log n where the exponent is 1.
    norm = epsilon / -math.expm1(-epsilon * log_n) if epsilon else 1 / log_n
    log2_k = (mu + math.log2(norm)) / s
    return top_k(logprobs, k=round(2 ** min(log2_k, math.log2(n))) + 1)


def _zipf_exponent(logprobs: Candidates) -> float:
    """The s with which p_i ~ 1 / i ** s fits the ratios of the most probable tokens best."""
    logits = logprobs.logits
    count = min(_HEAD, len(logits))
    head = np.sort(np.partition(logits, len(logits) - count)[len(logits) - count :])[::-1]
    t = np.log1p(1 / np.arange(1, count))  # log((i + 1) / i)
    b = -np.diff(head)  # log(p_i / p_i+1)
    return float(t @ b / (t @ t))
