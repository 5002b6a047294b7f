"""How can a multiplication by a gate below one be undone exactly? By keeping the bits that it pushes out.

A state is a whole number h* that stands for h = h* / 2^23, a gate a whole number z* in 1..1024 that stands for
z* / 1024. Multiplying h* by z* / 1024 pushes its last digit of base 1024 onto a buffer, a non-negative whole number for
each unit, and pops a digit of base z* in its place: the mixed-radix arithmetic of asymmetric numeral systems.
Paper: arXiv 1810.10999, section 3, after Maclaurin et al., arXiv 1502.03492. Chapter: ``book/reversible_rnn.ipynb``.
"""

import torch
from torch import Tensor

from nnlib.arguments import one_of, real, shown, typed, whole

STATE_BITS = 23  # of the fraction of a state
GATE_BITS = 10  # of the fraction of a gate
ONE = 2**GATE_BITS  # the gate that forgets nothing
FULL = 2 ** (63 - GATE_BITS)  # a buffer word below this has room for one more digit of base 1024
FIXED = 2**52  # no |h*| reaches it
LARGEST = 2.0**29  # of |h|: below it |h*| < 2^52, where products by a gate fit 63 bits and float64 is exact


@typed
def to_fixed(h: Tensor) -> Tensor:
    """h* = round(2^23 h), int64.

    Args:
        h: Any shape, float32 or float64, below 2^29 in absolute value.

    Raises:
        TypeError: for another dtype.
        ValueError: for numbers that are not finite, or too large.

    Source: arXiv 1810.10999, section 3.2. Chapter: ``book/reversible_rnn.ipynb``.

    >>> to_fixed(torch.tensor([1.0, -0.5])).tolist()
    [8388608, -4194304]
    """
    real("...", h=h)
    if h.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"h must be float32 or float64: got {shown(h)}")
    if not bool(h.abs().max() < LARGEST):
        raise ValueError(f"h must lie below 2^29 in absolute value: got {float(h.abs().max()):g}")
    return fixed_of(h)


def fixed_of(h: Tensor) -> Tensor:
    """:func:`to_fixed` of numbers that have been looked at."""
    return (h * 2.0**STATE_BITS).round_().to(torch.int64)


@typed
def to_float(h: Tensor, dtype: torch.dtype) -> Tensor:
    """h = h* / 2^23 in this dtype, float32 or float64; exact in float32 for |h| <= 2.

    Raises:
        TypeError: if h is not int64.
        ValueError: for another dtype.

    >>> to_float(torch.tensor([8388608]), torch.float32).tolist()
    [1.0]
    """
    one_of((torch.float32, torch.float64), dtype=dtype)
    if h.dtype != torch.int64:
        raise TypeError(f"h must be int64: got {shown(h)}")
    return float_of(h, dtype)


def float_of(h: Tensor, dtype: torch.dtype) -> Tensor:
    """:func:`to_float` of what is known to be a state."""
    return h.to(dtype) * 2.0**-STATE_BITS


@typed
def multiply(h: Tensor, z: Tensor, buffer: Tensor) -> tuple[Tensor, Tensor]:
    """h* times z* / 1024, off by less than z* units of the last place, and the buffer that undoes it.

    B <- 1024 B + (h mod 1024);   h <- floor(h / 1024) z + (B mod z);   B <- floor(B / z)

    Args:
        h: h*, int64, below 2^52 in absolute value, any shape.
        z: z*, int64 in 1..1024, the same shape. 1024 changes neither h nor the buffer.
        buffer: B, int64 in 0..2^53 - 1, the same shape.

    Returns:
        The new h* and B.

    Raises:
        TypeError: for other dtypes.
        ValueError: for other shapes, or numbers out of range.

    Source: arXiv 1810.10999, algorithm 1. Chapter: ``book/reversible_rnn.ipynb``.

    >>> h, z, empty = torch.tensor([-5000]), torch.tensor([512]), torch.tensor([0])
    >>> halved, buffer = multiply(h, z, empty)
    >>> halved.item(), buffer.item(), [t.item() for t in unmultiply(halved, z, buffer)]
    (-2440, 0, [-5000, 0])
    """
    _look(h, z, buffer, inverse=False)
    return _multiply(h, z, buffer)


