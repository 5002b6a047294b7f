"""A sweep's answer is never that of other code, another object or other data; and the same is not computed again."""

import importlib
import os
import subprocess
import sys
import threading
import types
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tenpapers.data import load, remember
from tenpapers.runs import cache, sweep
from tenpapers.runs.describe import Indescribable, described


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NNLIB_CACHE", str(tmp_path / "cache"))


def cell(source, **values):
    """What a notebook has after a cell was run: its names."""
    module = types.ModuleType("notebook")
    module.__dict__.update(torch=torch, np=np, partial=partial, **values)
    exec(compile(source, "<cell>", "exec"), module.__dict__)
    return module.__dict__


# Source of a cell that defines run(x) -> {"y": ...}; where it has $ one version has 1 and the edited one 5.
EDITED = {
    "the function": "def run(x): return {'y': $ * x}",
    "a lambda": "run = lambda x: {'y': $ * x}",
    "a helper": "def h(): return $\ndef run(x): return {'y': h() * x}",
    "a helper of a helper": "def g(): return $\ndef h(): return g()\ndef run(x): return {'y': h() * x}",
    "a global": "scale = $\ndef run(x): return {'y': scale * x}",
    "a global in a comprehension": "scale = $\ndef run(x): return {'y': sum(scale * x for _ in range(1))}",
    "a global in a lambda": "scale = $\ndef run(x): return {'y': (lambda: scale * x)()}",
    "a global in an inner function": "s = $\ndef run(x):\n    def f():\n        return s\n    return {'y': f() * x}",
    "a default": "def run(x, scale=$): return {'y': scale * x}",
    "a keyword's default": "def run(x, *, scale=$): return {'y': scale * x}",
    "a default object": "class A: v = $\ndef run(x, a=A()): return {'y': a.v * x}",
    "a closure": "def make(s):\n    def f(x): return {'y': s * x}\n    return f\nrun = make($)",
    "a class": "class Net:\n    def __call__(self): return $\ndef run(x): return {'y': Net()() * x}",
    "a class's number": "class Net: v = $\ndef run(x): return {'y': Net.v * x}",
    "a torch module": (
        "class Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.w = torch.nn.Parameter($ * torch.ones(1))\n    def forward(self, x): return self.w * x\n"
        "def run(x): return {'y': Net()(torch.ones(1)).item() * x}"
    ),
    "a base class": "class A:\n    def f(self): return $\nclass B(A): pass\ndef run(x): return {'y': B().f() * x}",
    "a static method": "class A:\n    @staticmethod\n    def f(): return $\ndef run(x): return {'y': A.f() * x}",
    "a class method": "class A:\n    @classmethod\n    def f(cls): return $\ndef run(x): return {'y': A.f() * x}",
    "a property": "class A:\n    @property\n    def v(self): return $\ndef run(x): return {'y': A().v * x}",
    "an inner class": "class A:\n    class B: v = $\ndef run(x): return {'y': A.B.v * x}",
    "a method of a global object": "class A:\n    def f(self): return $\na = A()\ndef run(x): return {'y': a.f() * x}",
    "the state of a global object": "class A: pass\na = A()\na.v = $\ndef run(x): return {'y': a.v * x}",
    "a slot": "class A:\n    __slots__ = ('v',)\na = A()\na.v = $\ndef run(x): return {'y': a.v * x}",
    "a bound method": "class A:\n    def f(self, x): return {'y': $ * x}\nrun = A().f",
    "the object of a bound method": (
        "class A:\n    def __init__(self, s): self.s = s\n    def f(self, x): return {'y': self.s * x}\nrun = A($).f"
    ),
    "an object that is called": "class A:\n    def __call__(self, x): return {'y': $ * x}\nrun = A()",
    "a partial's keyword": "def f(x, s): return {'y': s * x}\nrun = partial(f, s=$)",
    "a partial's function": "def f(x): return {'y': $ * x}\nrun = partial(f)",
    "a partial of a partial": "def f(x, s, t): return {'y': s * t * x}\nrun = partial(partial(f, s=$), t=$)",
    "a decorated function": (
        "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def g(x): return f(x)\n    return g\n"
        "@twice\ndef run(x): return {'y': $ * x}"
    ),
    "a dictionary of functions": "table = {'a': lambda: $}\ndef run(x): return {'y': table['a']() * x}",
    "a list of lists": "table = [[$], 2]\ndef run(x): return {'y': table[0][0] * x}",
    "a set": "values = {$, 2, 'a'}\ndef run(x): return {'y': sum(v for v in values if v not in (2, 'a')) * x}",
    "an array": "a = np.array([$.0])\ndef run(x): return {'y': a[0] * x}",
    "a tensor": "a = torch.tensor([$.0], dtype=torch.bfloat16)\ndef run(x): return {'y': a.item() * x}",
    "weights of a network": (
        "net = torch.nn.Linear(1, 1, bias=False)\nwith torch.no_grad():\n    net.weight.fill_($)\n"
        "def run(x): return {'y': net(torch.ones(1, 1)).item() * x}"
    ),
    "a method's helper": "def h(): return $\nclass A:\n    def f(s): return h()\ndef run(x): return {'y': A().f() * x}",
    "a circle": "class A: pass\na, b = A(), A()\na.b, b.a, b.v = b, a, $\ndef run(x): return {'y': a.b.a.b.v * x}",
    "two that call each other": (
        "def f(n): return g(n - 1) if n else $\ndef g(n): return f(n - 1) if n else $\n"
        "def run(x): return {'y': f(3) * x}"
    ),
}


