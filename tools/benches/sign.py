"""What identity costs: signing and verifying an agent's message, beside the agent's step that makes the message."""

from __future__ import annotations

from time import time_ns

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.options import RunOptions
from heal.alliance import load_alliance
from heal.identity.envelope import ENVELOPE_BYTES, Envelope, seal
from heal.identity.keys import public_key_of
from heal.message.codec import FLOAT32, Codec
from heal.tools.benches.measure import BenchRow, timed
from heal.tools.benches.runtime import town
from heal.tools.benches.setup import BenchSetup, torch_threads
from heal.tools.shared.type_argument import base_type

# The demo's map takes 2.1 MB as float32.
CODECS = (FLOAT32, Codec("int8", zstd=True))


def bench_sign(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench sign`: messages of an agent of the alliance in two codecs."""
    with torch_threads(1):
        alliance, source = load_alliance(setup.alliance).for_inference(), town(1, 1)
        host = AgentHost(AgentSetup.of(alliance, base_type(alliance), source, RunOptions()))
        agent_id = source.outline(0).ego_id
        return [row for codec in CODECS for row in _rows(setup, host, AgentRequest(0, agent_id, codec))]


def _rows(setup: BenchSetup, host: AgentHost, request: AgentRequest) -> list[BenchRow]:
    """Time an agent's step, and signing and verifying the message that it makes."""
    [(message, _)] = host.step([request])
    key, now_ns = Ed25519PrivateKey.generate(), time_ns()
    public, sealed = public_key_of(key), seal(message, key, now_ns, now_ns)
    calls = (
        lambda: host.step([request]),
        lambda: seal(message, key, now_ns, now_ns),
        lambda: Envelope.of(sealed).is_signed_by(public),
    )
    step, sign, verify = timed(*calls, repeats=3 * setup.repeats)
    size = f"{len(message)} bytes and {ENVELOPE_BYTES} of envelope"
    return [
        BenchRow.of(f"sign/step-{request.codec}", step, "an agent's step: sense, encode, pack"),
        BenchRow.of(f"sign/sign-{request.codec}", sign, f"{size}, {sign.seconds / step.seconds:.2%} of the step"),
        BenchRow.of(f"sign/verify-{request.codec}", verify, f"{verify.seconds / step.seconds:.2%} of the step"),
    ]
