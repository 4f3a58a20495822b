"""The costs behind `heal profile`: parameters, operations, bytes, memory and throughput of an alliance's networks."""
