"""The record's file: plain JSON, replaced in one step, that reads back as what was put in."""

import json
import os

import numpy as np
import pytest
import torch

from tenpapers.runs.store import plain, read, replace


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("NNLIB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def test_what_was_never_recorded_reads_as_empty(results):
    assert read("demo") == {"chapter": "demo", "tables": {}, "probes": {}, "claims": {}} and not results.exists()


def test_written_file_reads_back_as_what_was_put_in(results):
    # Rows are folded to one line by a regular expression: strings with brackets, quotes and breaks must survive.
    nasty = ["a, [b", "]\n", '"[\\n 1,\\n 2]"', "{", "é", []]
    tables = {"t": {"laptop": {"rows": [[1, 2.5, None], nasty], "empty": []}}}
    with replace("demo") as content:
        content["tables"] = tables
    text = (results / "demo.json").read_text(encoding="utf-8")
    assert json.loads(text)["tables"] == tables == read("demo")["tables"]
    assert "[1, 2.5, null]" in text


def test_interrupted_write_leaves_the_old_record_whole(results, monkeypatch):
    with replace("demo") as content:
        content["tables"]["t"] = {"laptop": {"rows": [[1]]}}
    before = (results / "demo.json").read_bytes()

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(KeyboardInterrupt), replace("demo") as content:
            content["tables"].clear()
    with pytest.raises(ZeroDivisionError), replace("demo") as content:
        content["tables"]["t"] = 1 / 0
    assert (results / "demo.json").read_bytes() == before


def test_values_become_plain_json():
    value = {1: np.float32(0.5), "t": torch.tensor([1, 2]), "inf": float("inf"), "b": np.bool_(True), "r": range(2)}
    assert plain(value) == {"1": 0.5, "t": [1, 2], "inf": None, "b": True, "r": [0, 1]}
    assert type(plain(np.bool_(True))) is bool


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="a record holds numbers"):
        plain({"x": object()})
