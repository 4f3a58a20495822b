"""Sensor encoders: from an agent's sensor data to a bird's-eye-view feature map. `table` and `agent_model` have the tables."""
