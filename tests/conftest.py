"""Settings of the whole suite."""

import torch

# Small tensors gain nothing from more threads, and several processes on few cores lose tenfold.
torch.set_num_threads(1)
