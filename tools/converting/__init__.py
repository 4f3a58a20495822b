"""`heal convert`: any data set, or bags of ROS 2, to OPV2V's layout or to bags; any data set to a cache."""
