"""Settings of the whole suite."""

import torch
from hypothesis import settings

# Small tensors gain nothing from more threads, and several processes on few cores lose tenfold.
torch.set_num_threads(1)

# The same examples in every run, and no limit on the time of one: a busy machine is no failure.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")
