"""Every decoder of foreign bytes under a few damaged inputs, a thousand new ones nightly; `tests.long.fuzz` takes millions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.errors import UserError
from tests.long import campaign
from tests.long.campaign import MAKERS, MOST_S, Failure, Tally, tally, workplace
from tests.long.decoder import Decoder
from tests.long.mutations import MOST_BYTES, mutated_bytes, mutated_text
from tests.long.sealed_messages import mutated_message, mutated_sender, valid_messages

SLOW = {"config", "alliance-cards", "alliance-verify", "alliance-weights", *(name for name in MAKERS if name.startswith("node"))}
_NIGHTLY = settings().max_examples >= 1000
_MOST_FAST, _MOST_SLOW = (1000, 1000) if _NIGHTLY else (40, 3)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def made() -> Iterator[Callable[[str], Decoder]]:
    """Return a function that makes each decoder once."""
    decoders: dict[str, Decoder] = {}
    with ExitStack() as folders:

        def make(name: str) -> Decoder:
            if name not in decoders:
                decoders[name] = MAKERS[name](folders.enter_context(workplace()))
            return decoders[name]

        yield make


@pytest.mark.parametrize("name", MAKERS)
def test_valid_inputs_are_accepted(made: Callable[[str], Decoder], name: str) -> None:
    decoder = made(name)
    assert {decoder.take(data) for data in decoder.seeds} <= {"accepted", "used"}


def check(decoder: Decoder, number: int) -> None:
    """Take the input of a number; any error but the named one fails."""
    began = time.process_time()
    decoder.take(decoder.input("suite", number))
    assert time.process_time() - began < 5 * MOST_S  # far more than any input takes, on any machine


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in SLOW])
@given(number=st.integers(0, 2**62))
@settings(max_examples=_MOST_FAST)
def test_damaged_inputs_are_read_or_refused(made: Callable[[str], Decoder], name: str, number: int) -> None:
    check(made(name), number)


@pytest.mark.parametrize("name", sorted(SLOW))
@given(number=st.integers(0, 2**62))
@settings(max_examples=_MOST_SLOW)
def test_damaged_inputs_of_slow_decoders_are_read_or_refused(made: Callable[[str], Decoder], name: str, number: int) -> None:
    check(made(name), number)


def failing(data: bytes) -> str:
    """Break each of the rules for some inputs."""
    if data[0] == 1:
        raise UserError("named")
    if data[0] == 2:
        raise KeyError("another")
    if data[0] == 3:
        raise UserError
    if data[0] == 4:
        end = time.process_time() + 1.1 * MOST_S
        while time.process_time() < end:
            pass
    return "accepted"


def test_inputs_that_break_a_rule_are_found() -> None:
    decoder = Decoder(failing, UserError, [b"x"], lambda rng, seeds: seeds[0])
    inputs = [bytes([number]) for number in range(5)]
    found = tally(replace_input(decoder, inputs), "", range(5))
    assert found.taken == {"accepted": 1, "UserError": 1} and found.inputs == 5 and found.slowest_s > MOST_S
    assert [failure.index for failure in found.failures] == [2, 3, 4]
    problems = [failure.problem for failure in found.failures]
    assert "KeyError: 'another'" in problems[0] and "without a text" in problems[1] and problems[2].startswith("took 1.")
    total = Tally(failures=[Failure(9, "hangs")])
    total.add(found)
    assert [failure.index for failure in total.failures] == [9, 2, 3, 4] and total.inputs == 6


def breaking(data: bytes) -> str:
    """Do what no handler of errors in the process itself can answer."""
    if data[0] == 1:
        np.empty(1 << 30)  # 8 GiB: more than what the process that it is forked from has freed and kept
    if data[0] == 2:
        os._exit(3)
    if data[0] == 3:
        time.sleep(600)
    return "accepted"


def test_a_child_that_asks_for_memory_dies_or_hangs_is_found_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(breaking, UserError, [b"x"], lambda rng, seeds: seeds[0])
    inputs = [bytes([number]) for number in (0, 1, 2, 3, 4)]
    monkeypatch.setitem(MAKERS, "breaking", lambda folder: replace_input(decoder, inputs))
    monkeypatch.setattr(campaign, "HANG_S", 5.0)
    monkeypatch.setattr(campaign, "_CHUNK", 1)
    found = campaign.fuzz("breaking", "", len(inputs), 1)
    assert found.taken == {"accepted": 2} and [failure.index for failure in found.failures] == [1, 2, 3]
    assert "MemoryError" in found.failures[0].problem
    assert [failure.problem for failure in found.failures[1:]] == ["ends the process", "hangs for 5 s"]


def replace_input(decoder: Decoder, inputs: list[bytes]) -> Decoder:
    """Return a decoder that is given certain inputs."""

    class Given(Decoder):
        def input(self, seed: str, index: int) -> bytes:
            return inputs[index]

    return Given(decoder.decode, decoder.error, decoder.seeds, decoder.mutate)


@pytest.mark.parametrize("mutate", [mutated_bytes, mutated_text, mutated_message, mutated_sender])
def test_inputs_repeat_by_their_numbers_and_differ_from_each_other(mutate: Callable[..., bytes]) -> None:
    decoder = Decoder(failing, UserError, valid_messages(), mutate)
    made = [decoder.input("a", number) for number in range(50)]
    assert made == [decoder.input("a", number) for number in range(50)]
    assert len(set(made)) > 40 and decoder.input("b", 0) != made[0]
    assert max(map(len, made)) <= MOST_BYTES
