"""Claims about the reversible multiplication and its buffer, against Python's own whole numbers."""

import math

import pytest
import torch

from nnlib.reversible_rnn import InformationBuffer, multiply, to_fixed, to_float, unmultiply
from tests.oracles import reversible_rnn as oracle


def draws(steps=300, units=50, bits=10, seed=0):
    """First states of both signs, gates z* of at most ``bits`` bits, and what is added after each."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randint(-(2**24), 2**24, (units,), generator=generator)
    z = torch.randint(max(1, 1024 >> bits), 1025, (steps, units), generator=generator)
    u = torch.randint(-(2**22), 2**22, (steps, units), generator=generator)
    return h, z, u


def test_multiplication_is_that_of_unbounded_integers():
    """Breaks if division truncates towards zero for negative states, or a shift is logical."""
    h, z, _ = draws(steps=1, units=1000)
    buffer = torch.randint(0, 2**53, (1000,), generator=torch.Generator().manual_seed(1))
    new, after = multiply(h, z[0], buffer)
    wanted = [oracle.multiply(*row) for row in zip(h.tolist(), z[0].tolist(), buffer.tolist(), strict=True)]
    assert list(zip(new.tolist(), after.tolist(), strict=True)) == wanted
    assert [t.tolist() for t in unmultiply(new, z[0], after)] == [h.tolist(), buffer.tolist()]


def test_product_is_off_by_less_than_the_gate_in_units_of_the_last_place():
    h, z, _ = draws(steps=1, units=5000)
    new, _ = multiply(h, z[0], torch.zeros_like(h))
    assert ((new - h * z[0] / 1024).abs() < z[0]).all()


def test_a_gate_of_one_changes_nothing():
    h, _, _ = draws()
    buffer = torch.arange(len(h)) * 12345
    new, after = multiply(h, torch.full_like(h, 1024), buffer)
    assert torch.equal(new, h) and torch.equal(after, buffer)


@pytest.mark.parametrize("bits", [0, 1, 2, 3, 5, 10])
def test_a_thousand_steps_with_flushes_are_undone_bit_by_bit(bits):
    """Breaks if a flush is undone at the wrong step, or the bound on the largest word is too low."""
    h, z, u = draws(steps=1000, bits=bits)
    buffer, states = InformationBuffer(h, bits), [h]
    for z_t, u_t in zip(z, u, strict=True):
        states.append(buffer.multiply(states[-1], z_t) + u_t)
        assert (buffer.words >= 0).all() and (buffer.words < 2**63 - 1).all()
    assert bool(buffer.saved) == (bits > 0)
    h = states[-1]
    for z_t, u_t, before in zip(z.flip(0), u.flip(0), states[-2::-1], strict=True):
        h = buffer.unmultiply(h - u_t, z_t)
        assert torch.equal(h, before)
    assert buffer.is_empty() and not buffer.saved


def test_the_buffer_holds_about_as_many_bits_as_were_forgotten():
    """log2 B against the sum of -log2 z, in unbounded integers; breaks if a digit is pushed twice."""
    _, z, u = draws(steps=300, units=20)
    for unit in range(20):
        h, buffer, forgotten = 12345, 0, 0.0
        for z_t, u_t in zip(z[:, unit].tolist(), u[:, unit].tolist(), strict=True):
            h, buffer = oracle.multiply(h, z_t, buffer)
            h, forgotten = h + u_t, forgotten - math.log2(z_t / 1024)
        assert forgotten - 20 < math.log2(buffer) < forgotten + 1


def test_words_are_put_aside_only_when_one_is_full():
    """With two bits a step, 26 steps fill 52 bits: no flush before; breaks if the bound alone decided."""
    h = torch.full((4,), 1000)
    buffer = InformationBuffer(h, bits=2)
    for _ in range(200):
        h = buffer.multiply(h, torch.full((4,), 1023))  # hardly forgets: the bound says full, a look says no
    assert not buffer.saved
    for _ in range(40):
        h = buffer.multiply(h, torch.full((4,), 256)) + 999_999
    assert len(buffer.saved) == 1
    assert buffer.stored_bits() == 64 * 4 * 2 + 240


def test_conversions_round_and_are_exact_up_to_two_in_single_precision():
    h = torch.randint(-(2**24), 2**24, (1000,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_fixed(to_float(h, torch.float32)), h)


@pytest.mark.parametrize("call", ["multiply", "unmultiply"])
@pytest.mark.parametrize("which", ["h", "z"])
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda t: t.double(), TypeError, "must be int64: got a tensor of float64"),
        (lambda t: t.tolist(), TypeError, "must be int64: got"),
        (lambda t: t[:1], ValueError, r"must have shape \(3,\).*got \(1,\)"),
        (lambda t: t[None], ValueError, r"must have shape \(3,\).*got \(1, 3\)"),
    ],
)
def test_a_buffer_refuses_states_and_gates_that_are_not_its_own_and_stays_as_it_was(call, which, spoil, error, message):
    """Breaks if another shape is broadcast over the words, or a refused state has already changed them."""
    h, z = torch.tensor([5, -7, 1000]), torch.tensor([512, 700, 1024])
    buffer = InformationBuffer(h, bits=2)
    after = buffer.multiply(h, z)
    right = {"h": after, "z": z}
    with pytest.raises(error, match=f"^{which} {message}"):
        getattr(buffer, call)(**right | {which: spoil(right[which])})
    assert torch.equal(buffer.unmultiply(after, z), h) and buffer.is_empty()
    with pytest.raises(ValueError, match="every multiplication has been undone"):
        buffer.unmultiply(h, z)
