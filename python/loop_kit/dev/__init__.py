"""What looks after a running workspace: its control plane, and the loop of changing code."""
