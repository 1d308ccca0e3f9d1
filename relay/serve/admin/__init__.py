"""The operator's API on `/admin`: the reference relay's routes, and what commands and dashboard need besides."""
