"""What messages cross on their way to the fusion node: links, shared media, recorded traces, rate control."""