@pytest.mark.parametrize("case", EDITED)
def test_edited_code_is_not_answered_from_the_cache_and_the_same_is(case, monkeypatch):
    """Breaks where something is known by its name alone: a cell is run again, and the old answer comes."""
    calls = []
    monkeypatch.setattr(cache, "_answer", counted(calls))
    source, other = (EDITED[case].replace("$", number) for number in "15")
    first = sweep(cell(source)["run"], {"x": [3]}).y[0]
    again = sweep(cell("\n\n" + source)["run"], {"x": [3]}).y[0]  # further down in the notebook
    assert first == again == 3 and len(calls) == 1
    assert sweep(cell(other)["run"], {"x": [3]}).y[0] in (15, 75)
    assert sweep(cell(source)["run"], {"x": [3]}).y[0] == 3 and len(calls) == 2


def counted(calls):
    real = cache._answer

    def _answer(function, cell, key):
        calls.append(key)
        return real(function, cell, key)

    return _answer


def test_arguments_are_told_apart_by_what_they_are(monkeypatch):
    """A class among the values of a grid is known by its code too."""
    names = [cell(f"class Net:\n    def __call__(self): return {n}")["Net"] for n in (1, 5)]
    run = cell("def run(net): return {'y': net()()}")["run"]
    assert [sweep(run, {"net": [net]}).y[0] for net in names] == [1, 5]


