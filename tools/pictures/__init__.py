"""Pictures and animations of ticks in bird's-eye view, and curves of precision over recall."""
