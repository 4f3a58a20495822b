"""Sensor encoders: from an agent's sensor data to a bird's-eye-view feature map. `agent_model` has the table of all encoders."""
