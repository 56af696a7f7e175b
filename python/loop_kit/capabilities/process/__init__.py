"""`loop:process`: programs of the host that a grant names."""
