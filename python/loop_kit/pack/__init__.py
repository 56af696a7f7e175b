"""Packages: what becomes of a component or a provider when it is shipped, and back again."""
