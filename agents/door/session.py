"""A session of Zenoh: as the door that listens, or as an agent that connects to one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from heal.agents.door.options import DoorOptions
from heal.errors import UserError, require_package

# Zenoh itself drops what is longer than so many times the longest message; up to then the door counts it as too long.
_ROOM = 2
_SESSIONS_PER_AGENT = 4


def open_door(options: DoorOptions) -> Any:
    """Open the session of a door.

    Without a configuration file the door tells nobody of anybody else. It lets messages of agents in and the clock out, and nothing
    else: an agent reads no other agent's messages, and tells no other agent the time.

    Raises:
        UserError: Zenoh is not installed, its configuration is wrong, or the endpoint is taken.
    """
    require_package("zenoh", "door", "a door for agents of other processes")
    settings: dict[str, Any] = {
        "mode": "peer",
        "listen/endpoints": [options.listen],
        "transport/link/rx/max_message_size": _ROOM * options.most_message_bytes,
        "transport/unicast/max_sessions": _SESSIONS_PER_AGENT * options.most_agents,
        "access_control": _access(),
    }
    return _open(settings, options.zenoh_config, f"listen on {options.listen}")


def connect(endpoint: str, zenoh_config: str | None = None) -> Any:
    """Open the session of an agent; while no door is there, it is tried again.

    Raises:
        UserError: Zenoh is not installed, or its configuration is wrong.
    """
    require_package("zenoh", "door", "an agent that connects to a run")
    # As a client of Zenoh, an agent would stand still until the door opens; as a peer it goes on, and can give up.
    settings = {
        "mode": "peer",
        "listen/endpoints": [],
        "connect/endpoints": [endpoint],
        "connect/timeout_ms": -1,
        "connect/exit_on_failure": False,
        "connect/retry": {"period_init_ms": 200, "period_max_ms": 1000, "period_increase_factor": 2},
    }
    return _open(settings, zenoh_config, f"connect to {endpoint}")


def _open(settings: dict[str, Any], zenoh_config: str | None, purpose: str) -> Any:
    """Open a session with these settings, or with those of a configuration file in their place."""
    import zenoh

    zenoh.init_log_from_env_or("error")
    # Bytes cross the door, and no memory is shared with a stranger; a sender that is killed would leave it behind, too.
    alone = {"scouting/multicast/enabled": False, "scouting/gossip/enabled": False, "transport/shared_memory/enabled": False}
    try:
        config = zenoh.Config() if zenoh_config is None else zenoh.Config.from_file(Path(zenoh_config))
        for key, value in ({**alone, **settings} if zenoh_config is None else {}).items():
            config.insert_json5(key, json.dumps(value))
        return zenoh.open(config)
    except zenoh.ZError as error:
        raise UserError(f"Zenoh cannot {purpose}: {str(error).partition(' at /')[0]}") from error


def _access() -> dict[str, Any]:
    """Return Zenoh's rules of access for a door. Topics of agents are not narrowed further, so that the door counts wrong ones."""
    agents, clock = ["heal/*/agent/**"], ["heal/*/clock"]
    rules = [
        {"id": "messages", "permission": "allow", "flows": ["ingress"], "messages": ["put"], "key_exprs": agents},
        {"id": "asked", "permission": "allow", "flows": ["egress"], "messages": ["declare_subscriber"], "key_exprs": agents},
        {"id": "time", "permission": "allow", "flows": ["egress"], "messages": ["put"], "key_exprs": clock},
        {"id": "listeners", "permission": "allow", "flows": ["ingress"], "messages": ["declare_subscriber"], "key_exprs": clock},
    ]
    policies = [{"rules": [rule["id"] for rule in rules], "subjects": ["anybody"]}]
    subjects = [{"id": "anybody"}]
    return {"enabled": True, "default_permission": "deny", "rules": rules, "subjects": subjects, "policies": policies}
