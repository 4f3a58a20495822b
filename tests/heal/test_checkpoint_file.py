"""Checkpoint files of torch: ordinary ones are read as torch reads them, and those that cost more than they hold are refused."""

from __future__ import annotations

import argparse
import struct
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from heal.checkpoint_file import read_checkpoint
from heal.config import ConfigError
from tests.long.checkpoints import rebuilt, rewritten, saved, tensor


def read(tmp_path: Path, data: bytes) -> Any:
    (tmp_path / "net.pth").write_bytes(data)
    return read_checkpoint(tmp_path / "net.pth")


@pytest.mark.parametrize("is_zip", [True, False])
def test_what_training_loops_store_is_read(tmp_path: Path, is_zip: bool) -> None:
    shared = torch.arange(12.0)
    weights = OrderedDict(whole=shared, part=shared[2:8:2], turned=shared.view(3, 4).T, half=torch.ones(2, 2).half())
    weights |= {"empty": torch.zeros(0, 5), "scalar": torch.tensor(7), "flag": torch.tensor([True])}
    content = {
        "model": weights,
        "module": nn.BatchNorm1d(3).state_dict(),
        "parameter": nn.Parameter(torch.ones(3)),
        "milestones": Counter({10: 1, 25: 2}),
        "options": argparse.Namespace(lr=0.1, out=Path("runs")),
        "numbers": [np.float64(0.5), np.int64(3), np.bool_(True)],
        "others": (torch.Size([1, 2]), torch.device("cuda:0"), torch.float16, {1, 2}, 1 << 70, None, True, 1 + 2j, "ü", ()),
    }
    read_back = read(tmp_path, saved(content, is_zip=is_zip))
    assert repr(read_back) == repr(content) and list(read_back) == list(content)


def test_a_network_with_tied_weights_is_read(tmp_path: Path) -> None:
    state = {f"layer{number}.weight": shared for shared in [torch.ones(64, 64)] for number in range(4)}
    assert len(read(tmp_path, saved(state))) == 4


PLAIN = saved({"w": torch.arange(8.0)})
BOMBS = {
    "more numbers than there are": tensor(10**8, 0, [10**8], [1]),
    "a tensor beyond its numbers": tensor(8, 4, [5], [1]),
    "a tensor before its numbers": tensor(8, -4, [2], [1]),
    "backward": tensor(8, 7, [2], [-1]),
    "expanded": tensor(8, 0, [10**12], [0]),
    "array of a length": b"cbuiltins\nbytearray\nJ\0\0\0\x3f\x85R",
    "tensor of a length": b"ctorch\nFloatTensor\nJ\0\0\0\x3f\x85R",
    "encoding that doubles": b"c_codecs\nencode\nX\x02\0\0\0abX\x0e\0\0\0unicode_escape\x86R",
    "nested key": b"}" + b")" + b"\x85" * 100_000 + b"K\1s",
    "count of nested keys": b"ccollections\nCounter\n]" + b")" + b"\x85" * 100_000 + b"a\x85R",
    "very many dimensions": tensor(8, 0, [2**62] * 20_000, [1] * 20_000),
    "lists of lists": b"]q\1" + b"".join(b"](h%ch%ce" % (n, n) + b"q" + bytes([n + 1]) for n in range(1, 60)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_description_that_costs_more_than_the_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"net\.pth: (damaged|not a file of weights alone)") as refused:
        read(tmp_path, rebuilt(PLAIN, b"\x80\x02}X\1\0\0\0w" + BOMBS[name] + b"s."))
    assert len(str(refused.value).splitlines()) == 1


def test_many_tensors_of_the_same_numbers_are_refused(tmp_path: Path) -> None:
    repeated = b"(" + tensor(50_000, 0, [50_000], [1]) * 20 + b"t"
    with pytest.raises(ConfigError, match="its tensors are far larger than the file"):
        read(tmp_path, rebuilt(saved({"w": torch.ones(50_000)}), b"\x80\x02}X\1\0\0\0w" + repeated + b"s."))


def test_entries_that_are_compressed_or_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got compressed ones"):
        read(tmp_path, rewritten(PLAIN, lambda _, content: content, zipfile.ZIP_DEFLATED))
    data = bytearray(PLAIN)
    entry = data.rfind(b"PK\1\2")
    struct.pack_into("<2I", data, entry + 20, 1 << 31, 1 << 31)
    with pytest.raises(ConfigError, match="claim more than"):
        read(tmp_path, bytes(data))


def test_a_valid_file_that_is_built_anew_is_read(tmp_path: Path) -> None:
    """What the other tests change is all that is wrong with their files."""
    made = read(tmp_path, rebuilt(PLAIN, b"\x80\x02}X\1\0\0\0w" + tensor(8, 2, [3], [2]) + b"s."))
    assert made["w"].tolist() == [2, 4, 6]
