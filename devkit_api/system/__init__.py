"""What the devkit says of itself: version, readiness, health."""
