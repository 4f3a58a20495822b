"""What sees a town: LiDARs and cameras, the colours of surfaces, the weather."""
