"""A codebook that follows the vectors it replaces, and what became of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.distributed as dist
from torch import nn

__all__ = ["CodebookUsage", "ImageCodebook", "codebook_usage"]

_KMEANS_STEPS = 10


@dataclass(frozen=True)
class CodebookUsage:
    """How a codebook is used over a set of pictures.

    Attributes:
        pictures: how many were quantized.
        used: prototypes that at least one picture chose.
        share: ``used`` of all J.
        perplexity: exp of the entropy of the choices: 1 where all pictures choose one prototype, at most
            min(J, pictures).
        collapsed: perplexity below a twentieth of that bound; "only a few, or even just one, prototype" in the thesis,
            which names no number, so this one is ours.
    """

    pictures: int
    used: int
    share: float
    perplexity: float
    collapsed: bool

    def to_dict(self) -> dict[str, float]:
        """As JSON takes it."""
        return asdict(self)


def codebook_usage(codes: torch.Tensor, codebook_size: int, threshold: float = 0.05) -> CodebookUsage:
    """Measure usage over a set of pictures.

    Args:
        codes: the prototype of each picture, shape ``(pictures,)``.
        codebook_size: J.
        threshold: share of min(J, pictures) below which the perplexity is a collapse.

    Raises:
        ValueError: no picture, or a code outside the codebook.

    Source: 004_3cb4412af0da3ec5.txt, sections 3.2.7.2 and 3.2.7.3.
    """
    if codes.dim() != 1 or len(codes) == 0:
        raise ValueError(f"Usage is measured over codes (pictures,), got shape {tuple(codes.shape)}.")
    if int(codes.min()) < 0 or int(codes.max()) >= codebook_size:
        raise ValueError(f"Codes run from 0 to {codebook_size - 1}, got {int(codes.min())} to {int(codes.max())}.")
    counts = torch.bincount(codes.cpu(), minlength=codebook_size).double()
    shares = counts / counts.sum()
    perplexity = float(torch.special.entr(shares).sum().exp())
    used, bound = int((counts > 0).sum()), min(codebook_size, len(codes))
    return CodebookUsage(len(codes), used, used / codebook_size, perplexity, perplexity < max(2.0, threshold * bound))


class ImageCodebook(nn.Module):
    r"""J prototypes of width S, chosen by cosine and moved by an exponential moving average.

    m = argmax_j delta(z) delta(q_j)^T. Equation (86) prints argmin over 1 <= s <= S; the text asks for the closest
    prototype by cosine similarity, which is the argmax, among the J of the codebook.

    q_j = d q_j + (1 - d) mean(A_j), A_j the vectors z of this batch, of all processes, that chose j: (89), (90). A
    prototype that none chose stays as it is. As (89) is printed, the vectors are not normalised before the mean.

    Prototypes are a buffer, no parameter: no gradient reaches them, and they are saved with the model.

    Args:
        size: J.
        width: S.
        decay: d.
        init: ``"kmeans"`` on the first batch that trains (spherical, ten rounds, over the rows of all processes; with
            fewer rows than prototypes the rest are rows with a little noise), or ``"random"`` (normal).

    Source: 004_3cb4412af0da3ec5.txt, section 3.2.7.2, equations (86), (89) and (90).
    """

    prototypes: torch.Tensor
    initialized: torch.Tensor

    def __init__(self, size: int, width: int, decay: float = 0.99, init: str = "kmeans") -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("prototypes", torch.empty(size, width))
        self.register_buffer("initialized", torch.tensor(init == "random"))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the prototypes."""
        nn.init.normal_(self.prototypes)

    def choose(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the closest prototype of each vector, ``(batch, S)`` to ``(batch,)``; of equals the first."""
        directions = (nn.functional.normalize(rows.float(), dim=-1) for rows in (vectors, self.prototypes))
        one, other = directions
        return (one @ other.t()).argmax(dim=-1)

    @torch.no_grad()
    def start(self, vectors: torch.Tensor) -> None:
        """Place the prototypes by k-means, if that has not happened yet.

        Args:
            vectors: z of the first batch, shape ``(batch, S)``.
        """
        if bool(self.initialized):
            return
        self.prototypes.copy_(_kmeans(_gathered(vectors.detach().float()), *self.prototypes.shape))
        self.initialized.fill_(True)

    @torch.no_grad()
    def update(self, vectors: torch.Tensor, codes: torch.Tensor) -> None:
        """One step of equation (90).

        Args:
            vectors: z of this process's batch, shape ``(batch, S)``.
            codes: the prototype that each chose, shape ``(batch,)``.
        """
        sums = torch.zeros_like(self.prototypes).index_add_(0, codes, vectors.detach().to(self.prototypes.dtype))
        counts = torch.bincount(codes, minlength=len(self.prototypes)).to(sums)
        if _world() > 1:
            dist.all_reduce(sums)
            dist.all_reduce(counts)
        used = counts > 0
        means = sums[used] / counts[used].unsqueeze(1)
        self.prototypes[used] = self.decay * self.prototypes[used] + (1 - self.decay) * means


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _gathered(rows: torch.Tensor) -> torch.Tensor:
    """Rows of every process, the same on each."""
    if _world() == 1:
        return rows
    found = [torch.empty_like(rows) for _ in range(_world())]
    dist.all_gather(found, rows.contiguous())
    return torch.cat(found)


def _kmeans(rows: torch.Tensor, count: int, width: int) -> torch.Tensor:
    """Centres of ``rows`` by direction, ``(count, width)``; seeded by itself, so that every process finds the same."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(rows), generator=generator)
    picked = order[torch.arange(count) % len(rows)].to(rows.device)
    centres = rows[picked]
    if count > len(rows):
        noise = torch.randn(count - len(rows), width, generator=generator).to(rows)
        centres[len(rows) :] += 0.1 * rows.std() * noise
    directions = nn.functional.normalize(rows, dim=-1)
    for _ in range(_KMEANS_STEPS):
        nearest = (directions @ nn.functional.normalize(centres, dim=-1).t()).argmax(dim=-1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, rows)
        counts = torch.bincount(nearest, minlength=count).to(sums).unsqueeze(1)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres
