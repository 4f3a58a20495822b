"""The network between the agents and the fusion node: links, shared media, recorded traces and rate control."""
