"""Where providers run: one module a placement, each turning a manifest's or a program's words into a provider."""
