"""How can a multiplication by a gate below one be undone exactly? By keeping the bits that it pushes out.

A state is a whole number h* that stands for h = h* / 2^23, a gate a whole number z* in 1..1024 that stands for
z* / 1024. Multiplying h* by z* / 1024 pushes its last digit of base 1024 onto a buffer, a non-negative whole number for
each unit, and pops a digit of base z* in its place: the mixed-radix arithmetic of asymmetric numeral systems.
Paper: arXiv 1810.10999, section 3, after Maclaurin et al., arXiv 1502.03492. Chapter: ``book/reversible_rnn.ipynb``.
"""

import torch
from torch import Tensor

STATE_BITS = 23  # of the fraction of a state
GATE_BITS = 10  # of the fraction of a gate
ONE = 2**GATE_BITS  # the gate that forgets nothing
FULL = 2 ** (63 - GATE_BITS)  # a buffer word below this has room for one more digit of base 1024
LARGEST = 2.0**29  # of |h|: below it |h*| < 2^52, where products by a gate fit 63 bits and float64 is exact


def to_fixed(h: Tensor) -> Tensor:
    """h* = round(2^23 h), int64.

    Args:
        h: Any shape, float32 or float64, below 2^29 in absolute value.

    Source: arXiv 1810.10999, section 3.2. Chapter: ``book/reversible_rnn.ipynb``.

    >>> to_fixed(torch.tensor([1.0, -0.5])).tolist()
    [8388608, -4194304]
    """
    return (h * 2.0**STATE_BITS).round_().to(torch.int64)


def to_float(h: Tensor, dtype: torch.dtype) -> Tensor:
    """h = h* / 2^23 in this dtype; exact in float32 for |h| <= 2.

    >>> to_float(torch.tensor([8388608]), torch.float32).tolist()
    [1.0]
    """
    return h.to(dtype) * 2.0**-STATE_BITS


def to_gate(z: Tensor) -> Tensor:
    """z* = round(1024 z), in 1..1024, int64.

    >>> to_gate(torch.tensor([1.0, 0.5, 0.0])).tolist()
    [1024, 512, 1]
    """
    return (z * ONE).round().clamp(1, ONE).to(torch.int64)


def multiply(h: Tensor, z: Tensor, buffer: Tensor) -> tuple[Tensor, Tensor]:
    """h* times z* / 1024, off by less than z* units of the last place, and the buffer that undoes it.

    B <- 1024 B + (h mod 1024);   h <- floor(h / 1024) z + (B mod z);   B <- floor(B / z)

    Args:
        h: h*, int64, any shape.
        z: z*, int64 in 1..1024, the same shape. 1024 changes neither h nor the buffer.
        buffer: B, int64 in 0..2^53 - 1, the same shape.

    Returns:
        The new h* and B.

    Source: arXiv 1810.10999, algorithm 1. Chapter: ``book/reversible_rnn.ipynb``.

    >>> h, z, empty = torch.tensor([-5000]), torch.tensor([512]), torch.tensor([0])
    >>> halved, buffer = multiply(h, z, empty)
    >>> halved.item(), buffer.item(), [t.item() for t in unmultiply(halved, z, buffer)]
    (-2440, 0, [-5000, 0])
    """
    buffer = (buffer << GATE_BITS) + (h & (ONE - 1))
    kept = torch.div(buffer, z, rounding_mode="trunc")  # the buffer is not negative: the same as floor
    return (h >> GATE_BITS) * z + (buffer - kept * z), kept


def unmultiply(h: Tensor, z: Tensor, buffer: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`multiply`.

    B <- z B + (h mod z);   h <- 1024 floor(h / z) + (B mod 1024);   B <- floor(B / 1024)

    Source: arXiv 1810.10999, algorithm 1. Chapter: ``book/reversible_rnn.ipynb``.
    """
    quotient = torch.div(h, z, rounding_mode="floor")
    buffer = buffer * z + (h - quotient * z)
    return (quotient << GATE_BITS) + (buffer & (ONE - 1)), buffer >> GATE_BITS


class InformationBuffer:
    """A stack of forgotten bits: one 64-bit word for each unit, put aside whole when one of them is full.

    Args:
        like: A state h*, for shape and device.
        bits: The most bits that a gate forgets, 0 to 10: z* >= 1024 / 2^bits.
        count: Whether to add up what was forgotten.

    Multiplications that share a buffer must be undone in the opposite order.

    Source: arXiv 1810.10999, section 3.3. Chapter: ``book/reversible_rnn.ipynb``.

    >>> h = start = torch.full((3,), 12345)
    >>> buffer = InformationBuffer(h, bits=2)
    >>> for _ in range(100):
    ...     h = buffer.multiply(h, torch.full((3,), 256)) + 7
    >>> for _ in range(100):
    ...     h = buffer.unmultiply(h - 7, torch.full((3,), 256))
    >>> torch.equal(h, start), buffer.is_empty()
    (True, True)
    """

    def __init__(self, like: Tensor, bits: int = GATE_BITS, count: bool = False):
        self.words = torch.zeros_like(like)
        self.saved: list[Tensor] = []
        self.flags: list[bool] = []  # for each multiplication: were the words put aside before it?
        self.growth = 2**bits
        self._forgotten = torch.zeros((), dtype=torch.float64, device=like.device) if count else None
        self._bound = 0  # of the largest word: looked up only when it might be too large, for a look waits for a GPU

    def multiply(self, h: Tensor, z: Tensor) -> Tensor:
        """The new h*; what was forgotten goes onto the stack."""
        if self._bound >= FULL:
            self._bound = int(self.words.max()) if self.words.numel() else 0
        full = self._bound >= FULL
        if full:
            self.saved.append(self.words)
            self.words, self._bound = torch.zeros_like(self.words), 0
        self.flags.append(full)
        if self._forgotten is not None:
            self._forgotten -= (z.double() / ONE).log2().sum()
        self._bound = (self._bound + 1) * self.growth  # floor((1024 B + r) / z) < (B + 1) 1024 / z
        h, self.words = multiply(h, z, self.words)
        return h

    def unmultiply(self, h: Tensor, z: Tensor) -> Tensor:
        """The h* before the last multiplication, which must have been by this z*."""
        h, self.words = unmultiply(h, z, self.words)
        if self.flags.pop():
            self.words = self.saved.pop()
        return h

    @property
    def forgotten(self) -> float:
        """Bits that have been forgotten in all multiplications so far: the sum of -log2(z* / 1024)."""
        if self._forgotten is None:
            raise ValueError("this buffer was made with count=False: it does not add up what was forgotten")
        return self._forgotten.item()

    def is_empty(self) -> bool:
        """Whether all has been undone."""
        return not self.flags and not bool(self.words.any())

    def stored_bits(self) -> int:
        """64 for each unit and each array that is kept, and one for each multiplication (was there a flush?)."""
        return 64 * self.words.numel() * (1 + len(self.saved)) + len(self.flags)