def test_a_module_of_the_readers_own_counts_when_it_is_loaded_again(tmp_path, monkeypatch):
    """Breaks if modules are known by name: a helper beside the notebook is edited and reloaded."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "my_helpers_for_this_test.py"
    path.write_text("def f():\n    return 1\n")
    helpers = importlib.import_module(path.stem)
    through, direct = (
        cell(source, helpers=helpers, f=helpers.f)["run"]
        for source in ("def run(x): return {'y': helpers.f() * x}", "def run(x): return {'y': f() * x}")
    )
    assert [sweep(run, {"x": [3]}).y[0] for run in (through, direct)] == [3, 3]
    path.write_text("def f():\n    return 5 + 0\n")
    importlib.invalidate_caches()
    importlib.reload(helpers)
    direct.__globals__["f"] = helpers.f
    assert [sweep(run, {"x": [3]}).y[0] for run in (through, direct)] == [15, 15]


def test_a_partial_of_the_packages_own_function_has_its_arguments_in_the_key():
    runs = [partial(load_size, split=split) for split in (0, 1)]
    assert sweep(runs[0], {"name": ["diabetes"]}).rows[0] == 398
    assert len({cache.cache_key(run) for run in runs}) == 2
    assert len({cache.fingerprint(partial(load, **options)) for options in ({}, {}, {"split": 1})}) == 2


def load_size(name, split):
    return {"rows": len(load(name, split=split).train.y)}


@pytest.mark.parametrize("make", [threading.Lock, lambda: (i for i in range(3)), lambda: open(os.devnull)])
def test_what_has_no_hash_is_computed_each_time(make, monkeypatch):
    """Breaks if it is left out of the key: then two of them would have one answer."""
    calls, thing = [], make()
    monkeypatch.setattr(cache, "_answer", counted(calls))
    run = cell("def run(x): return {'y': x if thing else 0}", thing=thing)["run"]
    with pytest.raises(Indescribable, match="has no hash"):
        described(run)
    assert [sweep(run, {"x": [3]}).y[0] for _ in range(2)] == [3, 3] and len(calls) == 2
    if hasattr(thing, "close"):
        thing.close()


# --- the reader's own data -----------------------------------------------------------------------------------------


def images(folder, value, n=50):
    rng = np.random.default_rng(value)
    arrays = {f"x_{part}": rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for part in ("train", "test")}
    labels = {f"y_{part}": np.arange(n) % 10 for part in ("train", "test")}
    np.savez(folder / "mnist.npz", **arrays, **labels)


def brightness(seed):
    return {"mean": load("mnist").train.x.mean().item()}


@remember()
def remembered():
    return load("mnist").train.x.mean().item()


def test_changed_data_are_not_answered_from_the_cache_nor_from_memory(tmp_path, monkeypatch):
    """Other files under the same name, another folder, no folder. Breaks if the key has code and cell alone."""
    seen = set()
    for folder, value in (("a", 0), ("a", 1), ("b", 2), ("a", 3), (None, 4)):
        if folder is None:
            monkeypatch.delenv("NNLIB_DATA")
        else:
            (tmp_path / folder).mkdir(exist_ok=True)
            images(tmp_path / folder, value)
            monkeypatch.setenv("NNLIB_DATA", str(tmp_path / folder))
        expected = load("mnist").train.x.mean().item()
        assert sweep(brightness, {"seed": [0]})["mean"][0] == expected == remembered()
        seen.add(expected)
    assert len(seen) == 5


# --- no place for a cache --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["in a file", "a file"])
def test_where_nothing_can_be_written_all_is_computed_and_one_warning_given(tmp_path, monkeypatch, place):
    """Breaks with the bare error of the file system, or with a warning for each cell."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("NNLIB_CACHE", str(tmp_path / "file" / "cache" if place == "in a file" else tmp_path / "file"))
    cache._warn_once.cache_clear()
    run = cell("def run(x): return {'y': 2 * x}")["run"]
    with pytest.warns(UserWarning, match="no answer is kept.*set NNLIB_CACHE") as told:
        assert sweep(run, {"x": [1, 2, 3]}).y.tolist() == [2, 4, 6]
        assert sweep(run, {"x": [1, 2, 3]}).y.tolist() == [2, 4, 6]
    assert len(told) == 1


def test_a_user_without_a_home_can_sweep(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("NNLIB_CACHE")
    monkeypatch.setattr(Path, "home", nowhere)
    cache._warn_once.cache_clear()
    with pytest.warns(UserWarning, match="Could not determine home directory"):
        assert sweep(lambda x: {"y": x}, {"x": [1]}).y[0] == 1


def test_a_read_only_home_is_told_by_the_process_that_has_it(tmp_path):
    """As a user who is not root would: the folder can't be made."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o500)
    script = "from tenpapers.runs import sweep\ndef f(x): return {'y': x}\nprint(sweep(f, {'x': [1, 2]}).y.tolist())"
    environment = {k: v for k, v in os.environ.items() if k != "NNLIB_CACHE"} | {"HOME": str(home)}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(cache.__file__).parents[2]), environment.get("PYTHONPATH", "")]
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1, 2]"


def test_a_cache_that_can_be_written_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.cache_folder() is not None
