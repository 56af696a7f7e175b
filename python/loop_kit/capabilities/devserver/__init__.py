"""`loop:devserver`: a running workspace, as whoever looks after it sees it."""
