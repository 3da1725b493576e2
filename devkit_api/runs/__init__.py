"""Module runs: the model, its states, the service, logs and results."""
