"""V2X-Sim 2.0: its nuScenes-style tables, the index of what is recorded and labelled, and the source of scenes."""
