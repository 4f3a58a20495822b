"""V2X-Real: vehicles and roadside units at a real crossing, in OPV2V's layout."""
