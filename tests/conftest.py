"""What holds for all tests: one thread, no data and no records of this machine, a sweep cache that starts empty."""

import pytest
import torch
from hypothesis import settings

# The same inputs on every run; many more, and other ones each time, by --hypothesis-profile=long (make long).
settings.register_profile("short", max_examples=20, deadline=None, derandomize=True, database=None)
settings.register_profile("long", max_examples=1000, deadline=None, database=None)
settings.load_profile("short")


@pytest.fixture(autouse=True, scope="session")
def same_ground_for_all_tests(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NNLIB_DATA", "NNLIB_RESULTS"):
            patch.delenv(name, raising=False)
        patch.setenv("NNLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        torch.set_num_threads(1)
        yield
