"""`loop:netx`: HTTP, WebSockets, names, wRPC and gRPC, to servers that a grant names."""
