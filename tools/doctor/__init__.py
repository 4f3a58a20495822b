"""`heal doctor`: the scenes of a data set in several processes, the report, the configurations that can run, links in place."""
