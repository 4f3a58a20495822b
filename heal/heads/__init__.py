"""Detection heads by anchors or by centres: their layers, targets, losses and boxes behind one interface."""
