"""Uploads in parts, as `hla-compass data uploads` makes them: resumable, verified, and then inputs of runs."""
