"""OCI artifacts: their documents, layouts on disk, and registries."""
