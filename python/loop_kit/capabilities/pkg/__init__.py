"""`loop:pkg`: where tools come from; a resolver tells what there is, and the host fetches, checks and unpacks it."""
