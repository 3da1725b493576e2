"""Objects: stores, addresses, the broker, inputs and artifacts."""
