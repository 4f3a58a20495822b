"""CooperScene: three vehicles and a roadside unit on real roads, in OPV2V's layout, with the measurements of their radios."""