def _multiply(h: Tensor, z: Tensor, buffer: Tensor) -> tuple[Tensor, Tensor]:
    buffer = (buffer << GATE_BITS) + (h & (ONE - 1))
    kept = torch.div(buffer, z, rounding_mode="trunc")  # the buffer is not negative: the same as floor
    return (h >> GATE_BITS) * z + (buffer - kept * z), kept


@typed
def unmultiply(h: Tensor, z: Tensor, buffer: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`multiply`, of the same arguments.

    B <- z B + (h mod z);   h <- 1024 floor(h / z) + (B mod 1024);   B <- floor(B / 1024)

    Source: arXiv 1810.10999, algorithm 1. Chapter: ``book/reversible_rnn.ipynb``.
    """
    _look(h, z, buffer, inverse=True)
    return _unmultiply(h, z, buffer)


def _unmultiply(h: Tensor, z: Tensor, buffer: Tensor) -> tuple[Tensor, Tensor]:
    quotient = torch.div(h, z, rounding_mode="floor")
    buffer = buffer * z + (h - quotient * z)
    return (quotient << GATE_BITS) + (buffer & (ONE - 1)), buffer >> GATE_BITS


def _look(h: Tensor, z: Tensor, buffer: Tensor, inverse: bool) -> None:
    """Refuse what is not int64, of one shape, and in a range in which no product overflows."""
    _fit(h.shape, h=h, z=z, buffer=buffer)
    if bool(((h <= -FIXED) | (h >= FIXED)).any()):
        raise ValueError(f"h must lie below 2^52 in absolute value: got {h.min().item()} to {h.max().item()}")
    if bool(((z < 1) | (z > ONE)).any()):
        raise ValueError(f"z must hold whole numbers from 1 to {ONE}: got {z.min().item()} to {z.max().item()}")
    most = (2**63 - 1 - h.remainder(z)) // z if inverse else FULL - 1
    if bool(((buffer < 0) | (buffer > most)).any()):
        allowed = "below about 2^63 / z, as multiply leaves it" if inverse else "below 2^53"
        raise ValueError(f"buffer must hold whole numbers of at least 0, {allowed}: got {shown(buffer.tolist())}")


def _fit(shape: torch.Size, **named: Tensor) -> None:
    for name, numbers in named.items():
        if not isinstance(numbers, Tensor) or numbers.dtype != torch.int64:
            raise TypeError(f"{name} must be int64: got {shown(numbers)}")
        if numbers.shape != shape:
            raise ValueError(
                f"{name} must have shape {tuple(shape)}, as all states and gates: got {tuple(numbers.shape)}"
            )


@typed
class InformationBuffer:
    """A stack of forgotten bits: one 64-bit word for each unit, put aside whole when one of them is full.

    Args:
        like: A state h*, for shape and device.
        bits: The most bits that a gate forgets, 0 to 10: z* >= 1024 / 2^bits.
        count: Whether to add up what was forgotten.

    Multiplications that share a buffer must be undone in the opposite order. Of their arguments shape and dtype are
    looked at; whether gates are in range, :func:`multiply` looks.

    Raises:
        TypeError: if a state or gate is not int64.
        ValueError: for one of another shape, bits out of range, or nothing left to undo.

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
        _fit(like.shape, like=like)
        whole(0, GATE_BITS, bits=bits)
        self.words = torch.zeros_like(like)
        self.saved: list[Tensor] = []
        self.flags: list[bool] = []  # for each multiplication: were the words put aside before it?
        self.growth = 2**bits
        self._forgotten = torch.zeros((), dtype=torch.float64, device=like.device) if count else None
        self._bound = 0  # of the largest word: looked up only when it might be too large, for a look waits for a GPU

    def multiply(self, h: Tensor, z: Tensor) -> Tensor:
        """The new h*; what was forgotten goes onto the stack."""
        _fit(self.words.shape, h=h, z=z)
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
        h, self.words = _multiply(h, z, self.words)
        return h

    def unmultiply(self, h: Tensor, z: Tensor) -> Tensor:
        """The h* before the last multiplication, which must have been by this z*."""
        _fit(self.words.shape, h=h, z=z)
        if not self.flags:
            raise ValueError(
                f"every multiplication has been undone: there is none whose h could be restored from {shown(h)}"
            )
        h, self.words = _unmultiply(h, z, self.words)
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
